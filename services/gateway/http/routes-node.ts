import type { FastifyInstance } from 'fastify';
import { Type as T } from 'typebox';
import type { HttpContext } from './context.ts';
import { contentResponse, Index, problemResponses, ReadyQuery, ReadyReport } from './schemas.ts';

const TEXT = 'text/plain';
const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
const TAGS = ['node'];

/** What a process says of itself: the index, status, health, metrics and the API document. */
export function nodeRoutes(app: FastifyInstance, context: HttpContext, version: string): void {
  app.get(
    '/',
    {
      config: { op: 'index' },
      schema: { tags: TAGS, summary: 'Where everything is', response: { 200: Index } },
    },
    async () => ({
      name: 'orion-iscsi',
      version,
      links: {
        volumes: '/v1/volumes',
        status: '/v1/status',
        openapi: '/openapi.json',
        live: '/livez',
        ready: '/readyz?verbose',
        metrics: '/metrics',
      },
    }),
  );

  app.get(
    '/v1/status',
    {
      config: { op: 'status' },
      schema: {
        tags: TAGS,
        summary: 'Processes, sessions, paths and volumes',
        response: {
          200: T.Object({}, { additionalProperties: true }),
          ...problemResponses,
        },
      },
    },
    () => context.status(),
  );

  app.get(
    '/livez',
    {
      config: { op: 'livez' },
      schema: {
        tags: TAGS,
        summary: 'The process answers',
        response: { 200: contentResponse('Alive', TEXT, { type: 'string' }) },
      },
    },
    async (_request, reply) => reply.type(TEXT).send('ok\n'),
  );

  app.get<{ Querystring: { verbose?: string } }>(
    '/readyz',
    {
      config: { op: 'readyz' },
      schema: {
        tags: TAGS,
        summary: 'This gateway can serve',
        querystring: ReadyQuery,
        response: { 200: ReadyReport, 503: ReadyReport },
      },
    },
    async (request, reply) => {
      const { ready, checks } = context.readiness();
      reply.code(ready ? 200 : 503);
      return { ready, checks: request.query.verbose === undefined ? failedOnly(checks) : checks };
    },
  );

  app.get(
    '/metrics',
    {
      config: { op: 'metrics' },
      schema: {
        tags: TAGS,
        summary: 'Prometheus text exposition',
        response: { 200: contentResponse('Every metric', TEXT, { type: 'string' }) },
      },
    },
    async (_request, reply) => reply.type(METRICS_TYPE).send(context.scrape()),
  );

  app.get('/openapi.json', { config: { op: 'openapi' }, schema: { hide: true } }, async () =>
    app.swagger(),
  );
}

function failedOnly<C extends { readonly ok: boolean }>(checks: readonly C[]): C[] {
  return checks.filter(({ ok }) => !ok);
}
