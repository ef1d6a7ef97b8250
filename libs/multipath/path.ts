import type { BlockDevice, IoContext } from '../block/device.ts';
import type { PathAccess } from './access.ts';

/**
 * One way to a volume, as the multipath device sees it: a block device that fails with honest outcomes
 * (core/errors.ts: not-executed, terminated, unknown, final), plus a probe.
 *
 * When the way is lost, every outstanding I/O of it rejects: what no socket was handed as `not-executed`, the
 * rest as `unknown`. After that it stays lost; a new attempt at the same slot is a new PathDevice.
 */
export interface PathDevice extends BlockDevice {
  /** How well the unit can be used over it now; left out where the device does not tell. Changes come as attentions. */
  readonly access?: PathAccess;
  /** Whether `lend` would, for this length. */
  lends?(length: number): boolean;
  /** Asks the logical unit itself (TEST UNIT READY), not the transport alone. */
  probe(io: IoContext): Promise<void>;
  /** Called once when the way is lost, with the first cause. Called at once when it is lost already. */
  onLost(fn: (cause: Error) => void): void;
  /** Called for every unit attention that the logical unit reports, before the answer to any later command. */
  onUnitAttention(fn: (attention: UnitAttention) => void): void;
}

/** POWER ON, RESET, OR BUS DEVICE RESET OCCURRED and its kin (SPC-4 annex F: 29h). */
export const ASC_POWER_ON_OR_RESET = 0x29;

/**
 * Additional sense code and qualifier of a UNIT ATTENTION (SPC-4 §4.5.6), with its text; or, with the same codes, what
 * was found out when the logical unit was asked about it.
 */
export interface UnitAttention {
  readonly asc: number;
  readonly ascq: number;
  readonly text: string;
  /** The access state of the path is this one from now on. */
  readonly access?: PathAccess;
  /** The unit has this size from now on. */
  readonly sizeBytes?: number;
  /** The unit has a cache from now on that it loses with its power. */
  readonly volatileCache?: true;
  /** No unit attention: an acknowledged write of this path has failed since (a deferred error, SPC-4 §4.5.7). */
  readonly deferred?: boolean;
}

/** Where a path stands in its life. The multipath device sends I/O to `ready` paths, `marginal` ones last. */
export const PathState = {
  Init: 'init',
  Ready: 'ready',
  Ghost: 'ghost',
  Marginal: 'marginal',
  Delayed: 'delayed',
  Fencing: 'fencing',
  Down: 'down',
  Disabled: 'disabled',
} as const;
export type PathState = (typeof PathState)[keyof typeof PathState];
