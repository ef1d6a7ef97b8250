import type { BufferPool } from '../wire/buffer-pool.ts';
import type { ByteStream } from '../wire/network.ts';
import { OutQueue } from '../wire/out-queue.ts';
import { FRAME_BYTES, FrameStatus, FrameType, writeFrame } from './frame.ts';
import { encodeError } from './hello.ts';

/** What a worker says on one link. Frames of one turn leave together; when the link is gone nothing is said any more. */
export class Answers {
  readonly #out: OutQueue;
  #closed = false;

  constructor(stream: ByteStream, pool: BufferPool) {
    this.#out = new OutQueue(stream, pool);
  }

  close(): void {
    this.#closed = true;
    this.#out.close();
  }

  pong(tag: number): void {
    this.#frame(FrameType.Ping, FrameStatus.Ok, tag, 0, 0);
  }

  done(tag: number): void {
    this.#frame(FrameType.Reply, FrameStatus.Ok, tag, 0, 0);
  }

  /** What was read; the buffer goes back to the pool when it has left. */
  data(tag: number, owned: Buffer): void {
    this.#frame(FrameType.Reply, FrameStatus.Ok, tag, 0, owned.length);
    this.#out.appendOwned(owned);
  }

  value(tag: number, value: unknown): void {
    this.json(FrameType.Reply, FrameStatus.Ok, tag, 0, value);
  }

  failed(tag: number, error: unknown): void {
    this.json(FrameType.Reply, FrameStatus.Error, tag, 0, encodeError(error));
  }

  json(type: FrameType, status: number, tag: number, handle: number, value: unknown): void {
    const json = Buffer.from(JSON.stringify(value));
    this.#frame(type, status, tag, handle, json.length);
    if (!this.#closed) this.#out.append(json);
  }

  #frame(type: FrameType, status: number, tag: number, handle: number, length: number): void {
    if (this.#closed) return;
    const at = this.#out.reserve(FRAME_BYTES);
    writeFrame(this.#out.slab, at, type, status, tag, handle, 0, 0, 0, length);
  }
}
