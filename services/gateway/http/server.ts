import type { IncomingMessage, Server } from 'node:http';
import swagger from '@fastify/swagger';
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import type { Clock, Timer } from '#core/clock.ts';
import type { Logger } from '#telemetry/log.ts';
import type { MetricsRegistry } from '#telemetry/metrics.ts';
import type { TraceSampler } from '#telemetry/traces.ts';
import type { BufferPool } from '#wire/buffer-pool.ts';
import { answerBrokenClient, problemAnswers } from './answers.ts';
import type { HttpContext } from './context.ts';
import { createHttpMetrics } from './http-metrics.ts';
import { DEFAULT_LIMITS, type HttpLimits } from './limits.ts';
import { openApiOptions } from './openapi.ts';
import { HttpProblem } from './problem.ts';
import { dataRoutes } from './routes-data.ts';
import { nodeRoutes } from './routes-node.ts';
import { volumeRoutes } from './routes-volumes.ts';
import type { Readiness, VolumeDirectory } from './volumes.ts';

export interface HttpServerOptions {
  readonly volumes: VolumeDirectory;
  readonly pool: BufferPool;
  readonly clock: Clock;
  /** Where the server adds its own numbers, and what /metrics shows. */
  readonly metrics: MetricsRegistry;
  readonly log: Logger;
  readonly readiness: () => Readiness;
  readonly status: () => Promise<unknown>;
  /** Of the program, for the index and the API document. */
  readonly version: string;
  /** Traces data requests when given. */
  readonly sampler?: TraceSampler;
  readonly limits?: Partial<HttpLimits>;
}

/** Status in metrics of a request whose client left before the answer. */
const CLIENT_LEFT = 499;

/** How often Node looks for connections whose headers are late. */
const HEADERS_CHECK_MS = 1000;

/** The HTTP door of a gateway. `listenHttp` opens it; `close()` lets requests finish for a while. */
export function createHttpServer(options: HttpServerOptions): FastifyInstance {
  const limits: HttpLimits = { ...DEFAULT_LIMITS, ...options.limits };
  const app: FastifyInstance = Fastify({
    logger: false,
    bodyLimit: limits.jsonBytesMax,
    keepAliveTimeout: limits.keepAliveMs,
    // Uploads may take any time; `bodyMs` and the byte-rate floor stand in for it.
    requestTimeout: 0,
    http: {
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.headersMs,
      connectionsCheckingInterval: HEADERS_CHECK_MS,
    },
    clientErrorHandler: answerBrokenClient,
    ajv: { customOptions: { removeAdditional: false, coerceTypes: true } },
  });
  app.server.maxConnections = limits.connectionsMax;
  const context: HttpContext = {
    volumes: options.volumes,
    pool: options.pool,
    clock: options.clock,
    log: options.log,
    limits,
    metrics: createHttpMetrics(options.metrics, app.server),
    sampler: options.sampler ?? null,
    scrape: () => options.metrics.prometheus(),
    readiness: options.readiness,
    status: options.status,
  };
  requestHooks(app, context);
  continueHooks(app);
  closeInTime(app, context);
  problemAnswers(app, context);
  void app.register(swagger, openApiOptions(options.version));
  void app.register((scope, _options, done) => {
    nodeRoutes(scope, context, options.version);
    volumeRoutes(scope, context);
    dataRoutes(scope, context);
    done();
  });
  return app;
}

function requestHooks(app: FastifyInstance, context: HttpContext): void {
  const { clock, limits, log, metrics } = context;
  app.decorateRequest('startMs', 0);
  app.decorateRequest('cutStatus', null);
  app.addHook('onRequest', (request, reply, done) => {
    request.startMs = clock.nowMs();
    reply.raw.once('close', () => {
      const left = reply.raw.writableFinished ? reply.raw.statusCode : CLIENT_LEFT;
      const status = request.cutStatus ?? left;
      const ms = clock.nowMs() - request.startMs;
      metrics.finished(request.routeOptions.config.op ?? 'none', status, ms / 1000);
      log.debug({ method: request.method, url: request.url, status, ms }, 'http request');
    });
    done();
  });
  // A body that is parsed whole has to arrive in time; one that is streamed is watched by its handler.
  const late = new WeakMap<FastifyRequest, Timer>();
  app.addHook('preParsing', (request, _reply, payload, done) => {
    if (hasBody(request) && !request.routeOptions.config.streamsBody) {
      const answerLate = (): void => {
        // Without a listener, parsing has ended in another way.
        if (payload.listenerCount('error') === 0) return;
        payload.emit('error', new HttpProblem('request-timeout'));
      };
      late.set(request, clock.after(limits.bodyMs, answerLate));
    }
    done(null, payload);
  });
  app.addHook('preValidation', (request, _reply, done) => {
    late.get(request)?.cancel();
    done();
  });
  app.addHook('onError', (request, _reply, _error, done) => {
    late.get(request)?.cancel();
    done();
  });
}

function hasBody({ headers }: FastifyRequest): boolean {
  return Number(headers['content-length'] ?? 0) > 0 || headers['transfer-encoding'] !== undefined;
}

/** "100 Continue" is sent when a request has passed its checks, not before as Node would (RFC 9110 section 10.1.1). */
function continueHooks(app: FastifyInstance): void {
  const server = app.server as Server;
  const expecting = new WeakSet<IncomingMessage>();
  server.on('checkContinue', (request, response) => {
    expecting.add(request);
    server.emit('request', request, response);
  });
  app.decorateRequest('expectsContinue', false);
  app.addHook('preParsing', (request, reply, payload, done) => {
    request.expectsContinue = expecting.has(request.raw);
    if (request.expectsContinue && !request.routeOptions.config.streamsBody) {
      reply.raw.writeContinue();
    }
    done(null, payload);
  });
}

/** close() waits for requests under way; this is how long. */
function closeInTime(app: FastifyInstance, context: HttpContext): void {
  let cut: Timer | null = null;
  app.addHook('preClose', (done) => {
    cut = context.clock.after(context.limits.closeGraceMs, () => app.server.closeAllConnections());
    done();
  });
  app.addHook('onClose', (_instance, done) => {
    cut?.cancel();
    done();
  });
}
