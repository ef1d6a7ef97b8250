import type { Lent } from '../wire/lent.ts';

/**
 * The one interface of everything that moves blocks: an iSCSI LUN, a path in another process, a multipath volume,
 * a cache, a fault filter, a RAM disk. A filter has the same shape plus the device that it stands on.
 */

/** Identity of an I/O for tracing, when it is sampled: W3C trace id (32 hex) and span id (16 hex). */
export interface TraceContext {
  readonly traceId: string;
  readonly spanId: string;
}

/** What travels with every I/O. Shared by all I/O of one client where nothing differs: it costs no allocation. */
export interface IoContext {
  /** `Clock.nowMs()` after which the I/O is failed instead of retried. Infinity: never. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal;
  /** Who asks, for logs and fairness: "nbd:127.0.0.1:4242". */
  readonly client?: string;
  readonly trace?: TraceContext;
}

export const NO_DEADLINE: IoContext = { deadlineMs: Number.POSITIVE_INFINITY };

/** Write flags, or-ed. */
export const WriteFlag = {
  None: 0,
  /** Durable before it is acknowledged. */
  Fua: 1,
  /** For writeZeroes: keep the blocks allocated. */
  NoHole: 2,
  /** For writeZeroes: fail with ENOTSUP rather than write zeroes slowly. */
  FastOnly: 4,
} as const;

/** What a device is and can do. Data, so that a filter may narrow it and a front door derive from it. */
export interface BlockCapabilities {
  /** A multiple of blockBytes. */
  readonly sizeBytes: number;
  /** Logical block size: every offset and length is a multiple of it. A power of two. */
  readonly blockBytes: number;
  /** Preferred unit of I/O; a multiple of blockBytes, a power of two. */
  readonly preferredBytes: number;
  /** Longest single I/O that it takes; front doors split or refuse longer ones. */
  readonly maxIoBytes: number;
  readonly readOnly: boolean;
  /** False when every acknowledged write is durable already; flush is then a no-op that succeeds. */
  readonly volatileCache: boolean;
  readonly fua: boolean;
  readonly trim: boolean;
  readonly writeZeroes: boolean;
  /** writeZeroes is quicker than writing (WriteFlag.FastOnly is honoured). */
  readonly fastZero: boolean;
  readonly extents: boolean;
  /** Most bytes of one compareAndWrite; 0 when it cannot. */
  readonly compareAndWriteBytes: number;
  readonly rotational: boolean;
}

export interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly allocated: boolean;
  /** Known to read as zeroes. */
  readonly zero: boolean;
}

/** Shorter reads are lent by nobody: they are cheaper to copy. */
export const LEND_BYTES_MIN = 16 * 1024;

/**
 * All methods reject with an OrionError whose `outcome` says what is known of the effect (core/errors.ts).
 * Offsets and lengths are bytes, multiples of `caps.blockBytes`, inside the device, lengths at most `caps.maxIoBytes`
 * except for trim and writeZeroes, which take any length. Callers check; devices assert.
 * Buffers belong to the device from the call until its promise settles.
 */
export interface BlockDevice {
  readonly name: string;
  readonly caps: BlockCapabilities;
  /** Fills all of `into`. */
  read(offset: number, into: Buffer, io: IoContext): Promise<void>;
  /**
   * `read` without a copy, where the bytes come to stand in memory of the device's own. Null, or left out: it has none to
   * lend for this length, and is to be read.
   */
  lend?(offset: number, length: number, io: IoContext): Promise<Lent> | null;
  write(offset: number, from: Buffer, flags: number, io: IoContext): Promise<void>;
  /** Everything acknowledged before the call is durable when it resolves. */
  flush(io: IoContext): Promise<void>;
  /** A hint: the range may read as anything, or zeroes, afterwards. */
  trim(offset: number, length: number, flags: number, io: IoContext): Promise<void>;
  writeZeroes(offset: number, length: number, flags: number, io: IoContext): Promise<void>;
  /** Neighbouring extents that cover [offset, offset + at least 1 byte), in order, merged. */
  extents(offset: number, length: number, io: IoContext): Promise<Extent[]>;
  /**
   * Atomically replaces `expected` by `replacement` (equal lengths) when the device holds `expected`. Resolves -1
   * when it did, else the offset of the first differing byte, relative to `offset`; then nothing was changed.
   */
  compareAndWrite(
    offset: number,
    expected: Buffer,
    replacement: Buffer,
    io: IoContext,
  ): Promise<number>;
  close(): Promise<void>;
}
