import { AccessState, ANY_ACCESS, accessRank, type PathAccess } from './access.ts';
import { type PathDevice, PathState } from './path.ts';

/** Size classes of the latency averages: small, middle, large I/O behave differently on one path. */
const SMALL_BYTES_MAX = 8 * 1024;
const MIDDLE_BYTES_MAX = 64 * 1024;
const SIZE_CLASSES = 3;

export const NO_RESET = Number.POSITIVE_INFINITY;

/** Weight of one new sample in the moving average. */
const EWMA_WEIGHT = 0.1;

export function sizeClass(bytes: number): number {
  if (bytes <= SMALL_BYTES_MAX) return 0;
  return bytes <= MIDDLE_BYTES_MAX ? 1 : 2;
}

export interface PathMeta {
  readonly portal: string;
  readonly worker: string;
}

/** One path in the map of a volume: its device, its state, and what the selectors need to know of it. */
export class PathEntry {
  readonly slot: number;
  readonly meta: PathMeta;
  readonly device: PathDevice;
  state: PathState;
  /** Access state of its target port group, as last heard. */
  access: PathAccess;
  /** Size of the unit, as last heard over this path; 0 while it does not tell there. */
  sizeBytes: number;
  lastError = '';
  outstanding = 0;
  outstandingBytes = 0;
  reads = 0;
  writes = 0;
  errors = 0;
  /** When the last GOOD answer came: any answer counts as a check. */
  lastGoodMs: number;
  probing = false;
  readonly addedMs: number;
  /** It is known to have seen all that happened to the target's cache; see CacheWatch. */
  witness = true;
  /** It told of a deferred error, which the next flush over it fails with as well. */
  deferred = false;
  /** Something was heard that puts its state in doubt. */
  probeSoon = false;
  /**
   * When our own LU reset hit it, until something that was sent later has succeeded: a unit attention 29h that comes in
   * between is of that reset and no power loss. NO_RESET else.
   */
  resetAtMs = NO_RESET;
  /** Current weight of smooth round robin. */
  roundRobin = 0;
  readonly #readMs = new Float64Array(SIZE_CLASSES);
  readonly #writeMs = new Float64Array(SIZE_CLASSES);

  constructor(slot: number, device: PathDevice, meta: PathMeta, nowMs: number) {
    this.slot = slot;
    this.device = device;
    this.meta = meta;
    this.lastGoodMs = nowMs;
    this.addedMs = nowMs;
    this.access = device.access ?? ANY_ACCESS;
    this.sizeBytes = device.caps.sizeBytes;
    this.state = this.servingState;
    // What the path said of itself may have changed on the way here.
    this.probeSoon = this.access.state !== AccessState.Any;
  }

  /** Ready, or ghost while the device takes no I/O over it. */
  get servingState(): PathState {
    return accessRank(this.access) > 0 ? PathState.Ready : PathState.Ghost;
  }

  begin(bytes: number): void {
    this.outstanding += 1;
    this.outstandingBytes += bytes;
  }

  end(bytes: number): void {
    this.outstanding -= 1;
    this.outstandingBytes -= bytes;
  }

  sample(isWrite: boolean, bytes: number, elapsedMs: number): void {
    const table = isWrite ? this.#writeMs : this.#readMs;
    const index = sizeClass(bytes);
    const old = table[index]!;
    table[index] = old === 0 ? elapsedMs : old + (elapsedMs - old) * EWMA_WEIGHT;
  }

  /** Average time of an I/O of this kind and size; 0 when none was seen yet. */
  latencyMs(isWrite: boolean, bytes: number): number {
    return (isWrite ? this.#writeMs : this.#readMs)[sizeClass(bytes)]!;
  }
}
