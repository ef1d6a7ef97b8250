import type { PathStatus } from '#contracts/messages.ts';
import type { SlotRecord } from '#contracts/records.ts';
import { AccessState } from '#multipath/access.ts';
import type { MultipathDevice } from '#multipath/device.ts';
import type { PathEntry } from '#multipath/path-entry.ts';
import type { PathTroubles } from './path-troubles.ts';

/** What people see of the paths of a volume: those of its record, in service or not. */
export function pathStatus(
  volume: string,
  slots: readonly SlotRecord[],
  map: MultipathDevice | null,
  troubles: PathTroubles,
): PathStatus[] {
  return slots.map(({ slot, portal, worker }) => {
    const path = map?.paths.find((candidate) => candidate.slot === slot);
    return {
      volume,
      slot,
      portal: path?.meta.portal ?? portal,
      worker: path?.meta.worker ?? worker,
      state: path?.state ?? 'init',
      inflight: path?.outstanding ?? 0,
      reads: path?.reads ?? 0,
      writes: path?.writes ?? 0,
      errors: path?.errors ?? 0,
      latencyUs: Math.round((path?.latencyMs(false, 4096) ?? 0) * 1000),
      lastError: troubles.of(slot) || (path?.lastError ?? ''),
      ...accessOf(path),
    };
  });
}

/** Nothing for a device without access states. */
function accessOf(path: PathEntry | undefined): { access?: string } {
  if (path === undefined || path.access.state === AccessState.Any) return {};
  const { state, preferred } = path.access;
  return { access: preferred ? `${state}, preferred` : state };
}
