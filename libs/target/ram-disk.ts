import { assert } from '../core/assert.ts';

/** Memory is allocated in pieces of this size, when they are first written. */
export const CHUNK_BYTES = 64 * 1024;

export interface RamDiskOptions {
  readonly sizeBytes: number;
  /**
   * Remembers what was not flushed, so that `loseCache` can take it back, at the price of a second copy of it.
   * Without it every write is durable at once.
   */
  readonly volatileCache?: boolean;
}

/** A sparse disk in memory. Offsets and lengths are bytes; what was never written reads as zeroes. */
export class RamDisk {
  readonly volatileCache: boolean;
  #sizeBytes: number;
  readonly #chunks = new Map<number, Buffer>();
  /** Chunks changed since the last flush, as they were before; null: not allocated. */
  readonly #stable = new Map<number, Buffer | null>();

  constructor(options: RamDiskOptions) {
    this.#sizeBytes = options.sizeBytes;
    this.volatileCache = options.volatileCache ?? false;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get allocatedBytes(): number {
    return this.#chunks.size * CHUNK_BYTES;
  }

  /** Bytes (in whole chunks) that `loseCache` would take back. */
  get dirtyBytes(): number {
    return this.#stable.size * CHUNK_BYTES;
  }

  /** Copies `length` bytes from `offset` to `into` at `at`. */
  read(offset: number, into: Buffer, at = 0, length = into.length - at): void {
    this.#check(offset, length);
    let done = 0;
    while (done < length) {
      const from = offset + done;
      const within = from % CHUNK_BYTES;
      const take = Math.min(CHUNK_BYTES - within, length - done);
      const chunk = this.#chunks.get((from - within) / CHUNK_BYTES);
      if (chunk === undefined) into.fill(0, at + done, at + done + take);
      else chunk.copy(into, at + done, within, within + take);
      done += take;
    }
  }

  /** Copies `length` bytes from `from` at `at` to `offset`; `durable` writes survive `loseCache`. */
  write(offset: number, from: Buffer, at = 0, length = from.length - at, durable = false): void {
    this.#check(offset, length);
    let done = 0;
    while (done < length) {
      const to = offset + done;
      const within = to % CHUNK_BYTES;
      const take = Math.min(CHUNK_BYTES - within, length - done);
      const index = (to - within) / CHUNK_BYTES;
      this.#remember(index);
      const chunk = this.#chunkForWrite(index, take === CHUNK_BYTES);
      from.copy(chunk, within, at + done, at + done + take);
      if (durable) this.#writeStable(index, within, from, at + done, take);
      done += take;
    }
  }

  /** Makes a range read as zeroes; whole chunks are given back. */
  zero(offset: number, length: number): void {
    this.#check(offset, length);
    let done = 0;
    while (done < length) {
      const to = offset + done;
      const within = to % CHUNK_BYTES;
      const take = Math.min(CHUNK_BYTES - within, length - done);
      const index = (to - within) / CHUNK_BYTES;
      const chunk = this.#chunks.get(index);
      if (chunk !== undefined) {
        this.#remember(index);
        if (take === CHUNK_BYTES) this.#chunks.delete(index);
        else this.#chunks.get(index)!.fill(0, within, within + take);
      }
      done += take;
    }
  }

  /** How far from `offset` the disk is all allocated, or all a hole, up to `maxBytes`. */
  extent(offset: number, maxBytes: number): { allocated: boolean; bytes: number } {
    this.#check(offset, 0);
    const end = Math.min(offset + maxBytes, this.#sizeBytes);
    const first = Math.floor(offset / CHUNK_BYTES);
    const allocated = this.#chunks.has(first);
    let index = first + 1;
    while (index * CHUNK_BYTES < end && this.#chunks.has(index) === allocated) index += 1;
    return { allocated, bytes: Math.min(index * CHUNK_BYTES, end) - offset };
  }

  /** Everything written so far survives `loseCache`. */
  flush(): void {
    this.#stable.clear();
  }

  /** Takes back what was not flushed, as a loss of power does; `keep` may spare some chunks. */
  loseCache(keep: (chunkIndex: number) => boolean = () => false): void {
    for (const [index, before] of this.#stable) {
      if (keep(index)) continue;
      if (before === null) this.#chunks.delete(index);
      else this.#chunks.set(index, before);
    }
    this.#stable.clear();
  }

  resize(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes;
    const end = Math.ceil(sizeBytes / CHUNK_BYTES);
    for (const index of this.#chunks.keys()) if (index >= end) this.#chunks.delete(index);
    for (const index of this.#stable.keys()) if (index >= end) this.#stable.delete(index);
  }

  #chunkForWrite(index: number, whole: boolean): Buffer {
    let chunk = this.#chunks.get(index);
    if (chunk !== undefined) return chunk;
    chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    if (!whole) chunk.fill(0);
    this.#chunks.set(index, chunk);
    return chunk;
  }

  #remember(index: number): void {
    if (!this.volatileCache || this.#stable.has(index)) return;
    const chunk = this.#chunks.get(index);
    this.#stable.set(index, chunk === undefined ? null : Buffer.from(chunk));
  }

  #writeStable(index: number, within: number, from: Buffer, at: number, length: number): void {
    if (!this.volatileCache) return;
    let stable = this.#stable.get(index);
    if (stable === undefined) return;
    if (stable === null) {
      stable = Buffer.alloc(CHUNK_BYTES);
      this.#stable.set(index, stable);
    }
    from.copy(stable, within, at, at + length);
  }

  #check(offset: number, length: number): void {
    assert(offset >= 0 && length >= 0 && offset + length <= this.#sizeBytes, 'within the disk');
  }
}
