import { LEND_BYTES_MIN } from '../block/device.ts';
import { assert } from '../core/assert.ts';
import { sharedPool } from '../wire/buffer-pool.ts';
import { type Lent, pooled } from '../wire/lent.ts';
import type { Address, Network } from '../wire/network.ts';
import type { OfferedRegion, SharedMemory, SharedRegion } from '../wire/shared-memory.ts';
import { Arena, PAGE_BYTES } from './arena.ts';

/** Of one link. The system gives the pages as they are first used; what does not fit goes over the socket. */
export const LINK_MEMORY_BYTES = 64 * 1024 * 1024;

/** Shorter payloads go with their frame: one copy more is cheaper than a second place to look at. */
export const SHARED_BYTES_MIN = LEND_BYTES_MIN;

/** The memory that both ends of this address see, if there is such. */
export function memoryAt(network: Network, address: Address): SharedMemory | null {
  return address.kind === 'unix' ? (network.sharedMemory ?? null) : null;
}

/** So much of it is lent at a time: clients that are slow to take what they have read leave the rest to others. */
export const LENT_BYTES_MAX = LINK_MEMORY_BYTES / 2;

/**
 * The gateway's end of the memory of one link. Nothing but payloads of this link is ever in it, and a place is in use until the
 * worker has answered: a worker that was given up while it hung may still write there, and reaches no buffer of a request that
 * has gone on over another path. What a worker has answered it does not touch again: that may be used in place.
 */
export class GatewayMemory {
  readonly #region: OfferedRegion;
  readonly #arena = new Arena(LINK_MEMORY_BYTES);
  #lentBytes = 0;
  #released = false;

  private constructor(region: OfferedRegion) {
    this.#region = region;
  }

  /** Null when there is none to be had: then all payloads go over the socket. */
  static offer(shared: SharedMemory | null): GatewayMemory | null {
    try {
      return shared === null ? null : new GatewayMemory(shared.offer(LINK_MEMORY_BYTES));
    } catch {
      return null;
    }
  }

  get name(): string {
    return this.#region.name;
  }

  /** The worker has answered: the name is not needed any more. */
  settle(): void {
    this.#region.settle();
  }

  /** The page of a place for `bytes`, or -1. */
  take(bytes: number): number {
    return this.#arena.take(bytes);
  }

  give(page: number): void {
    this.#arena.give(page);
  }

  copyIn(page: number, from: Buffer): void {
    from.copy(this.#region.bytes, page * PAGE_BYTES);
  }

  copyOut(page: number, into: Buffer): void {
    const at = page * PAGE_BYTES;
    this.#region.bytes.copy(into, 0, at, at + into.length);
  }

  /** What was read, in its place; or a copy, where too much is lent already. */
  lend(page: number, length: number): Lent {
    const at = page * PAGE_BYTES;
    const bytes = this.#region.bytes.subarray(at, at + length);
    const placeBytes = this.#arena.bytesOf(page);
    if (this.#lentBytes + placeBytes > LENT_BYTES_MAX) {
      const copy = sharedPool.take(length);
      bytes.copy(copy);
      this.give(page);
      return pooled(sharedPool, copy);
    }
    this.#lentBytes += placeBytes;
    let lent = true;
    const giveBack = (): void => {
      assert(lent, 'what was lent is given back once');
      lent = false;
      this.#lentBytes -= placeBytes;
      this.give(page);
      this.#letGo();
    };
    return { bytes, giveBack };
  }

  /** The link has ended: no request uses it any more, but what is lent stays what it is. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#region.settle();
    this.#letGo();
  }

  #letGo(): void {
    if (this.#released && this.#lentBytes === 0) this.#region.release();
  }
}

/** The worker's end: the target's bytes go there and come from there with no copy. */
export class WorkerMemory {
  readonly #region: SharedRegion;

  /** Throws what the system says. */
  constructor(shared: SharedMemory, name: string) {
    this.#region = shared.open(name, LINK_MEMORY_BYTES);
  }

  /** Null when it is not all within the memory. */
  view(page: number, length: number): Buffer | null {
    const at = page * PAGE_BYTES;
    const { bytes } = this.#region;
    return at + length <= bytes.length ? bytes.subarray(at, at + length) : null;
  }

  /** Only when no request uses any of it. */
  release(): void {
    this.#region.release();
  }
}
