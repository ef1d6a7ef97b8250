import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type HrTime, SpanKind, SpanStatusCode, TraceFlags } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { type Resource, resourceFromAttributes } from '@opentelemetry/resources';
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-node';
import type { Clock } from '../core/clock.ts';
import { hexId, type Rng } from '../core/rng.ts';
import { SPAN_CHANNEL, type SpanIdentity, type SpanRecord } from '../core/trace-channels.ts';
import { telemetryErrors } from './errors.ts';

/** Spans that wait for the collector; more are dropped, because tracing never holds up I/O. */
const SPANS_WAITING_MAX = 4096;
const BATCH_SPANS = 512;
const BATCH_DELAY_MS = 1000;
const EXPORT_TIMEOUT_MS = 10_000;

/** How far the dates of spans may be from the wall clock: more than its own step of 1 ms. */
const WALL_DRIFT_MS_MAX = 2;

/** Two clocks that are read further apart, as the process was interrupted in between, say nothing about each other. */
const READ_MS_MAX = 0.25;
const FIRST_LOOKS = 8;

export interface TracingOptions {
  /** Base URL of an OTLP collector, "http://127.0.0.1:4318". Empty: tracing is off. */
  readonly endpoint: string;
  readonly service: string;
  /** Resource attributes: node, process id and so on. */
  readonly resource?: Readonly<Record<string, string | number>>;
  readonly clock: Clock;
  /** Longest a span waits before it is sent. */
  readonly batchDelayMs?: number;
}

/** Exports the sampled spans of this process. Started once by each service. */
export interface Tracing {
  readonly enabled: boolean;
  /** Sends what waits; resolves when the collector has it, and also when it refused. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

const OFF: Tracing = {
  enabled: false,
  flush: () => Promise.resolve(),
  close: () => Promise.resolve(),
};

export function startTracing(options: TracingOptions): Tracing {
  if (options.endpoint === '') return OFF;
  const exporter = new OTLPTraceExporter({
    url: tracesUrl(options.endpoint),
    timeoutMillis: EXPORT_TIMEOUT_MS,
  });
  const processor: SpanProcessor = new BatchSpanProcessor(exporter, {
    maxQueueSize: SPANS_WAITING_MAX,
    maxExportBatchSize: BATCH_SPANS,
    scheduledDelayMillis: options.batchDelayMs ?? BATCH_DELAY_MS,
    exportTimeoutMillis: EXPORT_TIMEOUT_MS,
  });
  const resource = resourceFromAttributes({
    'service.name': options.service,
    ...options.resource,
  });
  const wallOffset = followWall(options.clock);
  const onSpan = (message: unknown): void => {
    processor.onEnd(readableSpan(message as SpanRecord, wallOffset(), resource));
  };
  subscribe(SPAN_CHANNEL, onSpan);
  // A collector that is away is reported through the OpenTelemetry diagnostics logger; it is no failure of ours.
  const settle = (done: Promise<void>): Promise<void> => done.catch(() => undefined);
  return {
    enabled: true,
    flush: () => settle(processor.forceFlush()),
    close() {
      unsubscribe(SPAN_CHANNEL, onSpan);
      return settle(processor.shutdown());
    },
  };
}

/**
 * What is to be added to monotonic time for the date. The wall clock tells whole milliseconds, so the difference is never
 * the same twice: spans of one trace that each took their own would begin before what caused them. It is kept until the
 * wall clock has been set, or has drifted.
 */
function followWall(clock: Clock): () => number {
  let kept = readWall(clock);
  for (let i = 1; i < FIRST_LOOKS && kept.readMs > READ_MS_MAX; i++) kept = readWall(clock);
  return () => {
    const read = readWall(clock);
    const sure = read.readMs <= READ_MS_MAX;
    if (sure && Math.abs(read.offsetMs - kept.offsetMs) > WALL_DRIFT_MS_MAX) kept = read;
    return kept.offsetMs;
  };
}

/** `readMs`: how long that took, by which it may be wrong. */
function readWall(clock: Clock): { readonly offsetMs: number; readonly readMs: number } {
  const beforeMs = clock.nowMs();
  const wallMs = clock.wallMs();
  const afterMs = clock.nowMs();
  return { offsetMs: wallMs - afterMs, readMs: afterMs - beforeMs };
}

function tracesUrl(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : null;
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw telemetryErrors.make('TELEMETRY_ENDPOINT', { fields: { endpoint } });
  }
  if (!url.pathname.endsWith('/v1/traces')) {
    url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/traces`;
  }
  return url.href;
}

/** A record of ours as OpenTelemetry's exporters want it. */
function readableSpan(record: SpanRecord, wallOffsetMs: number, resource: Resource): ReadableSpan {
  const spanContext = (spanId: string) => ({
    traceId: record.traceId,
    spanId,
    traceFlags: TraceFlags.SAMPLED,
  });
  const own = spanContext(record.spanId);
  return {
    name: record.name,
    kind: record.parentSpanId === '' ? SpanKind.SERVER : SpanKind.INTERNAL,
    spanContext: () => own,
    ...(record.parentSpanId === '' ? {} : { parentSpanContext: spanContext(record.parentSpanId) }),
    startTime: hrTime(record.startMs + wallOffsetMs),
    endTime: hrTime(record.endMs + wallOffsetMs),
    duration: hrTime(record.endMs - record.startMs),
    status:
      record.error === undefined
        ? { code: SpanStatusCode.UNSET }
        : { code: SpanStatusCode.ERROR, message: record.error },
    attributes: { ...record.attributes },
    links: [],
    events: [],
    ended: true,
    resource,
    instrumentationScope: { name: 'orion-iscsi' },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}

/** Decides which requests are traced. */
export interface TraceSampler {
  /** Undefined for nearly every request, and then it costs a decrement. */
  sample(): SpanIdentity | undefined;
}

const NEVER: TraceSampler = { sample: () => undefined };

/**
 * Samples the given ratio of requests. The distance to the next sampled request is drawn at random (geometric), so that
 * a periodic load is not always hit at the same phase; between them there is only a countdown.
 */
export function createSampler(ratio: number, rng: Rng): TraceSampler {
  if (!(ratio > 0)) return NEVER;
  const gap = (): number =>
    ratio >= 1 ? 1 : 1 + Math.floor(Math.log(1 - rng.float()) / Math.log(1 - ratio));
  let left = gap();
  return {
    sample() {
      left -= 1;
      if (left > 0) return undefined;
      left = gap();
      return { traceId: hexId(rng, 16), spanId: hexId(rng, 8) };
    },
  };
}

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/** The caller's span, when its `traceparent` header (W3C trace context, section 3.2) says that it is sampled. */
export function parseTraceparent(header: string | undefined): SpanIdentity | undefined {
  const match = header === undefined ? null : TRACEPARENT.exec(header);
  if (match === null) return undefined;
  const [, traceId, spanId, flags] = match as unknown as [string, string, string, string];
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return (Number.parseInt(flags, 16) & TraceFlags.SAMPLED) === 0 ? undefined : { traceId, spanId };
}
