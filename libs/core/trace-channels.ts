import { channel } from 'node:diagnostics_channel';

/**
 * How libs that know nothing of telemetry tell it about sampled I/O. A lib publishes a finished span on a
 * node:diagnostics_channel when `io.trace` is set, which it nearly never is; telemetry subscribes and exports.
 */

/** Finished spans, each a SpanRecord. */
export const SPAN_CHANNEL = 'orion:span';

/** Who a span is: W3C trace id (32 hex digits) and span id (16). `TraceContext` of an I/O has the same shape. */
export interface SpanIdentity {
  readonly traceId: string;
  readonly spanId: string;
}

export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** One finished stage of a sampled request, in one process. */
export interface SpanRecord extends SpanIdentity {
  /** What was done: "nbd write", "multipath attempt", "iscsi command". */
  readonly name: string;
  /** Empty for the first span of a trace. */
  readonly parentSpanId: string;
  /** `Clock.nowMs()` of the process that publishes; telemetry turns it into a date. */
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: SpanAttributes;
  /** Set when the stage failed. */
  readonly error?: string;
}

const spanChannel = channel(SPAN_CHANNEL);

/** Hands a finished span to whoever listens. Costs one comparison when nobody does. */
export function publishSpan(record: SpanRecord): void {
  if (spanChannel.hasSubscribers) spanChannel.publish(record);
}

/**
 * A stage that is under way. It has the shape of a TraceContext, so it can be the `trace` of the I/O it starts:
 * the stages below then become its children.
 */
export class OpenSpan implements SpanIdentity {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly startMs: number;

  constructor(
    name: string,
    identity: SpanIdentity & { readonly parentSpanId: string },
    startMs: number,
  ) {
    this.name = name;
    this.traceId = identity.traceId;
    this.spanId = identity.spanId;
    this.parentSpanId = identity.parentSpanId;
    this.startMs = startMs;
  }

  /** Publishes it. Call once. */
  end(endMs: number, attributes: SpanAttributes = {}, error?: string): void {
    publishSpan({
      name: this.name,
      traceId: this.traceId,
      spanId: this.spanId,
      parentSpanId: this.parentSpanId,
      startMs: this.startMs,
      endMs,
      attributes,
      ...(error === undefined ? {} : { error }),
    });
  }
}

/** Opens a child stage of `parent`; `parent` is the `trace` of the I/O at hand. */
export function openSpan(name: string, parent: SpanIdentity, startMs: number): OpenSpan {
  const { traceId, spanId: parentSpanId } = parent;
  return new OpenSpan(name, { traceId, spanId: childSpanId(parentSpanId), parentSpanId }, startMs);
}

let children = 0;

/**
 * A span id for a child. It needs to be unique in its trace only, so it is mixed from the parent's id and a count:
 * protocol libs then need no source of randomness for it, and processes that share a trace do not collide, because
 * no two of them open children of the same parent.
 */
export function childSpanId(parentSpanId: string): string {
  children = (children + 1) >>> 0;
  const high = mix(Number.parseInt(parentSpanId.slice(0, 8), 16) ^ children);
  const low = mix(Number.parseInt(parentSpanId.slice(8, 16), 16) ^ high);
  // An id of zeroes is invalid (W3C trace context, section 3.2.2.4).
  return hex32(high) + hex32(high === 0 && low === 0 ? 1 : low);
}

/** A bijection of 32-bit integers that spreads neighbours apart (Murmur3's finalizer). */
function mix(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, '0');
}
