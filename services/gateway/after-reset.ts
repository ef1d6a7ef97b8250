import { NO_DEADLINE } from '#block/device.ts';
import { type Clock, sleep } from '#core/clock.ts';
import type { MultipathDevice } from '#multipath/device.ts';
import { WORKING } from './reconnect.ts';

/**
 * The unit was reset by us, and I/O is still held back: has every path show that it has survived. Some targets (istgt) drop
 * all connections then; what was sent over them before we notice would need the next reset, and so on for ever.
 */
export async function askAfterReset(
  map: MultipathDevice,
  clock: Clock,
  timeoutMs: number,
): Promise<void> {
  map.wasReset();
  const asked = map.paths
    .filter(({ state }) => WORKING.has(state))
    // One that fails says so by its own loss.
    .map(({ device }) => device.probe(NO_DEADLINE));
  await Promise.race([Promise.allSettled(asked), sleep(clock, timeoutMs)]);
}
