import type { SlotRecord } from '#contracts/records.ts';
import { errorText, isOrionError } from '#core/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Ownership } from './ownership.ts';
import type { Workers } from './workers.ts';

/** For the commands of the older epoch to end. */
const SEAL_TIMEOUT_MS = 1_000;

export interface SealOptions {
  readonly ownership: Ownership;
  readonly workers: Workers;
  readonly log: Logger;
  /** False: the unit may not be reset, so a path that was never used, as far as the record goes, is taken for clean. */
  readonly mayReset: boolean;
  /** This gateway has served the volume before. */
  readonly knownHere: boolean;
}

export interface Sealed {
  /**
   * Slots of which nothing can be in flight: given back in good order, or held by a worker that has sealed and drained
   * the very incarnation that the record calls settled.
   */
  readonly clean: ReadonlySet<number>;
  /** Settled sessions that saw all that happened to the target, and could be flushed a moment ago. */
  readonly witnesses: readonly SlotRecord[];
  /** It has been served before, or may have been, of which the record may know nothing. */
  readonly served: boolean;
  /** The newest epoch that anybody knows. */
  readonly newest: number;
}

/** Has every worker refuse older epochs of the volume, and learns what they can vouch for (failover.md §6.4). */
export async function sealVolume(options: SealOptions): Promise<Sealed> {
  const { ownership, workers, log, mayReset, knownHere } = options;
  const { name, epoch, slots } = ownership.record;
  const asked = new Set(workers.alive().map(({ id }) => id));
  for (const { worker } of slots) if (worker !== '') asked.add(worker);
  const drained = new Set<string>();
  const emptied = new Set<string>();
  let newest = epoch;
  let served = knownHere;
  await Promise.all(
    [...asked].map(async (worker) => {
      try {
        const reply = await workers.seal(worker, name, epoch, SEAL_TIMEOUT_MS);
        served ||= reply.served;
        for (const { slot, incarnation, flushed } of reply.slots) {
          drained.add(`${worker}/${slot}/${incarnation}`);
          if (flushed) emptied.add(`${worker}/${slot}/${incarnation}`);
        }
      } catch (error) {
        newest = Math.max(newest, epochSeen(error));
        // One that is there and cannot answer may know more than the record.
        served ||= !isOrionError(error) || error.code !== 'BUS_NO_RESPONDER';
        log.warn({ worker, err: errorText(error) }, 'worker did not seal the older epoch');
      }
    }),
  );
  const clean = slots.filter(
    ({ slot, worker, incarnation, state }) =>
      state === 'idle' ||
      (incarnation === 0 && !mayReset) ||
      (state === 'assigned' && drained.has(`${worker}/${slot}/${incarnation}`)),
  );
  const witnesses = slots.filter(
    ({ slot, worker, incarnation, state, witness }) =>
      state === 'assigned' && witness === true && emptied.has(`${worker}/${slot}/${incarnation}`),
  );
  return { witnesses, served, clean: new Set(clean.map(({ slot }) => slot)), newest };
}

/**
 * When nothing of an older epoch can be acknowledged any more: makes all of it durable over a session that a worker still
 * holds. True when a witness did. The flushes of the seal itself do not say that: each began when its own worker had
 * drained, while the former owner may still have been served by another.
 */
export async function flushSealed(
  { ownership, workers, log }: SealOptions,
  witnesses: readonly SlotRecord[],
): Promise<boolean> {
  const { name, epoch } = ownership.record;
  const asked = [...new Set(witnesses.map(({ worker }) => worker))];
  const flushed = await Promise.all(
    asked.map(async (worker) => {
      try {
        const { slots } = await workers.seal(worker, name, epoch, SEAL_TIMEOUT_MS);
        return slots.some((held) => held.flushed && witnesses.some(isOf(worker, held)));
      } catch (error) {
        log.warn({ worker, err: errorText(error) }, 'worker could not flush for the former owner');
        return false;
      }
    }),
  );
  return flushed.includes(true);
}

function isOf(worker: string, held: { slot: number; incarnation: number }) {
  return (record: SlotRecord): boolean =>
    record.worker === worker &&
    record.slot === held.slot &&
    record.incarnation === held.incarnation;
}

/** The epoch that a worker has seen, when it refused ours as stale; else 0. */
function epochSeen(error: unknown): number {
  if (!isOrionError(error) || error.code !== 'LINK_EPOCH_STALE') return 0;
  return typeof error.fields.seen === 'number' ? error.fields.seen : 0;
}
