import type { BlockCapabilities, Extent, IoContext } from '../block/device.ts';
import type { PathAccess } from '../multipath/access.ts';
import type { PathDevice, UnitAttention } from '../multipath/path.ts';

/** Who holds paths for others: a worker. The link server and the plain calls of one process come through here. */
export interface PathHost {
  /**
   * The device behind a claim, if the caller may use it now. Throws LINK_NO_SLOT when the claim is not held (any
   * more) and LINK_EPOCH_STALE when a newer owner has sealed the volume (failover.md I8). Called for every I/O.
   */
  open(handle: number, incarnation: number, epoch: number): PathDevice;
}

/** Workers in this process, by id: their paths are plain calls. */
export type LocalWorkers = Map<string, PathHost>;

/** A path held by a worker of this same process. Every call checks the caller's epoch, as a link frame would. */
export class LocalPath implements PathDevice {
  readonly name: string;
  readonly caps: BlockCapabilities;
  readonly access?: PathAccess;
  readonly #host: PathHost;
  readonly #handle: number;
  readonly #incarnation: number;
  readonly #epoch: number;

  constructor(host: PathHost, handle: number, incarnation: number, epoch: number) {
    this.#host = host;
    this.#handle = handle;
    this.#incarnation = incarnation;
    this.#epoch = epoch;
    const device = this.#open();
    this.name = device.name;
    this.caps = device.caps;
    if (device.access !== undefined) this.access = device.access;
  }

  #open(): PathDevice {
    return this.#host.open(this.#handle, this.#incarnation, this.#epoch);
  }

  read(offset: number, into: Buffer, io: IoContext): Promise<void> {
    try {
      return this.#open().read(offset, into, io);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  write(offset: number, from: Buffer, flags: number, io: IoContext): Promise<void> {
    try {
      return this.#open().write(offset, from, flags, io);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async flush(io: IoContext): Promise<void> {
    return this.#open().flush(io);
  }

  async trim(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    return this.#open().trim(offset, length, flags, io);
  }

  async writeZeroes(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    return this.#open().writeZeroes(offset, length, flags, io);
  }

  async extents(offset: number, length: number, io: IoContext): Promise<Extent[]> {
    return this.#open().extents(offset, length, io);
  }

  async compareAndWrite(
    offset: number,
    expected: Buffer,
    replacement: Buffer,
    io: IoContext,
  ): Promise<number> {
    return this.#open().compareAndWrite(offset, expected, replacement, io);
  }

  async probe(io: IoContext): Promise<void> {
    return this.#open().probe(io);
  }

  onLost(fn: (cause: Error) => void): void {
    this.#open().onLost(fn);
  }

  onUnitAttention(fn: (attention: UnitAttention) => void): void {
    this.#open().onUnitAttention(fn);
  }

  /** The worker keeps the session until it is told to release it. */
  async close(): Promise<void> {}
}
