import type { KeyValue } from '#bus/bus.ts';
import { checked } from '#contracts/check.ts';
import { type SlotRecord, VolumeRecord } from '#contracts/records.ts';
import { volumeKey } from '#contracts/subjects.ts';
import { isOrionError } from '#core/errors.ts';
import { gatewayErrors } from './errors.ts';

/** Attempts to change a record while others change it too, before the caller has to decide anew. */
const CAS_ATTEMPTS_MAX = 8;

/**
 * The record of one volume while this gateway owns it in one epoch. Every change is one compare-and-set, written before
 * the step that it authorises; the moment the record names another owner or epoch, this throws GATEWAY_NOT_OWNER.
 */
export class Ownership {
  readonly #kv: KeyValue;
  readonly #gateway: string;
  readonly #incarnation: string;
  #record: VolumeRecord;
  #revision: number;

  constructor(
    kv: KeyValue,
    gateway: string,
    incarnation: string,
    record: VolumeRecord,
    revision: number,
  ) {
    this.#kv = kv;
    this.#gateway = gateway;
    this.#incarnation = incarnation;
    this.#record = record;
    this.#revision = revision;
  }

  get record(): VolumeRecord {
    return this.#record;
  }

  get epoch(): number {
    return this.#record.epoch;
  }

  /** No path was ever claimed by this record: the volume is new, or the record stands for one that was lost. */
  get isNew(): boolean {
    return this.#record.slots.every(({ incarnation }) => incarnation === 0);
  }

  slot(slot: number): SlotRecord {
    return this.#record.slots.find((candidate) => candidate.slot === slot)!;
  }

  async changeSlot(slot: number, change: Partial<SlotRecord>): Promise<SlotRecord> {
    await this.change((record) => ({
      ...record,
      slots: record.slots.map((old) => (old.slot === slot ? { ...old, ...change } : old)),
    }));
    return this.slot(slot);
  }

  async change(apply: (record: VolumeRecord) => VolumeRecord): Promise<void> {
    for (let attempt = 0; attempt < CAS_ATTEMPTS_MAX; attempt++) {
      const next = apply(this.#record);
      try {
        this.#revision = await this.#kv.update(volumeKey(next.name), next, this.#revision);
        this.#record = next;
        return;
      } catch (error) {
        // Any failure but a clean conflict may have been carried out all the same: read before trying again.
        if (!isOrionError(error) || !error.code.startsWith('BUS_')) throw error;
        await this.refresh();
        if (error.code !== 'BUS_KV_CONFLICT') throw error;
      }
    }
    throw gatewayErrors.make('GATEWAY_NOT_OWNER', {
      message: 'the record of the volume keeps changing under our hands',
      fields: { volume: this.#record.name },
    });
  }

  /** Reads the record anew and checks that we are still its owner. */
  async refresh(): Promise<void> {
    const entry = await this.#kv.get(volumeKey(this.#record.name));
    const record = entry === null ? null : checked(VolumeRecord, entry.value, 'volume record');
    const mine =
      record?.owner === this.#gateway &&
      record.ownerIncarnation === this.#incarnation &&
      record.epoch === this.#record.epoch;
    if (!mine) {
      throw gatewayErrors.make('GATEWAY_NOT_OWNER', {
        fields: { volume: this.#record.name, epoch: this.#record.epoch, owner: record?.owner },
      });
    }
    this.#record = record;
    this.#revision = entry!.revision;
  }
}
