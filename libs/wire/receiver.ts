import { assert } from '../core/assert.ts';

/** One read from the kernel takes at most this much when it does not go straight to its destination. */
const SCRATCH_BYTES = 128 * 1024;

/** A segment with at least this much left is received straight into its destination. */
const DIRECT_BYTES_MIN = 8 * 1024;

/** A contiguous segment (header, text, small payload) may not be longer; longer ones need a destination. */
export const CONTIGUOUS_BYTES_MAX = 1024 * 1024;

/**
 * Cuts a byte stream into segments of asked lengths, with no object per segment.
 *
 * The protocol asks for one segment at a time: `want(length)` for a contiguous view (a header), or
 * `want(length, into, at)` to have it put somewhere (a payload). When it is complete `onSegment(buffer, at)` is
 * called once, and must ask for the next one (or call `stop`). A view is valid during that call only.
 * A large segment with a destination is received straight into it where the stream supports that.
 */
export class Receiver {
  readonly #onSegment: (buffer: Buffer, at: number) => void;
  readonly #scratch: Buffer;
  #carry: Buffer = Buffer.allocUnsafeSlow(256);
  #need = 0;
  #have = 0;
  #into: Buffer | null = null;
  #intoAt = 0;
  /** The buffer handed out for a read that goes straight to a destination; null for the scratch buffer. */
  #direct: Buffer | null = null;
  #stopped = false;

  constructor(onSegment: (buffer: Buffer, at: number) => void, scratchBytes = SCRATCH_BYTES) {
    this.#onSegment = onSegment;
    this.#scratch = Buffer.allocUnsafeSlow(scratchBytes);
  }

  /** Asks for the next `length` bytes (at least 1). */
  want(length: number, into: Buffer | null = null, at = 0): void {
    assert(length > 0, 'a segment has at least one byte');
    assert(into !== null || length <= CONTIGUOUS_BYTES_MAX, 'a contiguous segment is bounded');
    assert(into === null || at + length <= into.length, 'a segment fits its destination');
    this.#need = length;
    this.#have = 0;
    this.#into = into;
    this.#intoAt = at;
  }

  /** Nothing more is delivered, whatever arrives. */
  stop(): void {
    this.#stopped = true;
    this.#into = null;
  }

  /** True in the middle of a segment: an end of stream now is a truncation. */
  get partial(): boolean {
    return this.#have > 0;
  }

  /** Where the stream should put its next read. */
  buffer(): Buffer {
    const left = this.#need - this.#have;
    if (this.#into !== null && left >= DIRECT_BYTES_MIN && !this.#stopped) {
      const from = this.#intoAt + this.#have;
      this.#direct = this.#into.subarray(from, from + left);
      return this.#direct;
    }
    this.#direct = null;
    return this.#scratch;
  }

  /** `length` bytes arrived at the start of `chunk`. */
  push(chunk: Buffer, length: number): void {
    let at = 0;
    if (chunk === this.#direct && this.#into !== null) {
      // The bytes stand in their destination already.
      this.#direct = null;
      this.#have += length;
      if (this.#have < this.#need) return;
      const into = this.#into;
      const intoAt = this.#intoAt;
      this.#finish();
      this.#onSegment(into, intoAt);
      return;
    }
    while (at < length && !this.#stopped) {
      const left = this.#need - this.#have;
      const available = length - at;
      assert(left > 0, 'the protocol asked for a segment');
      if (this.#into === null) {
        if (this.#have === 0 && available >= left) {
          const start = at;
          at += left;
          this.#finish();
          this.#onSegment(chunk, start);
          continue;
        }
        this.#reserveCarry();
        const take = Math.min(left, available);
        chunk.copy(this.#carry, this.#have, at, at + take);
        at += take;
        this.#have += take;
        if (this.#have < this.#need) return;
        this.#finish();
        this.#onSegment(this.#carry, 0);
        continue;
      }
      const take = Math.min(left, available);
      chunk.copy(this.#into, this.#intoAt + this.#have, at, at + take);
      at += take;
      this.#have += take;
      if (this.#have < this.#need) return;
      const into = this.#into;
      const intoAt = this.#intoAt;
      this.#finish();
      this.#onSegment(into, intoAt);
    }
  }

  #finish(): void {
    this.#need = 0;
    this.#have = 0;
    this.#into = null;
  }

  #reserveCarry(): void {
    if (this.#carry.length >= this.#need) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#need, this.#carry.length * 2));
    this.#carry.copy(grown, 0, 0, this.#have);
    this.#carry = grown;
  }
}
