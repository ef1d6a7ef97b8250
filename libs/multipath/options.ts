import type { BlockCapabilities } from '../block/device.ts';
import type { Clock } from '../core/clock.ts';
import type { Rng } from '../core/rng.ts';
import type { Policy } from './selectors.ts';

export interface MultipathOptions {
  readonly name: string;
  readonly caps: BlockCapabilities;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly policy: Policy;
  /** How long an I/O may wait for a usable path before it fails. */
  readonly noPathRetryMs: number;
  /** Bytes that may wait for a path. */
  readonly noPathQueueBytes: number;
  /** An idle path is asked for a sign of life this long after its last good answer. */
  readonly probeIdleMs: number;
  /** Unflushed writes of a former owner may be gone. */
  readonly cacheMayBeLost?: boolean;
  /** The unit has a volatile cache after all. No change is acknowledged before this resolves; it does not reject. */
  readonly onCacheFound?: () => Promise<void>;
  /** A path is gone. The owner fences it (`needsFence`, `fenced`) and brings a new one (`addPath`). */
  readonly onPathLost: (slot: number, cause: Error) => void;
  readonly onEvent?: (event: MultipathEvent) => void;
}

export type PathEventKind = 'path-added' | 'path-lost' | 'path-removed' | 'attention' | 'resized';

export type MultipathEvent =
  | { readonly kind: PathEventKind; readonly slot: number; readonly text: string }
  | { readonly kind: 'cache-may-be-lost'; text: string };

export interface MultipathCounters {
  failovers: number;
  retries: number;
  unknownWrites: number;
}
