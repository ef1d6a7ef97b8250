import type { IoContext } from '../block/device.ts';
import { readPooled } from '../block/read-pooled.ts';
import { type OpenSpan, openSpan, type SpanAttributes } from '../core/trace-channels.ts';
import { sharedPool } from '../wire/buffer-pool.ts';
import type { Lent } from '../wire/lent.ts';
import type { PathDevice } from './path.ts';
import type { PathEntry } from './path-entry.ts';
import type { RangeHolder } from './range-lock.ts';

export const RequestKind = {
  Read: 0,
  Lend: 1,
  Extents: 2,
  Flush: 3,
  Write: 4,
  Trim: 5,
  Zeroes: 6,
  CompareAndWrite: 7,
} as const;
export type RequestKind = (typeof RequestKind)[keyof typeof RequestKind];

const KIND_NAMES = [
  'read',
  'read',
  'extents',
  'flush',
  'write',
  'trim',
  'zero',
  'compare-and-write',
];

/** Pause before an attempt that the target turned away (busy, becoming ready) is repeated; doubles to the maximum. */
const RETRY_PAUSE_MS_MIN = 10;
const RETRY_PAUSE_MS_MAX = 1_000;
const HURRIED_TRIES_MAX = 3;

const NO_BUFFER = Buffer.alloc(0);

/** A read that began on a path which lends may go on over one that does not. */
function lendOf(device: PathDevice, offset: number, length: number, io: IoContext): Promise<Lent> {
  const lent = device.lend?.(offset, length, io) ?? null;
  if (lent !== null) return lent;
  return readPooled(device, offset, sharedPool.take(length), sharedPool, io);
}

/** What the device resolved with: nothing, memory that it lends, extents, or the place of a miscompare. */
export type RequestResult = unknown;

/** Who carries requests out; the device behind a request's callbacks. */
export interface RequestOwner {
  dispatch(request: IoRequest): void;
  succeeded(request: IoRequest, result: RequestResult): void;
  failed(request: IoRequest, error: unknown): void;
}

/**
 * One I/O of a client from submission until nothing of it can happen any more. It may be settled (answered with an
 * error because its time was up) while an attempt of it is still unknown; it then still holds its range.
 */
export class IoRequest implements RangeHolder {
  readonly kind: RequestKind;
  readonly offset: number;
  readonly end: number;
  readonly length: number;
  readonly flags: number;
  readonly io: IoContext;
  readonly promise: Promise<RequestResult>;
  buffer: Buffer = NO_BUFFER;
  /** The expected bytes of a compare-and-write. */
  expected: Buffer = NO_BUFFER;
  lockIndex = -1;
  attempts = 0;
  /** When the running attempt began. */
  sentMs = 0;
  /** `CacheWatch.doubts` then. */
  doubts = 0;
  /** When waiting for a path ends in an error; set when it begins to wait. */
  giveUpMs = 0;
  path: PathEntry | null = null;
  /** The stage of the running attempt, when the I/O is traced. */
  span: OpenSpan | undefined = undefined;
  /** The client has its answer. */
  settled = false;
  readonly ok: (result: RequestResult) => void;
  readonly fail: (error: unknown) => void;
  #resolve!: (result: RequestResult) => void;
  #reject!: (error: unknown) => void;
  readonly #owner: RequestOwner;

  constructor(
    owner: RequestOwner,
    kind: RequestKind,
    offset: number,
    length: number,
    flags: number,
    io: IoContext,
  ) {
    this.#owner = owner;
    this.kind = kind;
    this.offset = offset;
    this.length = length;
    this.end = offset + length;
    this.flags = flags;
    this.io = io;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ok = (result) => owner.succeeded(this, result);
    this.fail = (error) => owner.failed(this, error);
  }

  /** It changes blocks: it holds its range, and an unknown outcome of it must be fenced. */
  get changes(): boolean {
    return this.kind >= RequestKind.Write;
  }

  /** A path may say again and again that it serves, and refuse: soon there is a pause, wherever the next attempt goes. */
  get hurries(): boolean {
    return this.attempts < HURRIED_TRIES_MAX;
  }

  /** Before the next attempt. */
  get pauseMs(): number {
    return Math.min(RETRY_PAUSE_MS_MIN * 2 ** (this.attempts - 1), RETRY_PAUSE_MS_MAX);
  }

  /** One attempt. */
  sendTo(device: PathDevice): Promise<RequestResult> {
    const { offset, length, buffer, flags, expected } = this;
    const io = this.span === undefined ? this.io : { ...this.io, trace: this.span };
    switch (this.kind) {
      case RequestKind.Read:
        return device.read(offset, buffer, io);
      case RequestKind.Lend:
        return lendOf(device, offset, length, io);
      case RequestKind.Write:
        return device.write(offset, buffer, flags, io);
      case RequestKind.Flush:
        return device.flush(io);
      case RequestKind.Trim:
        return device.trim(offset, length, flags, io);
      case RequestKind.Zeroes:
        return device.writeZeroes(offset, length, flags, io);
      case RequestKind.Extents:
        return device.extents(offset, length, io);
      case RequestKind.CompareAndWrite:
        return device.compareAndWrite(offset, expected, buffer, io);
    }
  }

  /** What a span says of this I/O. */
  get place(): SpanAttributes {
    return {
      'orion.offset': this.offset,
      'orion.length': this.length,
      'orion.attempt': this.attempts,
      'orion.path': this.path === null ? '' : this.path.meta.portal,
      'orion.worker': this.path === null ? '' : this.path.meta.worker,
    };
  }

  openSpan(): void {
    const name = KIND_NAMES[this.kind]!;
    this.span = openSpan(`path ${name}`, this.io.trace!, this.sentMs);
  }

  admitted(): void {
    this.#owner.dispatch(this);
  }

  resolve(result: RequestResult): void {
    if (this.settled) return;
    this.settled = true;
    this.#resolve(result);
  }

  reject(error: unknown): void {
    if (this.settled) return;
    this.settled = true;
    this.#reject(error);
  }
}
