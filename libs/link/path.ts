import {
  type BlockCapabilities,
  type Extent,
  type IoContext,
  NO_DEADLINE,
} from '../block/device.ts';
import { isOrionError, type Outcome } from '../core/errors.ts';
import { LINK_PAYLOAD_BYTES_MAX } from '../core/limits.ts';
import type { PathAccess } from '../multipath/access.ts';
import type { PathDevice, UnitAttention } from '../multipath/path.ts';
import type { Lent } from '../wire/lent.ts';
import type { LinkClient } from './client.ts';
import { FrameType } from './frame.ts';
import { SHARED_BYTES_MIN } from './memory.ts';

export interface LinkPathOptions {
  readonly name: string;
  readonly caps: BlockCapabilities;
  /** As the worker told when it attached the unit; changes come as attentions. */
  readonly access?: PathAccess | undefined;
  readonly handle: number;
  readonly incarnation: number;
  readonly epoch: number;
}

/** Worst first: what is known of an I/O whose parts ended differently. */
const WORST: readonly Outcome[] = ['unknown', 'final', 'terminated', 'not-executed'];

/** A path that a worker in another process holds: the remote BlockDevice. */
export class LinkPath implements PathDevice {
  readonly name: string;
  readonly caps: BlockCapabilities;
  readonly access?: PathAccess;
  readonly #link: LinkClient;
  readonly #handle: number;
  readonly #incarnation: number;
  readonly #epoch: number;
  #lost: Error | null = null;
  readonly #listeners: ((cause: Error) => void)[] = [];

  constructor(link: LinkClient, options: LinkPathOptions) {
    this.name = options.name;
    this.caps = options.caps;
    if (options.access !== undefined) this.access = options.access;
    this.#link = link;
    this.#handle = options.handle;
    this.#incarnation = options.incarnation;
    this.#epoch = options.epoch;
    link.onPathLost(options.handle, (cause) => {
      this.#lost = cause;
      for (const listener of this.#listeners.splice(0)) listener(cause);
    });
    // A path that carries no I/O yet may be lost too. Should it be gone already, `onPathLost` tells.
    this.#send(FrameType.Watch, 0, 0, 0, null, NO_DEADLINE).catch(() => {});
  }

  read(offset: number, into: Buffer, io: IoContext): Promise<void> {
    if (into.length > LINK_PAYLOAD_BYTES_MAX) {
      return inParts(into.length, (at, end) =>
        this.#send(FrameType.Read, offset + at, end - at, 0, into.subarray(at, end), io),
      );
    }
    return this.#send(FrameType.Read, offset, into.length, 0, into, io) as Promise<void>;
  }

  lends(length: number): boolean {
    const fits = length >= SHARED_BYTES_MIN && length <= LINK_PAYLOAD_BYTES_MAX;
    return fits && this.#link.sharesMemory;
  }

  lend(offset: number, length: number, io: IoContext): Promise<Lent> | null {
    if (!this.lends(length)) return null;
    return this.#send(FrameType.Read, offset, length, 0, null, io) as Promise<Lent>;
  }

  write(offset: number, from: Buffer, flags: number, io: IoContext): Promise<void> {
    if (from.length > LINK_PAYLOAD_BYTES_MAX) {
      return inParts(from.length, (at, end) =>
        this.#send(FrameType.Write, offset + at, end - at, flags, from.subarray(at, end), io),
      );
    }
    return this.#send(FrameType.Write, offset, from.length, flags, from, io) as Promise<void>;
  }

  flush(io: IoContext): Promise<void> {
    return this.#send(FrameType.Flush, 0, 0, 0, null, io) as Promise<void>;
  }

  trim(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    return this.#send(FrameType.Trim, offset, length, flags, null, io) as Promise<void>;
  }

  writeZeroes(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    return this.#send(FrameType.Zero, offset, length, flags, null, io) as Promise<void>;
  }

  extents(offset: number, length: number, io: IoContext): Promise<Extent[]> {
    return this.#send(FrameType.Extents, offset, length, 0, null, io) as Promise<Extent[]>;
  }

  compareAndWrite(
    offset: number,
    expected: Buffer,
    replacement: Buffer,
    io: IoContext,
  ): Promise<number> {
    const length = expected.length + replacement.length;
    const type = FrameType.CompareWrite;
    return this.#send(type, offset, length, 0, replacement, io, expected) as Promise<number>;
  }

  probe(io: IoContext): Promise<void> {
    return this.#send(FrameType.Probe, 0, 0, 0, null, io) as Promise<void>;
  }

  onLost(fn: (cause: Error) => void): void {
    if (this.#lost !== null) fn(this.#lost);
    else this.#listeners.push(fn);
  }

  onUnitAttention(fn: (attention: UnitAttention) => void): void {
    this.#link.onAttention(this.#handle, fn);
  }

  /** The worker keeps the session until it is told to release it. */
  async close(): Promise<void> {}

  #send(
    type: FrameType,
    offset: number,
    length: number,
    flags: number,
    buffer: Buffer | null,
    io: IoContext,
    expected: Buffer | null = null,
  ): Promise<unknown> {
    // A read that nobody has given a buffer for.
    const lends = type === FrameType.Read && buffer === null;
    return new Promise((resolve, reject) => {
      this.#link.send({
        type,
        handle: this.#handle,
        incarnation: this.#incarnation,
        epoch: this.#epoch,
        flags,
        offset,
        length,
        buffer,
        expected,
        lends,
        trace: io.trace,
        creditBytes: buffer === null && !lends ? 0 : length,
        resolve,
        reject,
      });
    });
  }
}

/** A long I/O in frames of the allowed size, all at once. Settles when every part has; the worst outcome wins. */
async function inParts(
  length: number,
  part: (at: number, end: number) => Promise<unknown>,
): Promise<void> {
  const parts: Promise<unknown>[] = [];
  for (let at = 0; at < length; at += LINK_PAYLOAD_BYTES_MAX) {
    parts.push(part(at, Math.min(at + LINK_PAYLOAD_BYTES_MAX, length)));
  }
  const failed: unknown[] = [];
  for (const result of await Promise.allSettled(parts)) {
    if (result.status === 'rejected') failed.push(result.reason);
  }
  if (failed.length === 0) return;
  const rank = (error: unknown): number => (isOrionError(error) ? WORST.indexOf(error.outcome) : 0);
  throw failed.reduce((worst, error) => (rank(error) < rank(worst) ? error : worst));
}
