import type { VolumeRecord } from '#contracts/records.ts';
import { errorText } from '#core/errors.ts';
import type { MultipathDevice } from '#multipath/device.ts';
import { PathState } from '#multipath/path.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Ownership } from './ownership.ts';
import type { Sealed } from './seal.ts';

/**
 * Keeps in the record of a volume what its next owner must know of the target's volatile cache: whether unflushed writes
 * may stand in it, whether they may be gone, and which sessions have seen everything since (CacheWatch).
 */
export class CacheRecord {
  readonly #ownership: Ownership;
  readonly #log: Logger;
  #noting = false;

  constructor(ownership: Ownership, log: Logger) {
    this.#ownership = ownership;
    this.#log = log;
  }

  /** What the former owner left: true when a flush must not say that all of it is durable, unless somebody vouches. */
  inheritsLoss({ served }: Sealed): boolean {
    // A record that was made anew, while the volume has been served: what it knew went with the store of the bus.
    const forgotten = served && this.#ownership.isNew;
    return this.#ownership.record.cache !== undefined || forgotten;
  }

  /** No loss is known, and there are sessions that would know. */
  canBeVouchedFor({ witnesses }: Sealed): boolean {
    return this.#ownership.record.cache === 'dirty' && witnesses.length > 0;
  }

  /** Notes the doubt before anything else: we may die as well before a flush has told of it. */
  async inherit(): Promise<void> {
    this.#log.warn('unflushed writes of the former owner may be gone');
    await this.#ownership.change((record) => ({ ...record, cache: 'lost' }));
  }

  /** Brings the record up to date; the next call does it when the bus cannot be reached. */
  note(map: MultipathDevice): void {
    if (this.#noting || sameCache(this.#ownership.record, withCache(map, this.#ownership.record))) {
      return;
    }
    this.#noting = true;
    this.#ownership
      .change((record) => withCache(map, record))
      // A successor that does not know better takes what was not flushed for lost.
      .catch((error) => this.#log.debug({ err: errorText(error) }, 'cache state was not noted'))
      .finally(() => {
        this.#noting = false;
      });
  }

  /** A cache was found. Resolves when the record says so, or the bus cannot be reached: then `note` does it later. */
  async found(map: MultipathDevice): Promise<void> {
    try {
      await this.#ownership.change((record) => withCache(map, record));
    } catch (error) {
      this.#log.warn({ err: errorText(error) }, 'the next owner is not told of the cache yet');
    }
  }

  /** All is durable, and nobody can write any more. */
  async clear(): Promise<void> {
    await this.#ownership.change(withoutCache);
  }
}

/** The record with the cache as this owner sees it. */
export function withCache(map: MultipathDevice, record: VolumeRecord): VolumeRecord {
  if (!map.caps.volatileCache) return withoutCache(record);
  const witnesses = new Set(
    map.paths
      .filter(({ state, witness }) => witness && state !== PathState.Fencing)
      .map(({ slot }) => slot),
  );
  return {
    ...record,
    cache: map.cacheLossPending ? 'lost' : 'dirty',
    slots: record.slots.map((slot) => ({
      ...slot,
      witness: slot.state === 'assigned' && witnesses.has(slot.slot),
    })),
  };
}

function withoutCache({ cache: _, ...record }: VolumeRecord): VolumeRecord {
  return record;
}

function sameCache(a: VolumeRecord, b: VolumeRecord): boolean {
  if (a.cache !== b.cache) return false;
  return a.slots.every(({ witness }, i) => (witness ?? false) === (b.slots[i]!.witness ?? false));
}
