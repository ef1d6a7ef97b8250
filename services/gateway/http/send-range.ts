import type { ServerResponse } from 'node:http';
import type { BufferPool } from '#wire/buffer-pool.ts';
import type { ClientWatch } from './client-watch.ts';
import { contentDigest, sha256 } from './digest.ts';
import { UNSENT_WINDOW } from './limits.ts';
import type { Chunk, ReadAhead } from './read-ahead.ts';

export interface SendJob {
  readonly reads: ReadAhead;
  readonly response: ServerResponse;
  readonly status: 200 | 206;
  readonly headers: Record<string, string | number>;
  /** Read the whole range first, and say its digest. Only for ranges of a bounded length. */
  readonly digest: boolean;
  readonly watch: ClientWatch;
  readonly pool: BufferPool;
  /** Called right before the head is written; after that an error can only cut the connection. */
  readonly beforeHead: () => void;
  /** Called when the connection is about to be cut because of this error. */
  readonly beforeCut: (error: unknown) => void;
  readonly onSent: (bytes: number) => void;
}

/**
 * Streams a range. Rejects with a device error that came before the head of the answer; one that comes later cuts
 * the connection and rejects too, because a short body must not look complete. Returns with every buffer given back.
 */
export async function sendRange(job: SendJob): Promise<void> {
  const { reads, response, watch } = job;
  const out = new ChunkWriter(job);
  const ready: Chunk[] = [];
  watch.onGone(() => reads.stop());
  try {
    await readFirst(job, ready);
    if (watch.gone) return;
    job.beforeHead();
    response.writeHead(job.status, job.headers);
    for (;;) {
      const chunk = ready.shift() ?? (await reads.take());
      if (chunk === null) break;
      await out.write(chunk);
    }
    if (!watch.gone) response.end();
  } catch (error) {
    if (response.headersSent && !watch.gone) {
      job.beforeCut(error);
      watch.cut();
    }
    throw error;
  } finally {
    for (const chunk of ready) job.pool.give(chunk.buffer);
    await reads.close();
    await out.drained();
  }
}

/** The first chunk, so that its failure can still be told, or all of them when a digest is wanted. */
async function readFirst(job: SendJob, ready: Chunk[]): Promise<void> {
  const hash = job.digest ? sha256() : null;
  do {
    const chunk = await job.reads.take();
    if (chunk === null) break;
    ready.push(chunk);
    hash?.update(chunk.bytes);
  } while (hash !== null);
  if (hash !== null) job.headers['content-digest'] = contentDigest(hash);
}

/** Hands chunks to the response and takes their buffers back when the client has them, or is gone. */
class ChunkWriter {
  readonly #job: SendJob;
  readonly #unsent = new Map<Buffer, number>();
  #wake: (() => void) | null = null;

  constructor(job: SendJob) {
    this.#job = job;
    job.watch.onGone(() => {
      // The socket is closed: nobody reads these any more, and not every write has its callback called.
      for (const buffer of [...this.#unsent.keys()]) this.#release(buffer);
    });
  }

  /** Resolves when the next chunk may be written. */
  async write(chunk: Chunk): Promise<void> {
    const { response, watch } = this.#job;
    this.#unsent.set(chunk.buffer, chunk.bytes.length);
    if (watch.gone) return this.#release(chunk.buffer);
    response.write(chunk.bytes, (error) => {
      const bytes = chunk.bytes.length;
      if (error === null || error === undefined) {
        watch.progress(bytes);
        this.#job.onSent(bytes);
      }
      this.#release(chunk.buffer);
    });
    if (this.#unsent.size > 0) watch.waitForClient();
    while (this.#unsent.size >= UNSENT_WINDOW) await this.#change();
  }

  async drained(): Promise<void> {
    while (this.#unsent.size > 0) await this.#change();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #release(buffer: Buffer): void {
    if (!this.#unsent.delete(buffer)) return;
    this.#job.pool.give(buffer);
    if (this.#unsent.size === 0) this.#job.watch.waitForDevice();
    this.#wake?.();
    this.#wake = null;
  }
}
