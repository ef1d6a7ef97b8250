import type { SlotRecord } from '#contracts/records.ts';
import { type Clock, sleep } from '#core/clock.ts';
import { errorText } from '#core/errors.ts';
import type { MultipathDevice } from '#multipath/device.ts';
import type { Logger } from '#telemetry/log.ts';
import type { CacheRecord } from './cache-record.ts';
import type { Ownership } from './ownership.ts';
import { WORKING } from './reconnect.ts';

const DRAIN_TIMEOUT_MS = 5_000;
const EMPTY_CACHE_TIMEOUT_MS = 5_000;

interface GiveBackOptions {
  readonly ownership: Ownership;
  readonly cache: CacheRecord;
  readonly clock: Clock;
  readonly log: Logger;
  readonly release: (record: SlotRecord) => Promise<void>;
}

/**
 * Ends an ownership in good order, so that the next owner has nothing to fence and nothing to doubt: no I/O any more, what
 * was acknowledged made durable, every path logged out of.
 */
export async function giveBack(map: MultipathDevice, options: GiveBackOptions): Promise<void> {
  await map.quiesce(DRAIN_TIMEOUT_MS);
  const durable = await emptyCache(map, options);
  await logOut(map, options);
  if (!durable) return;
  try {
    await options.cache.clear();
  } catch (error) {
    options.log.warn({ err: errorText(error) }, 'the next owner is not told that all is flushed');
  }
}

async function emptyCache(map: MultipathDevice, { clock, log }: GiveBackOptions): Promise<boolean> {
  if (map.paths.some(({ outstanding }) => outstanding > 0)) return false;
  const late = sleep(clock, EMPTY_CACHE_TIMEOUT_MS).then(() => false);
  return Promise.race([map.emptyCache(), late]).catch((error) => {
    log.warn({ err: errorText(error) }, 'the cache of the target could not be flushed');
    return false;
  });
}

/** Logs out of every path that has nothing in flight. What fails is fenced by the next owner. */
async function logOut(map: MultipathDevice, options: GiveBackOptions): Promise<void> {
  const { ownership, log, release } = options;
  const drained = new Set(
    map.paths
      .filter(({ state, outstanding }) => WORKING.has(state) && outstanding === 0)
      .map(({ slot }) => slot),
  );
  for (const record of ownership.record.slots) {
    if (record.state !== 'assigned' || !drained.has(record.slot)) continue;
    try {
      await release(record);
      await ownership.changeSlot(record.slot, { state: 'idle' });
    } catch (error) {
      log.warn({ slot: record.slot, err: errorText(error) }, 'a path was not given back');
    }
  }
}
