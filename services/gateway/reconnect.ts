import type { ReconnectReply } from '#contracts/messages.ts';
import { type Clock, sleep } from '#core/clock.ts';
import type { MultipathDevice } from '#multipath/device.ts';
import { PathState } from '#multipath/path.ts';
import type { PathEntry } from '#multipath/path-entry.ts';
import { gatewayErrors } from './errors.ts';

/** The path comes back within this, or the operator is told that it has not. */
const RETURN_TIMEOUT_MS = 10_000;

/** Paths whose session can be ended in good order: they work, whether or not they take I/O now. */
export const WORKING: ReadonlySet<PathState> = new Set([PathState.Ready, PathState.Ghost]);

export interface Moved {
  /** Resolves when the path is in service, or the volume is given up. */
  readonly isBack: Promise<void>;
}

export interface ReconnectPorts {
  readonly volume: string;
  readonly map: MultipathDevice | null;
  readonly clock: Clock;
  /** How long I/O waits when there is no path. */
  readonly noPathRetryMs: number;
  /** Takes the path out, drained and logged out, and brings it back. Null: it was left, since its I/O does not end. */
  move(map: MultipathDevice): Promise<Moved | null>;
}

/**
 * Logs a path out and in again on the order of an operator. The path gets no new I/O and is drained first, so that there
 * is nothing to fence; meanwhile the other paths carry the volume, or I/O waits.
 */
export async function reconnectPath(ports: ReconnectPorts, slot: number): Promise<ReconnectReply> {
  const { volume, map } = ports;
  const fields = { volume, slot };
  const entry = entryOf(ports, slot);
  if (map === null || entry === undefined || !WORKING.has(entry.state)) {
    throw gatewayErrors.make('GATEWAY_NO_PATH', { fields });
  }
  const isLast = entry.state === PathState.Ready && map.readyCount === 1;
  if (isLast && ports.noPathRetryMs === 0) {
    throw gatewayErrors.make('GATEWAY_LAST_PATH', { fields });
  }
  const moved = await ports.move(map);
  if (moved === null) {
    // One that was lost while it drained is logged in anew by its recovery.
    const isThere = entryOf(ports, slot) === entry;
    throw gatewayErrors.make(isThere ? 'GATEWAY_PATH_BUSY' : 'GATEWAY_NO_PATH', { fields });
  }
  await Promise.race([moved.isBack, sleep(ports.clock, RETURN_TIMEOUT_MS)]);
  const back = entryOf(ports, slot);
  if (back === undefined || !WORKING.has(back.state)) {
    throw gatewayErrors.make('GATEWAY_PATH_AWAY', { fields });
  }
  return { portal: back.meta.portal, worker: back.meta.worker };
}

function entryOf({ map }: ReconnectPorts, slot: number): PathEntry | undefined {
  return map?.paths.find((path) => path.slot === slot);
}
