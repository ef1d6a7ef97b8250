import type { OrionError } from '../core/errors.ts';
import { DONE, rangeError } from './checked.ts';
import {
  type BlockCapabilities,
  type BlockDevice,
  type Extent,
  type IoContext,
  WriteFlag,
} from './device.ts';
import { blockErrors } from './errors.ts';

/** Memory is taken in pieces of this size, when they are first written. */
const CHUNK_BYTES = 256 * 1024;

const MAX_IO_BYTES = 32 * 1024 * 1024;

/** Most bytes of one compareAndWrite. */
const COMPARE_BYTES_MAX = 64 * 1024;

export interface MemoryDeviceOptions {
  readonly name?: string;
  readonly sizeBytes: number;
  /** 512 when left out. */
  readonly blockBytes?: number;
  /** To look like a lesser device: these override what the RAM disk can do. */
  readonly caps?: Partial<Omit<BlockCapabilities, 'sizeBytes' | 'blockBytes'>>;
}

/**
 * A RAM disk that uses memory only for chunks that were written. It finishes every call at once; what it holds is
 * as durable as the process.
 */
export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly caps: BlockCapabilities;
  readonly #chunks = new Map<number, Buffer>();
  #closed = false;

  constructor(options: MemoryDeviceOptions) {
    const blockBytes = options.blockBytes ?? 512;
    this.name = options.name ?? 'memory';
    this.caps = {
      preferredBytes: Math.max(4096, blockBytes),
      maxIoBytes: MAX_IO_BYTES,
      readOnly: false,
      volatileCache: false,
      fua: true,
      trim: true,
      writeZeroes: true,
      fastZero: true,
      extents: true,
      compareAndWriteBytes: COMPARE_BYTES_MAX,
      rotational: false,
      ...options.caps,
      sizeBytes: options.sizeBytes - (options.sizeBytes % blockBytes),
      blockBytes,
    };
  }

  /** Memory in use. */
  get allocatedBytes(): number {
    return this.#chunks.size * CHUNK_BYTES;
  }

  read(offset: number, into: Buffer, _io: IoContext): Promise<void> {
    const error = this.#refusal(offset, into.length);
    if (error !== null) return Promise.reject(error);
    this.#readAt(offset, into);
    return DONE;
  }

  write(offset: number, from: Buffer, _flags: number, _io: IoContext): Promise<void> {
    const error = this.#refusal(offset, from.length) ?? this.#writeRefusal();
    if (error !== null) return Promise.reject(error);
    this.#writeAt(offset, from);
    return DONE;
  }

  flush(_io: IoContext): Promise<void> {
    return this.#closed ? Promise.reject(this.#closedError()) : DONE;
  }

  trim(offset: number, length: number, _flags: number, _io: IoContext): Promise<void> {
    return this.#clear(offset, length, false);
  }

  writeZeroes(offset: number, length: number, flags: number, _io: IoContext): Promise<void> {
    if ((flags & WriteFlag.FastOnly) !== 0 && !this.caps.fastZero) {
      return Promise.reject(
        blockErrors.make('BLOCK_UNSUPPORTED', { fields: { device: this.name } }),
      );
    }
    return this.#clear(offset, length, (flags & WriteFlag.NoHole) !== 0);
  }

  extents(offset: number, length: number, _io: IoContext): Promise<Extent[]> {
    const error = this.#refusal(offset, length);
    if (error !== null) return Promise.reject(error);
    const found: { offset: number; length: number; allocated: boolean; zero: boolean }[] = [];
    for (let at = offset; at < offset + length; ) {
      const bytes = Math.min(CHUNK_BYTES - (at % CHUNK_BYTES), offset + length - at);
      const allocated = this.#chunks.has(Math.floor(at / CHUNK_BYTES));
      const last = found[found.length - 1];
      if (last !== undefined && last.allocated === allocated) last.length += bytes;
      else found.push({ offset: at, length: bytes, allocated, zero: !allocated });
      at += bytes;
    }
    return Promise.resolve(found);
  }

  compareAndWrite(
    offset: number,
    expected: Buffer,
    replacement: Buffer,
    _io: IoContext,
  ): Promise<number> {
    const error = this.#refusal(offset, expected.length) ?? this.#writeRefusal();
    if (error !== null) return Promise.reject(error);
    if (
      expected.length > this.caps.compareAndWriteBytes ||
      expected.length !== replacement.length
    ) {
      const fields = { device: this.name, bytes: expected.length };
      return Promise.reject(blockErrors.make('BLOCK_UNSUPPORTED', { fields }));
    }
    const held = Buffer.allocUnsafe(expected.length);
    this.#readAt(offset, held);
    for (let i = 0; i < held.length; i++) {
      if (held[i] !== expected[i]) return Promise.resolve(i);
    }
    this.#writeAt(offset, replacement);
    return Promise.resolve(-1);
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#chunks.clear();
    return DONE;
  }

  #closedError(): OrionError {
    return blockErrors.make('BLOCK_CLOSED', { fields: { device: this.name } });
  }

  #refusal(offset: number, length: number): OrionError | null {
    if (this.#closed) return this.#closedError();
    return rangeError(this.name, this.caps, offset, length);
  }

  #writeRefusal(): OrionError | null {
    if (!this.caps.readOnly) return null;
    return blockErrors.make('BLOCK_READ_ONLY', { fields: { device: this.name } });
  }

  #readAt(offset: number, into: Buffer): void {
    for (let done = 0; done < into.length; ) {
      const inChunk = (offset + done) % CHUNK_BYTES;
      const bytes = Math.min(CHUNK_BYTES - inChunk, into.length - done);
      const chunk = this.#chunks.get(Math.floor((offset + done) / CHUNK_BYTES));
      if (chunk === undefined) into.fill(0, done, done + bytes);
      else chunk.copy(into, done, inChunk, inChunk + bytes);
      done += bytes;
    }
  }

  #writeAt(offset: number, from: Buffer): void {
    for (let done = 0; done < from.length; ) {
      const inChunk = (offset + done) % CHUNK_BYTES;
      const bytes = Math.min(CHUNK_BYTES - inChunk, from.length - done);
      const chunk = this.#chunk(Math.floor((offset + done) / CHUNK_BYTES));
      from.copy(chunk, inChunk, done, done + bytes);
      done += bytes;
    }
  }

  #chunk(index: number): Buffer {
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = Buffer.alloc(CHUNK_BYTES);
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }

  /** Zeroes the range; whole chunks are given up unless they are to stay allocated. */
  #clear(offset: number, length: number, keep: boolean): Promise<void> {
    const error = this.#refusal(offset, length) ?? this.#writeRefusal();
    if (error !== null) return Promise.reject(error);
    for (let done = 0; done < length; ) {
      const inChunk = (offset + done) % CHUNK_BYTES;
      const bytes = Math.min(CHUNK_BYTES - inChunk, length - done);
      const index = Math.floor((offset + done) / CHUNK_BYTES);
      if (keep) this.#chunk(index).fill(0, inChunk, inChunk + bytes);
      else if (bytes === CHUNK_BYTES) this.#chunks.delete(index);
      else this.#chunks.get(index)?.fill(0, inChunk, inChunk + bytes);
      done += bytes;
    }
    return DONE;
  }
}
