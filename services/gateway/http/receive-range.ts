import type { Hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { BlockDevice, IoContext } from '#block/device.ts';
import type { BufferPool } from '#wire/buffer-pool.ts';
import type { ClientWatch } from './client-watch.ts';
import { checkDigest, sha256 } from './digest.ts';
import { HttpProblem, problemOfError } from './problem.ts';
import type { ByteRange } from './range.ts';
import { cutAt, streamIoBytes } from './read-ahead.ts';
import { WriteWindow } from './write-window.ts';

export interface ReceiveJob {
  readonly device: BlockDevice;
  readonly range: ByteRange;
  readonly request: IncomingMessage;
  /** WriteFlag of every write. */
  readonly flags: number;
  /** SHA-256 that the body must have. */
  readonly digest: Buffer | null;
  /** Longest body that is held back until its digest is known to be right. */
  readonly digestBytesMax: number;
  readonly watch: ClientWatch;
  readonly pool: BufferPool;
  readonly io: () => IoContext;
  readonly onReceived: (bytes: number) => void;
}

/**
 * Writes a body to its range as it arrives. Rejects with an HttpProblem that says how far the data is written without a
 * gap. Whatever happens, every write that was started has ended and every buffer is given back when it returns.
 */
export async function receiveRange(job: ReceiveJob): Promise<void> {
  const { device, range, digest } = job;
  const writes = new WriteWindow(device, job.flags, job.pool, job.io);
  const hash = digest === null ? null : sha256();
  const held: { offset: number; buffer: Buffer }[] = [];
  const holdBack = hash !== null && range.length <= job.digestBytesMax;
  try {
    await forEachCut(job, hash, async (offset, buffer) => {
      if (holdBack) held.push({ offset, buffer });
      else await writes.submit(offset, buffer);
    });
    if (hash !== null) {
      if (!holdBack) await writes.finish();
      checkDigest(hash, digest!);
    }
    for (let next = held.shift(); next !== undefined; next = held.shift()) {
      await writes.submit(next.offset, next.buffer);
    }
    await writes.finish();
  } catch (error) {
    await writes.settled();
    throw problemOfError(error, { contiguousBytesWritten: writes.contiguousBytes });
  } finally {
    for (const { buffer } of held) job.pool.give(buffer);
  }
}

/** Collects the body into buffers that end at multiples of the I/O size. `take` gets each, and owns it. */
async function forEachCut(
  job: ReceiveJob,
  hash: Hash | null,
  take: (offset: number, buffer: Buffer) => Promise<void>,
): Promise<void> {
  const { range, request, watch, pool } = job;
  const ioBytes = streamIoBytes(job.device);
  const end = range.offset + range.length;
  let offset = range.offset;
  let buffer: Buffer | null = null;
  let filled = 0;
  try {
    watch.waitForClient();
    for await (const data of request.iterator({ destroyOnReturn: false })) {
      const piece = data as Buffer;
      watch.progress(piece.length);
      job.onReceived(piece.length);
      hash?.update(piece);
      for (let used = 0; used < piece.length; ) {
        if (offset === end) throw new HttpProblem('length-mismatch');
        buffer ??= pool.take(cutAt(offset, end, ioBytes) - offset);
        const copied = piece.copy(buffer, filled, used);
        used += copied;
        filled += copied;
        if (filled < buffer.length) continue;
        const full: Buffer = buffer;
        const at: number = offset;
        offset += full.length;
        buffer = null;
        filled = 0;
        watch.waitForDevice();
        await take(at, full);
        watch.waitForClient();
      }
    }
    if (offset !== end) throw new HttpProblem('length-mismatch');
  } finally {
    watch.waitForDevice();
    if (buffer !== null) pool.give(buffer);
  }
}
