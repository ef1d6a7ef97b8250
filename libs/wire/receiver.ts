import { assert } from '../core/assert.ts';

/** One read from the kernel takes at most this much when it does not go straight to its destination. */
const SCRATCH_BYTES = 128 * 1024;

/** A segment with at least this much left is received straight into its destination. */
const DIRECT_BYTES_MIN = 8 * 1024;

/**
 * After a payload at least this long the next header is read alone, so that the payload behind it goes straight to its
 * destination: the kernel is asked once more, which costs far less than copying that much.
 */
const BULK_BYTES_MIN = 32 * 1024;

/** Longest segment that is read alone. */
const HEADER_BYTES_MAX = 64;

/** So many headers in a row without a payload end the reading of headers alone. */
const BULK_HEADERS_MAX = 3;

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
  /** The buffer of a header that is read alone; as long as the longest of this protocol. */
  #headerBuffer: Buffer = Buffer.alloc(0);
  #bulk = false;
  #headersInRow = 0;
  /** A segment that is read alone may bring so many bytes of what follows it: a digest and the header behind it. */
  ahead = 0;
  #stopped = false;
  #paused = false;
  #delivering = false;
  /** What arrived and was not delivered because of a pause. */
  #held: Buffer | null = null;

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
    this.#held = null;
  }

  /**
   * From inside `onSegment`: delivers nothing more until `resume`, not even from the chunk at hand, whose rest is
   * kept. Pause the stream too: what it still delivers is kept as well.
   */
  pause(): void {
    this.#paused = true;
  }

  /** Goes on after `pause`, first with what was kept. The next segment must have been asked for. */
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#delivering || this.#held === null) return;
    const held = this.#held;
    this.#held = null;
    this.#deliver(held, held.length, true);
  }

  /** Bytes that are kept because of a pause. */
  get heldBytes(): number {
    return this.#held === null ? 0 : this.#held.length;
  }

  /** True in the middle of a segment: an end of stream now is a truncation. */
  get partial(): boolean {
    return this.#have > 0;
  }

  /** Where the stream should put its next read. */
  buffer(): Buffer {
    const left = this.#need - this.#have;
    if (this.#into !== null && left >= DIRECT_BYTES_MIN && !this.#stopped && !this.#paused) {
      const from = this.#intoAt + this.#have;
      this.#direct = this.#into.subarray(from, from + left);
      return this.#direct;
    }
    this.#direct = null;
    const alone =
      this.#bulk && this.#need > 0 && this.#into === null && this.#have === 0 && !this.#paused;
    return alone && this.#need <= HEADER_BYTES_MAX ? this.#aloneBuffer() : this.#scratch;
  }

  #aloneBuffer(): Buffer {
    const bytes = this.#need + this.ahead;
    if (this.#headerBuffer.length < bytes) this.#headerBuffer = Buffer.allocUnsafeSlow(bytes);
    const { length } = this.#headerBuffer;
    return length === bytes ? this.#headerBuffer : this.#headerBuffer.subarray(0, bytes);
  }

  /** `length` bytes arrived at the start of `chunk`. */
  push(chunk: Buffer, length: number): void {
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
    this.#deliver(chunk, length, false);
  }

  /** `owned`: the chunk is ours, so that its rest may be kept without a copy. */
  #deliver(chunk: Buffer, length: number, owned: boolean): void {
    let at = 0;
    this.#delivering = true;
    while (at < length && !this.#stopped) {
      if (this.#paused || this.#held !== null) {
        this.#hold(chunk, at, length, owned);
        break;
      }
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
        if (this.#have < this.#need) break;
        this.#finish();
        this.#onSegment(this.#carry, 0);
        continue;
      }
      const take = Math.min(left, available);
      chunk.copy(this.#into, this.#intoAt + this.#have, at, at + take);
      at += take;
      this.#have += take;
      if (this.#have < this.#need) break;
      const into = this.#into;
      const intoAt = this.#intoAt;
      this.#finish();
      this.#onSegment(into, intoAt);
    }
    this.#delivering = false;
  }

  #hold(chunk: Buffer, at: number, length: number, owned: boolean): void {
    const rest = chunk.subarray(at, length);
    if (this.#held !== null) this.#held = Buffer.concat([this.#held, rest]);
    else this.#held = owned ? rest : Buffer.from(rest);
  }

  #finish(): void {
    if (this.#into !== null) {
      this.#bulk = this.#need >= BULK_BYTES_MIN;
      this.#headersInRow = 0;
    } else if (this.#bulk && ++this.#headersInRow >= BULK_HEADERS_MAX) this.#bulk = false;
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
