import { IO_BYTES_MAX } from '../core/limits.ts';
import type { Lent } from '../wire/lent.ts';
import { DONE, isAligned, isInside } from './checked.ts';
import {
  type BlockCapabilities,
  type BlockDevice,
  type Extent,
  type IoContext,
  LEND_BYTES_MIN,
  WriteFlag,
} from './device.ts';
import { blockErrors } from './errors.ts';
import { type GateEntry, gateEntry, RangeGate } from './range-gate.ts';

/** Pieces of one split request that are under way at a time. */
const SPLIT_PARALLEL_MAX = 8;

/** Spare tickets kept for reuse. */
const TICKETS_KEPT_MAX = 256;

/** A plain write inside the gate. Reused, with its callbacks bound once: none is made per write. */
class WriteTicket implements GateEntry {
  start = 0;
  end = 0;
  exclusive = false;
  blockers = 0;
  wake: (() => void) | null = null;
  previous: GateEntry | null = null;
  next: GateEntry | null = null;
  readonly onDone: () => void;
  readonly onFailed: (error: unknown) => never;

  constructor(leave: (ticket: WriteTicket) => void) {
    this.onDone = () => leave(this);
    this.onFailed = (error) => {
      leave(this);
      throw error;
    };
  }
}

/**
 * Makes a block device fit for what clients send: any offset, any length up to IO_BYTES_MAX (longer ones for trim and
 * writeZeroes), FUA whether the device has it or not. Aligned requests that fit pass straight through. What is not
 * aligned is read, modified and written under a lock on its blocks; what is too long is split.
 *
 * One per device, shared by all front doors (`byteDevice`): the lock only helps when every writer goes through it.
 */
export class ByteDevice implements BlockDevice {
  readonly #device: BlockDevice;
  readonly #gate = new RangeGate();
  readonly #tickets: WriteTicket[] = [];
  readonly #leave: (ticket: WriteTicket) => void;
  #caps: BlockCapabilities | null = null;
  #capsOf: BlockCapabilities | null = null;

  constructor(device: BlockDevice) {
    this.#device = device;
    this.#leave = (ticket) => {
      this.#gate.leave(ticket);
      if (this.#tickets.length < TICKETS_KEPT_MAX) this.#tickets.push(ticket);
    };
  }

  get name(): string {
    return this.#device.name;
  }

  /** Those of the device, in bytes. Follows the device when its capabilities change. */
  get caps(): BlockCapabilities {
    const inner = this.#device.caps;
    if (this.#caps === null || this.#capsOf !== inner) {
      this.#capsOf = inner;
      this.#caps = { ...inner, blockBytes: 1, maxIoBytes: IO_BYTES_MAX, fua: true };
    }
    return this.#caps;
  }

  read(offset: number, into: Buffer, io: IoContext): Promise<void> {
    const { caps } = this.#device;
    const length = into.length;
    if (!isInside(caps, offset, length)) return this.#outOfRange(offset, length);
    if (!isAligned(offset, length, caps.blockBytes)) return this.#readAround(offset, into, io);
    if (length > caps.maxIoBytes) return this.#readSplit(offset, into, io);
    return this.#device.read(offset, into, io);
  }

  /** Null as well for what does not pass straight through: `read` does the rest. */
  lend(offset: number, length: number, io: IoContext): Promise<Lent> | null {
    if (length < LEND_BYTES_MIN) return null;
    const device = this.#device;
    const { caps } = device;
    if (device.lend === undefined || length > caps.maxIoBytes) return null;
    if (!isInside(caps, offset, length) || !isAligned(offset, length, caps.blockBytes)) return null;
    return device.lend(offset, length, io);
  }

  write(offset: number, from: Buffer, flags: number, io: IoContext): Promise<void> {
    const { caps } = this.#device;
    const length = from.length;
    if (!isInside(caps, offset, length)) return this.#outOfRange(offset, length);
    if (!isAligned(offset, length, caps.blockBytes)) {
      return this.#modify(offset, length, flags, io, (blocks, at) => from.copy(blocks, at));
    }
    if (length === 0) return DONE;
    const ticket = this.#enter(offset, length);
    try {
      const done =
        ticket.blockers === 0
          ? this.#writeAligned(offset, from, flags, io)
          : this.#gate.ready(ticket).then(() => this.#writeAligned(offset, from, flags, io));
      return done.then(ticket.onDone, ticket.onFailed);
    } catch (error) {
      this.#leave(ticket); // a device that throws is broken, but must not block its neighbours' ranges
      throw error;
    }
  }

  flush(io: IoContext): Promise<void> {
    return this.#device.flush(io);
  }

  /** A hint: blocks that are only partly inside the range are left alone. */
  trim(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    const { caps } = this.#device;
    if (!isInside(caps, offset, length)) return this.#outOfRange(offset, length);
    const start = roundUp(offset, caps.blockBytes);
    const end = roundDown(offset + length, caps.blockBytes);
    if (start >= end) return DONE;
    return this.#gated(start, end - start, () =>
      this.#durable(flags, io, (passed) => this.#device.trim(start, end - start, passed, io)),
    );
  }

  writeZeroes(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    const { caps } = this.#device;
    if (!isInside(caps, offset, length)) return this.#outOfRange(offset, length);
    if (length === 0) return DONE;
    if (isAligned(offset, length, caps.blockBytes)) {
      return this.#gated(offset, length, () =>
        this.#durable(flags, io, (passed) => this.#device.writeZeroes(offset, length, passed, io)),
      );
    }
    if ((flags & WriteFlag.FastOnly) !== 0) {
      // A modification of the edges is never quicker than a write.
      return Promise.reject(
        blockErrors.make('BLOCK_UNSUPPORTED', {
          message: 'zeroes that are not on block boundaries are not fast',
          fields: { device: this.name, offset, length },
        }),
      );
    }
    return this.#zeroAround(offset, length, flags, io);
  }

  async extents(offset: number, length: number, io: IoContext): Promise<Extent[]> {
    const { caps } = this.#device;
    if (!isInside(caps, offset, length)) return this.#outOfRange(offset, length);
    if (length === 0) return [];
    const start = roundDown(offset, caps.blockBytes);
    const end = roundUp(offset + length, caps.blockBytes);
    const found = await this.#device.extents(start, end - start, io);
    return found.flatMap((extent) => {
      const from = Math.max(extent.offset, offset);
      const to = Math.min(extent.offset + extent.length, offset + length);
      return to <= from ? [] : [{ ...extent, offset: from, length: to - from }];
    });
  }

  compareAndWrite(
    offset: number,
    expected: Buffer,
    replacement: Buffer,
    io: IoContext,
  ): Promise<number> {
    const { caps } = this.#device;
    const length = expected.length;
    if (!isInside(caps, offset, length)) return this.#outOfRange(offset, length);
    if (!isAligned(offset, length, caps.blockBytes)) {
      const fields = { device: this.name, offset, length, blockBytes: caps.blockBytes };
      return Promise.reject(blockErrors.make('BLOCK_UNALIGNED', { fields }));
    }
    return this.#gated(offset, length, () =>
      this.#device.compareAndWrite(offset, expected, replacement, io),
    );
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  #outOfRange(offset: number, length: number): Promise<never> {
    const fields = { device: this.name, offset, length, sizeBytes: this.#device.caps.sizeBytes };
    return Promise.reject(blockErrors.make('BLOCK_OUT_OF_RANGE', { fields }));
  }

  #enter(offset: number, length: number): WriteTicket {
    const ticket = this.#tickets.pop() ?? new WriteTicket(this.#leave);
    ticket.start = offset;
    ticket.end = offset + length;
    this.#gate.enter(ticket);
    return ticket;
  }

  /** Runs something that changes the aligned range when no read-modify-write is at work there. */
  async #gated<T>(offset: number, length: number, run: () => Promise<T>): Promise<T> {
    const ticket = this.#enter(offset, length);
    try {
      if (ticket.blockers > 0) await this.#gate.ready(ticket);
      return await run();
    } finally {
      this.#leave(ticket);
    }
  }

  #writeAligned(offset: number, from: Buffer, flags: number, io: IoContext): Promise<void> {
    const { caps } = this.#device;
    if (from.length > caps.maxIoBytes) {
      return this.#durable(flags, io, (passed) =>
        this.#split(from.length, (at, bytes) =>
          this.#device.write(offset + at, from.subarray(at, at + bytes), passed, io),
        ),
      );
    }
    if ((flags & WriteFlag.Fua) === 0 || caps.fua) {
      return this.#device.write(offset, from, flags, io);
    }
    return this.#durable(flags, io, (passed) => this.#device.write(offset, from, passed, io));
  }

  /** Runs a change with the flags that the device understands, and flushes where it has no FUA of its own. */
  async #durable(
    flags: number,
    io: IoContext,
    run: (flags: number) => Promise<void>,
  ): Promise<void> {
    const { caps } = this.#device;
    if ((flags & WriteFlag.Fua) === 0 || caps.fua) return run(flags);
    await run(flags & ~WriteFlag.Fua);
    if (caps.volatileCache) await this.#device.flush(io);
  }

  #readSplit(offset: number, into: Buffer, io: IoContext): Promise<void> {
    return this.#split(into.length, (at, bytes) =>
      this.#device.read(offset + at, into.subarray(at, at + bytes), io),
    );
  }

  /**
   * Cuts `length` into pieces that the device takes, a few at a time. Settles when no piece is under way any
   * more (the buffer is in use until then), with the first error.
   */
  async #split(length: number, piece: (at: number, bytes: number) => Promise<void>): Promise<void> {
    const { caps } = this.#device;
    const pieceBytes = Math.max(caps.blockBytes, roundDown(caps.maxIoBytes, caps.blockBytes));
    let next = 0;
    let failed = false;
    let firstError: unknown;
    const lane = async (): Promise<void> => {
      while (next < length && !failed) {
        const at = next;
        next += pieceBytes;
        try {
          await piece(at, Math.min(pieceBytes, length - at));
        } catch (error) {
          if (!failed) firstError = error;
          failed = true;
        }
      }
    };
    const lanes: Promise<void>[] = [];
    for (let i = 0; i < SPLIT_PARALLEL_MAX; i++) lanes.push(lane());
    await Promise.all(lanes);
    if (failed) throw firstError;
  }

  async #readAround(offset: number, into: Buffer, io: IoContext): Promise<void> {
    const { blockBytes, maxIoBytes } = this.#device.caps;
    const start = roundDown(offset, blockBytes);
    const end = roundUp(offset + into.length, blockBytes);
    const blocks = Buffer.allocUnsafeSlow(end - start);
    if (blocks.length > maxIoBytes) await this.#readSplit(start, blocks, io);
    else await this.#device.read(start, blocks, io);
    blocks.copy(into, 0, offset - start, offset - start + into.length);
  }

  /** Reads the blocks at the edges of the range, changes its bytes with `fill(blocks, at)` and writes all of it. */
  async #modify(
    offset: number,
    length: number,
    flags: number,
    io: IoContext,
    fill: (blocks: Buffer, at: number) => void,
  ): Promise<void> {
    if (length === 0) return;
    const { blockBytes } = this.#device.caps;
    const start = roundDown(offset, blockBytes);
    const end = roundUp(offset + length, blockBytes);
    const entry = gateEntry(start, end, true);
    this.#gate.enter(entry);
    try {
      await this.#gate.ready(entry);
      const blocks = Buffer.allocUnsafeSlow(end - start);
      if (offset !== start) await this.#device.read(start, blocks.subarray(0, blockBytes), io);
      const tail = blocks.length - blockBytes;
      if (offset + length !== end && (tail > 0 || offset === start)) {
        await this.#device.read(start + tail, blocks.subarray(tail), io);
      }
      fill(blocks, offset - start);
      await this.#writeAligned(start, blocks, flags, io);
    } finally {
      this.#gate.leave(entry);
    }
  }

  /** Zeroes whole blocks as such, and the two edges by modification. */
  async #zeroAround(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    const { blockBytes } = this.#device.caps;
    const end = offset + length;
    const zero = (from: number, to: number): Promise<void> =>
      this.#modify(from, to - from, flags & WriteFlag.Fua, io, (blocks, at) =>
        blocks.fill(0, at, at + to - from),
      );
    const innerStart = roundUp(offset, blockBytes);
    const innerEnd = roundDown(end, blockBytes);
    if (innerStart >= innerEnd) {
      // One block, or the edges of two neighbours.
      if (innerStart > offset) await zero(offset, Math.min(innerStart, end));
      if (innerStart < end) await zero(Math.max(innerStart, offset), end);
      return;
    }
    if (offset < innerStart) await zero(offset, innerStart);
    await this.writeZeroes(innerStart, innerEnd - innerStart, flags, io);
    if (innerEnd < end) await zero(innerEnd, end);
  }
}

function roundDown(value: number, unit: number): number {
  return value - (value % unit);
}

function roundUp(value: number, unit: number): number {
  return roundDown(value + unit - 1, unit);
}

const byteDevices = new WeakMap<BlockDevice, ByteDevice>();

/** The byte device of `device`: the same one for everybody, so that its lock covers all writers of this process. */
export function byteDevice(device: BlockDevice): ByteDevice {
  if (device instanceof ByteDevice) return device;
  let bytes = byteDevices.get(device);
  if (bytes === undefined) {
    bytes = new ByteDevice(device);
    byteDevices.set(device, bytes);
  }
  return bytes;
}
