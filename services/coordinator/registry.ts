import { createHash } from 'node:crypto';
import type { KeyValue } from '#bus/bus.ts';
import type { Member } from '#cluster/membership.ts';
import { placeVolume } from '#cluster/placement.ts';
import type { VolumePlan } from '#config/derive.ts';
import { checked } from '#contracts/check.ts';
import {
  RECORD_SLOTS_MAX,
  RECORD_VERSION,
  type SlotRecord,
  SlotTableRecord,
  VolumeRecord,
} from '#contracts/records.ts';
import { volumeKey } from '#contracts/subjects.ts';
import type { Clock } from '#core/clock.ts';
import { isOrionError } from '#core/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { coordinatorErrors } from './errors.ts';

/** ISIDs carry 16 bits of slot number. */
const SLOTS_PER_TARGET = 0x10000;
const CAS_ATTEMPTS_MAX = 8;
const EPOCH_ZERO_MS = Date.UTC(2026, 0, 1);

export interface RegistryOptions {
  readonly kv: KeyValue;
  readonly plans: readonly VolumePlan[];
  readonly clock: Clock;
  readonly log: Logger;
}

/** The volume records as the leader keeps them: every configured volume has one, with an owner that lives. */
export class Registry {
  readonly #options: RegistryOptions;
  /** The records as they were last seen, or written here. */
  readonly #seen = new Map<string, VolumeRecord>();

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  async round(gateways: readonly Member[]): Promise<void> {
    if (gateways.length === 0) return;
    for (const plan of this.#options.plans) await this.#ensureOwner(plan, gateways);
  }

  /** What a coordinator does that does not lead: it may have to, after the store of the bus was lost. */
  async look(): Promise<void> {
    for (const { volume } of this.#options.plans) await this.#read(volume.name);
  }

  async #read(name: string): Promise<{ record: VolumeRecord | null; revision: number | null }> {
    const entry = await this.#options.kv.get(volumeKey(name));
    if (entry === null) return { record: null, revision: null };
    const record = checked(VolumeRecord, entry.value, `record of ${name}`);
    this.#seen.set(name, record);
    return { record, revision: entry.revision };
  }

  async #ensureOwner(plan: VolumePlan, gateways: readonly Member[]): Promise<void> {
    const { kv, log } = this.#options;
    const key = volumeKey(plan.volume.name);
    const { record, revision } = await this.#read(plan.volume.name);
    const living = gateways.some(
      ({ id, incarnation }) => id === record?.owner && incarnation === record.ownerIncarnation,
    );
    if (record !== null && living) return;
    const placed = placeVolume(
      plan.volume.name,
      gateways.map(({ id, node }) => ({ id, node })),
    );
    const owner = gateways.find(({ id }) => id === placed);
    if (owner === undefined) return;
    const next: VolumeRecord = {
      ...(await this.#recordFor(plan, record)),
      owner: owner.id,
      ownerIncarnation: owner.incarnation,
      epoch: (record?.epoch ?? this.#firstEpoch()) + 1,
      state: 'sealing',
    };
    try {
      if (revision === null) await kv.create(key, next);
      else await kv.update(key, next, revision);
    } catch (error) {
      // Somebody else changed it: the next round looks again.
      if (isOrionError(error) && error.code === 'BUS_KV_CONFLICT') return;
      // It may have been written all the same, and be lost before anybody reads it.
      this.#seen.set(next.name, next);
      throw error;
    }
    this.#seen.set(next.name, next);
    log.info({ volume: next.name, owner: next.owner, epoch: next.epoch }, 'volume placed');
  }

  /**
   * Where epochs of a new record begin: seconds since 2026, so that a record that was lost with the store of the bus and is
   * made anew is in a newer epoch than the old one. Should clocks disagree, the workers' memory corrects it.
   */
  #firstEpoch(): number {
    return Math.max(0, Math.floor((this.#options.clock.wallMs() - EPOCH_ZERO_MS) / 1000));
  }

  /**
   * What the new owner starts from: the record as it is, with the paths that the configuration has now. A path that it has
   * no longer stays in the record, disabled, until the owner has made sure that nothing was left in flight on it.
   */
  async #recordFor(
    plan: VolumePlan,
    old: VolumeRecord | null,
  ): Promise<Omit<VolumeRecord, 'owner' | 'ownerIncarnation' | 'epoch' | 'state'>> {
    // Another unit altogether: what was in flight to the old one cannot hurt it.
    const same = old !== null && old.target === plan.target && old.lun === plan.lun;
    if (old !== null && !same) {
      this.#options.log.warn(
        { volume: old.name, from: `${old.target} ${old.lun}`, to: `${plan.target} ${plan.lun}` },
        'the volume is made of another logical unit now',
      );
    }
    const slots: SlotRecord[] = [];
    for (const portal of plan.portals) {
      const slot = await this.#takeSlot(plan.target, `${plan.volume.name}|${portal}`);
      const known = same ? old.slots.find((candidate) => candidate.slot === slot) : undefined;
      if (known === undefined) {
        slots.push({ slot, portal, worker: '', incarnation: 0, tpgt: -1, state: 'fencing' });
      } else if (known.state === 'disabled') slots.push({ ...known, state: 'fencing' });
      else slots.push(known);
    }
    if (same) {
      const left = old.slots.filter(
        ({ slot, incarnation }) => incarnation > 0 && !slots.some((kept) => kept.slot === slot),
      );
      for (const slot of left) slots.push({ ...slot, state: 'disabled' });
    }
    return {
      v: RECORD_VERSION,
      name: plan.volume.name,
      target: plan.target,
      lun: plan.lun,
      slots: slots.slice(0, RECORD_SLOTS_MAX),
      wwid: same ? old.wwid : '',
      ...this.#cacheOf(plan, old),
    };
  }

  /**
   * A record that is gone with the store of the bus is not forgotten. Its owner may have noted unflushed writes after it was
   * seen last, and nobody is left in it who would vouch for them: then the next owner counts them as lost.
   */
  #cacheOf(plan: VolumePlan, old: VolumeRecord | null): Pick<VolumeRecord, 'cache'> {
    const known = old ?? this.#seen.get(plan.volume.name);
    if (known === undefined || known.target !== plan.target || known.lun !== plan.lun) return {};
    if (old === null) return { cache: known.cache ?? 'dirty' };
    return known.cache === undefined ? {} : { cache: known.cache };
  }

  /** The slot number of one path, unique for its target in the cluster: two sessions never share an ISID. */
  async #takeSlot(target: string, path: string): Promise<number> {
    const { kv } = this.#options;
    const hash = createHash('sha256').update(target).digest('hex').slice(0, 32);
    const key = `slots.${hash}`;
    for (let attempt = 0; attempt < CAS_ATTEMPTS_MAX; attempt++) {
      const entry = await kv.get(key);
      const table: SlotTableRecord =
        entry === null
          ? { v: RECORD_VERSION, target, taken: {} }
          : checked(SlotTableRecord, entry.value, `slot table of ${target}`);
      const known = table.taken[path];
      if (known !== undefined) return known;
      const used = new Set(Object.values(table.taken));
      let slot = 0;
      while (used.has(slot)) slot += 1;
      if (slot >= SLOTS_PER_TARGET) break;
      const next = { ...table, taken: { ...table.taken, [path]: slot } };
      try {
        if (entry === null) await kv.create(key, next);
        else await kv.update(key, next, entry.revision);
        return slot;
      } catch (error) {
        if (!isOrionError(error) || error.code !== 'BUS_KV_CONFLICT') throw error;
      }
    }
    throw coordinatorErrors.make('COORDINATOR_NO_SLOT', { fields: { target, path } });
  }
}
