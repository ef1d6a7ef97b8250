import type { FastifyRequest } from 'fastify';
import type { Clock } from '#core/clock.ts';
import type { Logger } from '#telemetry/log.ts';
import type { TraceSampler } from '#telemetry/traces.ts';
import type { BufferPool } from '#wire/buffer-pool.ts';
import type { HttpMetrics } from './http-metrics.ts';
import type { HttpLimits } from './limits.ts';
import { HttpProblem } from './problem.ts';
import type { Readiness, VolumeDirectory, VolumeHandle } from './volumes.ts';

/** What the routes share. */
export interface HttpContext {
  readonly volumes: VolumeDirectory;
  readonly pool: BufferPool;
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: HttpLimits;
  readonly metrics: HttpMetrics;
  readonly sampler: TraceSampler | null;
  /** Text of /metrics. */
  readonly scrape: () => string;
  readonly readiness: () => Readiness;
  readonly status: () => Promise<unknown>;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Name of the operation in metrics: "data.read". */
    op?: string;
    /** The handler reads the body itself, and says when the client may send it. */
    streamsBody?: boolean;
  }
  interface FastifyRequest {
    startMs: number;
    /** The client waits for "100 Continue" before it sends the body. */
    expectsContinue: boolean;
    /** What metrics say of a request whose answer was cut off; null: the status of the answer. */
    cutStatus: number | null;
  }
}

export function volumeOf(context: HttpContext, name: string): VolumeHandle {
  const volume = context.volumes.get(name);
  if (volume !== undefined) return volume;
  const problem = context.volumes.isStarting(name) ? 'volume-starting' : 'volume-not-found';
  throw new HttpProblem(problem, { fields: { volume: name } });
}

/** "http:127.0.0.1:4242" */
export function clientOf(request: FastifyRequest): string {
  const { remoteAddress, remotePort } = request.socket;
  return remoteAddress === undefined ? 'http:unix' : `http:${remoteAddress}:${remotePort}`;
}

/** What the client wants one device I/O to take at the most, from its Request-Timeout header (seconds). */
export function ioTimeoutMs(request: FastifyRequest, limits: HttpLimits): number {
  const header = request.headers['request-timeout'];
  if (header === undefined) return limits.ioTimeoutMs;
  if (typeof header !== 'string' || !/^\d{1,6}(\.\d{1,3})?$/.test(header) || Number(header) === 0) {
    throw new HttpProblem('bad-timeout');
  }
  return Math.min(Number(header) * 1000, limits.ioTimeoutMsMax);
}
