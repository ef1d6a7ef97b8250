import type { BlockDevice, IoContext } from '../block/device.ts';

/**
 * One way to a volume, as the multipath device sees it: a block device that fails with honest outcomes
 * (core/errors.ts: not-executed, terminated, unknown, final), plus a probe.
 *
 * When the way is lost, every outstanding I/O of it rejects: what no socket was handed as `not-executed`, the
 * rest as `unknown`. After that it stays lost; a new attempt at the same slot is a new PathDevice.
 */
export interface PathDevice extends BlockDevice {
  /** Asks the logical unit itself (TEST UNIT READY), not the transport alone. */
  probe(io: IoContext): Promise<void>;
  /** Called once when the way is lost, with the first cause. Called at once when it is lost already. */
  onLost(fn: (cause: Error) => void): void;
  /** Called for every unit attention that the logical unit reports, before the answer to any later command. */
  onUnitAttention(fn: (attention: UnitAttention) => void): void;
}

/** Additional sense code and qualifier of a UNIT ATTENTION (SPC-4 §4.5.6), with its text. */
export interface UnitAttention {
  readonly asc: number;
  readonly ascq: number;
  readonly text: string;
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
