import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { isOrionError } from '#core/errors.ts';
import type { HttpContext } from './context.ts';
import { closeAfterAnswer } from './early-close.ts';
import { HttpProblem, PROBLEM_MEDIA_TYPE, type ProblemName, problemOfError } from './problem.ts';

/** What Fastify's own refusals are called here, by their status. */
const BY_STATUS: Readonly<Record<number, ProblemName>> = {
  400: 'invalid-request',
  404: 'not-found',
  408: 'request-timeout',
  413: 'too-large',
  415: 'media-type',
  431: 'headers-too-large',
};

/** Errors of every route become RFC 9457 documents. */
export function problemAnswers(app: FastifyInstance, context: HttpContext): void {
  app.setErrorHandler((error: unknown, request, reply) => {
    const problem = problemOf(error);
    if (problem.status >= 500) {
      context.log.warn({ err: error, method: request.method, url: request.url }, problem.message);
    }
    return answer(context, request, reply, problem);
  });
  app.setNotFoundHandler((request, reply) => {
    const allowed = allowedMethods(request.url.split('?')[0]!);
    const problem =
      allowed.size === 0
        ? new HttpProblem('not-found')
        : new HttpProblem('method-not-allowed', { headers: { allow: [...allowed].join(', ') } });
    return answer(context, request, reply, problem);
  });
  const allowedMethods = routeTable(app);
}

function answer(
  context: HttpContext,
  request: FastifyRequest,
  reply: FastifyReply,
  problem: HttpProblem,
): FastifyReply {
  closeAfterAnswer(request.raw, reply.raw, context.clock);
  return reply
    .code(problem.status)
    .headers(problem.headers)
    .type(PROBLEM_MEDIA_TYPE)
    .send(Buffer.from(JSON.stringify(problem.document())));
}

function problemOf(error: unknown): HttpProblem {
  if (error instanceof HttpProblem || isOrionError(error)) return problemOfError(error);
  const { statusCode, message } = error as Partial<FastifyError>;
  const name = statusCode === undefined ? undefined : BY_STATUS[statusCode];
  if (name === undefined) return problemOfError(error);
  return new HttpProblem(name, message === undefined ? {} : { detail: message });
}

/** Which methods a path has, to tell a wrong method from a wrong path. */
function routeTable(app: FastifyInstance): (path: string) => Set<string> {
  const routes: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = [];
  app.addHook('onRoute', ({ url, method }) => {
    const pattern = new RegExp(`^${url.replaceAll('.', '\\.').replaceAll(/:[^/]+/g, '[^/]+')}$`);
    routes.push({ pattern, methods: [method].flat() });
  });
  return (path) =>
    new Set(routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods));
}

/** Answers what is not even HTTP, and requests that came too slowly. */
export function answerBrokenClient(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const name: ProblemName =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? 'headers-too-large'
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? 'request-timeout'
        : 'invalid-request';
  const problem = new HttpProblem(name);
  const body = JSON.stringify(problem.document());
  const head = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    `Content-Type: ${PROBLEM_MEDIA_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}
