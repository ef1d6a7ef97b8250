import type { BlockDevice, IoContext } from '#block/device.ts';
import { Fifo } from '#core/fifo.ts';
import type { BufferPool } from '#wire/buffer-pool.ts';
import { WRITE_WINDOW } from './limits.ts';

interface Write {
  readonly bytes: number;
  state: 'pending' | 'done' | 'failed';
}

/** The device writes of one upload: a bounded number at a time, and how far it is written without a gap. */
export class WriteWindow {
  readonly #device: BlockDevice;
  readonly #pool: BufferPool;
  readonly #io: () => IoContext;
  readonly #flags: number;
  /** In order of offset; what is done at the front is counted and dropped. */
  readonly #writes = new Fifo<Write>();
  #inflight = 0;
  #contiguousBytes = 0;
  #failure: { readonly error: unknown } | null = null;
  #wake: (() => void) | null = null;

  constructor(device: BlockDevice, flags: number, pool: BufferPool, io: () => IoContext) {
    this.#device = device;
    this.#flags = flags;
    this.#pool = pool;
    this.#io = io;
  }

  /** Bytes from the start of the upload that the device has acknowledged, without a gap. */
  get contiguousBytes(): number {
    return this.#contiguousBytes;
  }

  /** Writes the buffer, which becomes the window's. Resolves when there is room for the next one. */
  async submit(offset: number, buffer: Buffer): Promise<void> {
    if (this.#failure !== null) {
      this.#pool.give(buffer);
      throw this.#failure.error;
    }
    const write: Write = { bytes: buffer.length, state: 'pending' };
    this.#writes.push(write);
    this.#inflight += 1;
    void this.#device.write(offset, buffer, this.#flags, this.#io()).then(
      () => this.#settle(write, buffer, null),
      (error: unknown) => this.#settle(write, buffer, { error }),
    );
    while (this.#inflight >= WRITE_WINDOW) await this.#change();
    this.#throwFailure();
  }

  /** Waits for every write that was started. Never rejects. */
  async settled(): Promise<void> {
    while (this.#inflight > 0) await this.#change();
  }

  /** Waits for all writes and rejects with the first error that any of them had. */
  async finish(): Promise<void> {
    await this.settled();
    this.#throwFailure();
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #settle(write: Write, buffer: Buffer, failure: { readonly error: unknown } | null): void {
    write.state = failure === null ? 'done' : 'failed';
    this.#failure ??= failure;
    this.#inflight -= 1;
    this.#pool.give(buffer);
    for (let head = this.#writes.peek(); head?.state === 'done'; head = this.#writes.peek()) {
      this.#contiguousBytes += head.bytes;
      this.#writes.shift();
    }
    this.#wake?.();
    this.#wake = null;
  }
}
