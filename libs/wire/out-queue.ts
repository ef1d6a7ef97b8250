import { assert } from '../core/assert.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { Lent } from './lent.ts';
import type { ByteStream } from './network.ts';

const SLAB_BYTES = 64 * 1024;

/** Payloads up to this size are copied beside their header: cheaper than one more element of a writev. */
const COPY_BYTES_MAX = 4 * 1024;

const SLABS_KEPT_MAX = 16;

interface Slab {
  readonly buffer: Buffer;
  /** Batches on their way that reach into it, plus one while it is the current slab. */
  users: number;
}

interface Batch {
  chunks: Uint8Array[];
  slabs: Slab[];
  /** Buffers to give back to `pool` when the batch has left. */
  owned: Buffer[];
  /** To be given back then as well. */
  lent: Lent[];
  /** Sequence number of the batch; `flushedSeq` reaches it when all its memory is free. */
  seq: number;
}

/**
 * Collects what one turn of the event loop produces for one stream and sends it in a single writev, in a
 * `process.nextTick` that the first write of the turn schedules. Headers go into slabs, large payloads by reference.
 */
export class OutQueue {
  readonly #stream: ByteStream;
  readonly #pool: BufferPool | null;
  #slab: Slab;
  #slabStart = 0;
  #slabAt = 0;
  #free: Slab[] = [];
  #batch: Batch;
  #scheduled = false;
  #pendingBytes = 0;
  #inFlightBytes = 0;
  #flushedSeq = 0;
  #closed = false;
  #onRelease: (() => void) | null = null;

  constructor(stream: ByteStream, pool: BufferPool | null = null) {
    this.#stream = stream;
    this.#pool = pool;
    this.#slab = { buffer: Buffer.allocUnsafeSlow(SLAB_BYTES), users: 1 };
    this.#batch = { chunks: [], slabs: [], owned: [], lent: [], seq: 1 };
  }

  /** Bytes queued here or handed to the stream and not yet sent. */
  get unsentBytes(): number {
    return this.#pendingBytes + this.#inFlightBytes;
  }

  /** The number of the batch that is being filled: memory given to it is free once `flushedSeq` reaches it. */
  get seq(): number {
    return this.#batch.seq;
  }

  /** The last batch whose bytes were handed to the stream; what was queued later has certainly not been sent. */
  get handedSeq(): number {
    return this.#batch.seq - 1;
  }

  get flushedSeq(): number {
    return this.#closed ? Number.MAX_SAFE_INTEGER : this.#flushedSeq;
  }

  /** Called whenever a batch has left (or was dropped): `unsentBytes` and `flushedSeq` have changed. */
  onRelease(fn: () => void): void {
    this.#onRelease = fn;
  }

  /** Where the `bytes` last reserved begin, in `slab`. */
  get slab(): Buffer {
    return this.#slab.buffer;
  }

  /** Room for `bytes` (a header) in `slab`, at the returned offset; to be filled in before this turn ends. */
  reserve(bytes: number): number {
    assert(bytes <= SLAB_BYTES, 'a header fits a slab');
    if (this.#slabAt + bytes > SLAB_BYTES) this.#nextSlab();
    const at = this.#slabAt;
    this.#slabAt += bytes;
    this.#pendingBytes += bytes;
    this.#schedule();
    return at;
  }

  /** Queues bytes that must not change until their batch has left. Small ones are copied at once. */
  append(bytes: Uint8Array): void {
    if (bytes.length <= COPY_BYTES_MAX) {
      this.#copy(bytes);
      return;
    }
    this.#cutSlab();
    this.#batch.chunks.push(bytes);
    this.#pendingBytes += bytes.length;
    this.#schedule();
  }

  /** Queues a pooled buffer and gives it back to the pool when it has left. */
  appendOwned(bytes: Buffer): void {
    assert(this.#pool !== null, 'appendOwned needs a pool');
    if (bytes.length <= COPY_BYTES_MAX) {
      this.#copy(bytes);
      this.#pool.give(bytes);
      return;
    }
    this.append(bytes);
    this.#batch.owned.push(bytes);
  }

  /** Gives back what the batch that is being filled has parts of, when it has left. */
  borrow(lent: Lent): void {
    assert(this.#pendingBytes > 0, 'a batch that borrows has something of it');
    this.#batch.lent.push(lent);
  }

  #copy(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const at = this.reserve(bytes.length);
    this.#slab.buffer.set(bytes, at);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(() => this.flush());
  }

  /** Sends now what is queued. Called by itself at the end of the turn. */
  flush(): void {
    this.#scheduled = false;
    if (this.#pendingBytes === 0) return;
    this.#cutSlab();
    const batch = this.#batch;
    const bytes = this.#pendingBytes;
    this.#batch = { chunks: [], slabs: [], owned: [], lent: [], seq: batch.seq + 1 };
    this.#pendingBytes = 0;
    this.#inFlightBytes += bytes;
    this.#stream.writev(batch.chunks, () => {
      this.#inFlightBytes -= bytes;
      this.#flushedSeq = batch.seq;
      for (const slab of batch.slabs) this.#dropSlab(slab);
      this.#giveBack(batch);
      this.#onRelease?.();
    });
  }

  #giveBack({ owned, lent }: Batch): void {
    for (const buffer of owned) this.#pool!.give(buffer);
    for (const loan of lent) loan.giveBack();
  }

  /** The stream is gone: what is queued will not be sent, and its memory is free. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#giveBack(this.#batch);
    this.#batch.owned = [];
    this.#batch.lent = [];
    this.#batch.chunks = [];
    this.#pendingBytes = 0;
    this.#slabStart = this.#slabAt;
    this.#onRelease?.();
  }

  #cutSlab(): void {
    if (this.#slabStart === this.#slabAt) return;
    this.#batch.chunks.push(this.#slab.buffer.subarray(this.#slabStart, this.#slabAt));
    this.#slabStart = this.#slabAt;
    const slabs = this.#batch.slabs;
    if (slabs[slabs.length - 1] !== this.#slab) {
      slabs.push(this.#slab);
      this.#slab.users += 1;
    }
  }

  #nextSlab(): void {
    this.#cutSlab();
    this.#dropSlab(this.#slab);
    this.#slab = this.#free.pop() ?? { buffer: Buffer.allocUnsafeSlow(SLAB_BYTES), users: 0 };
    this.#slab.users += 1;
    this.#slabStart = 0;
    this.#slabAt = 0;
  }

  #dropSlab(slab: Slab): void {
    slab.users -= 1;
    if (slab.users === 0 && this.#free.length < SLABS_KEPT_MAX) this.#free.push(slab);
  }
}
