import type { ByteStream } from '../wire/network.ts';

/** A stream that can be made to break after so many more bytes: a fault. */
export class CuttableStream implements ByteStream {
  readonly #stream: ByteStream;
  #bytesLeft = Number.POSITIVE_INFINITY;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** What is queued already counts. */
  cutAfter(bytes: number): void {
    this.#bytesLeft = bytes;
  }

  get remote(): string {
    return this.#stream.remote;
  }

  get unsentBytes(): number {
    return this.#stream.unsentBytes;
  }

  writev(chunks: readonly Uint8Array[], done: () => void): void {
    if (this.#bytesLeft === Number.POSITIVE_INFINITY) return this.#stream.writev(chunks, done);
    const allowed: Uint8Array[] = [];
    for (const chunk of chunks) {
      if (this.#bytesLeft > 0) allowed.push(chunk.subarray(0, this.#bytesLeft));
      this.#bytesLeft -= chunk.length;
    }
    if (this.#bytesLeft > 0) return this.#stream.writev(allowed, done);
    // Let out what is allowed before the break.
    this.#stream.writev(allowed, () => {
      done();
      this.#stream.destroy(new Error('fault'));
    });
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  end(): void {
    this.#stream.end();
  }

  destroy(reason?: Error): void {
    this.#stream.destroy(reason);
  }
}
