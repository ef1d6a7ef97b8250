import type { BlockDevice, IoContext } from '#block/device.ts';
import { Fifo } from '#core/fifo.ts';
import type { BufferPool } from '#wire/buffer-pool.ts';
import { IO_BYTES, READ_WINDOW } from './limits.ts';
import type { ByteRange } from './range.ts';

/** Part of a range in a pooled buffer; `bytes` is what belongs to the range. Whoever holds it gives `buffer` back. */
export interface Chunk {
  readonly buffer: Buffer;
  readonly bytes: Buffer;
}

interface Pending extends Chunk {
  /** Resolves to null, or to what went wrong; never rejects, because it may be awaited late or not at all. */
  readonly settled: Promise<{ readonly error: unknown } | null>;
}

/** Longest I/O of a stream on this device. */
export function streamIoBytes(device: BlockDevice): number {
  const { maxIoBytes, blockBytes } = device.caps;
  const bytes = Math.min(IO_BYTES, maxIoBytes);
  return Math.max(blockBytes, bytes - (bytes % blockBytes));
}

/** Where the I/O that starts at `offset` ends: at a multiple of `ioBytes`, so that later ones are aligned to it. */
export function cutAt(offset: number, end: number, ioBytes: number): number {
  return Math.min(end, offset - (offset % ioBytes) + ioBytes);
}

/** Reads a range of any alignment in order, several device reads ahead. */
export class ReadAhead {
  readonly #device: BlockDevice;
  readonly #pool: BufferPool;
  readonly #io: () => IoContext;
  readonly #ioBytes: number;
  readonly #end: number;
  readonly #pending = new Fifo<Pending>();
  #next: number;
  #stopped = false;

  constructor(device: BlockDevice, range: ByteRange, pool: BufferPool, io: () => IoContext) {
    this.#device = device;
    this.#pool = pool;
    this.#io = io;
    this.#ioBytes = streamIoBytes(device);
    this.#next = range.offset;
    this.#end = range.offset + range.length;
  }

  /** The next chunk, which is then the caller's; null after the last one, or when stopped. Rejects with the device's error. */
  async take(): Promise<Chunk | null> {
    this.#fill();
    const chunk = this.#pending.shift();
    if (chunk === undefined) return null;
    const failure = await chunk.settled;
    if (failure !== null) {
      this.#pool.give(chunk.buffer);
      throw failure.error;
    }
    this.#fill();
    return chunk;
  }

  /** Starts no more reads: nobody wants what they would bring. */
  stop(): void {
    this.#stopped = true;
  }

  /** Starts no more reads, waits for those under way, gives their buffers back. */
  async close(): Promise<void> {
    this.stop();
    for (const chunk of this.#pending.drain()) {
      await chunk.settled;
      this.#pool.give(chunk.buffer);
    }
  }

  #fill(): void {
    if (this.#stopped) return;
    while (this.#pending.length < READ_WINDOW && this.#next < this.#end) {
      this.#issue(this.#next, cutAt(this.#next, this.#end, this.#ioBytes));
    }
  }

  /** Reads [from, to), widened to whole blocks. */
  #issue(from: number, to: number): void {
    const { blockBytes } = this.#device.caps;
    const start = from - (from % blockBytes);
    const end = Math.ceil(to / blockBytes) * blockBytes;
    const buffer = this.#pool.take(end - start);
    const settled = this.#device.read(start, buffer, this.#io()).then(
      () => null,
      (error: unknown) => ({ error }),
    );
    this.#pending.push({ buffer, bytes: buffer.subarray(from - start, to - start), settled });
    this.#next = to;
  }
}
