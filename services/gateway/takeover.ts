import type { CacheRecord } from './cache-record.ts';
import { gatewayErrors } from './errors.ts';
import { flushSealed, type SealOptions, sealVolume } from './seal.ts';

interface TakeoverOptions extends SealOptions {
  readonly cache: CacheRecord;
  /** Brings a slot into service; `onFenced` is called when nothing of an older epoch can come through it any more. */
  readonly recover: (slot: number, mustFence: boolean, onFenced?: () => void) => void;
  /** What the former owner had acknowledged is durable after all. */
  readonly onVouched: () => void;
  /** Nothing of an older epoch can execute any more: I/O may begin. */
  readonly onOver: () => void;
}

/**
 * The beginning of an ownership: seals older epochs at the workers, has fenced what they cannot vouch for, and finds out
 * whether the cache of the target still holds what was acknowledged (failover.md §6.4, I5).
 */
export class Takeover {
  readonly #options: TakeoverOptions;
  #isOver = false;
  #inheritsLoss = false;

  constructor(options: TakeoverOptions) {
    this.#options = options;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Unflushed writes of the former owner may be gone. */
  get inheritsLoss(): boolean {
    return this.#inheritsLoss;
  }

  /** Resolves when the slots are on their way. */
  async begin(): Promise<void> {
    const { ownership, cache, recover } = this.#options;
    const sealed = await sealVolume(this.#options);
    if (sealed.newest > ownership.epoch) await this.#skipEpochs(sealed.newest);
    const slots = ownership.record.slots.map(({ slot }) => slot);
    const clean = slots.filter((slot) => sealed.clean.has(slot));
    const unclean = slots.filter((slot) => !sealed.clean.has(slot));
    const { witnesses } = sealed;
    const mayVouch = cache.canBeVouchedFor(sealed);
    this.#inheritsLoss = cache.inheritsLoss(sealed);
    // A former owner that lives goes on, and is acknowledged, through what is not clean: nobody can vouch before the fence.
    const isLater = mayVouch && unclean.length > 0;
    if (mayVouch && !isLater) {
      this.#inheritsLoss = !(await flushSealed(this.#options, witnesses));
    }
    if (this.#inheritsLoss) await cache.inherit();
    const fenced = unclean.map(
      (slot) => new Promise<void>((resolve) => recover(slot, true, resolve)),
    );
    const bringUp = (): void => {
      for (const slot of clean) recover(slot, false);
    };
    // The sessions that are to vouch end with the claim of their slots.
    if (!isLater) bringUp();
    void Promise.all(fenced).then(async () => {
      if (isLater) {
        const vouched = await flushSealed(this.#options, witnesses); // it handles what goes wrong
        if (vouched) this.#vouched();
        bringUp();
      }
      this.#isOver = true;
      this.#options.onOver();
    });
  }

  #vouched(): void {
    this.#inheritsLoss = false;
    this.#options.onVouched();
  }

  /**
   * Workers know a newer epoch than the record: the store has lost its history. They are right. The record goes beyond
   * what they have seen, and the volume is taken over again from there.
   */
  async #skipEpochs(newest: number): Promise<never> {
    const { ownership } = this.#options;
    const { epoch } = ownership;
    const { name: volume } = ownership.record;
    await ownership.change((record) => ({ ...record, epoch: newest + 1, state: 'sealing' }));
    throw gatewayErrors.make('GATEWAY_EPOCH_LOST', { fields: { volume, epoch, newest } });
  }
}
