import type { FastifyReply, FastifyRequest } from 'fastify';
import type { IoContext } from '#block/device.ts';
import { errorText } from '#core/errors.ts';
import { OpenSpan, openSpan } from '#core/trace-channels.ts';
import { parseTraceparent } from '#telemetry/traces.ts';
import { ClientWatch } from './client-watch.ts';
import { clientOf, type HttpContext, ioTimeoutMs, volumeOf } from './context.ts';
import { HttpProblem, problemOfError } from './problem.ts';
import type { ByteRange } from './range.ts';
import type { VolumeHandle } from './volumes.ts';

/** A request that moves blocks, with what its handling needs. */
export interface DataRequest {
  readonly context: HttpContext;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly volume: VolumeHandle;
  readonly watch: ClientWatch;
  /** Context of the next I/O: each gets a deadline of its own, however long the stream is. */
  readonly io: () => IoContext;
  /** Set as soon as it is known, for problem documents. */
  range: ByteRange | null;
}

/**
 * Runs `handle` for one data request: within the bound of concurrent ones, watched, traced when sampled, and with its
 * errors made into problems that name the volume and the range.
 */
export async function withDataRequest(
  context: HttpContext,
  request: FastifyRequest,
  reply: FastifyReply,
  name: string,
  handle: (data: DataRequest) => Promise<void>,
): Promise<void> {
  const { clock, limits, metrics } = context;
  const volume = volumeOf(context, name);
  const timeoutMs = ioTimeoutMs(request, limits);
  if (metrics.inflight.value >= limits.dataRequestsMax) {
    throw new HttpProblem('busy', { fields: { volume: name } });
  }
  metrics.inflight.value += 1;
  const watch = new ClientWatch(request.raw, clock, limits);
  const span = startSpan(context, request);
  const shared = {
    client: clientOf(request),
    ...(request.method === 'GET' ? { signal: watch.signal } : {}),
    ...(span === undefined ? {} : { trace: span }),
  };
  const io = (): IoContext => ({ ...shared, deadlineMs: clock.nowMs() + timeoutMs });
  const data: DataRequest = { context, request, reply, volume, watch, io, range: null };
  let failure: unknown;
  try {
    await handle(data);
  } catch (error) {
    failure = error;
    if (!reply.sent && !watch.gone) {
      throw problemOfError(error, { volume: name, ...data.range });
    }
    // Nobody can be told any more. fastify must not try: the answer is ours from here on.
    reply.hijack();
    const how = watch.stalled ? 'client moved too little' : reply.raw.headersSent ? 'cut' : 'left';
    context.log.info(
      {
        volume: name,
        client: shared.client,
        method: request.method,
        ...data.range,
        how,
        err: error,
      },
      'data request ended early',
    );
  } finally {
    metrics.inflight.value -= 1;
    watch.close();
    const attributes = { volume: name, client: shared.client, ...data.range };
    span?.end(clock.nowMs(), attributes, failure === undefined ? undefined : errorText(failure));
  }
}

function startSpan(context: HttpContext, request: FastifyRequest): OpenSpan | undefined {
  if (context.sampler === null) return undefined;
  const name = `http ${request.method} /data`;
  const startMs = request.startMs;
  const header = request.headers.traceparent;
  const caller = parseTraceparent(typeof header === 'string' ? header : undefined);
  if (caller !== undefined) return openSpan(name, caller, startMs);
  const root = context.sampler.sample();
  return root && new OpenSpan(name, { ...root, parentSpanId: '' }, startMs);
}
