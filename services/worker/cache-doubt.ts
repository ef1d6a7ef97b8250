import type { IoContext } from '#block/device.ts';
import type { Clock } from '#core/clock.ts';
import type { IscsiLun } from '#iscsi/lun.ts';
import { ASC_POWER_ON_OR_RESET, type UnitAttention } from '#multipath/path.ts';

/** The echo of a reset of ours comes with the next command, and idle paths are asked for a sign of life before that. */
const ECHO_MS_MAX = 30_000;

const NO_DOUBT = -1;

/**
 * Whether the session of a slot may vouch for the cache of the target when its epoch is sealed (failover.md I5). Not after
 * a reset that was not ours: the owner was told, but may have died before it could tell anybody. A flush that it ordered
 * later ends the doubt, since it knows what to answer.
 */
export class CacheDoubt {
  readonly #lun: IscsiLun;
  readonly #clock: Clock;
  /** Flushes that had begun when the doubt arose. */
  #since = NO_DOUBT;
  #resetMs = Number.NEGATIVE_INFINITY;

  constructor(lun: IscsiLun, clock: Clock) {
    this.#lun = lun;
    this.#clock = clock;
    lun.onUnitAttention((attention) => this.#hear(attention));
  }

  /** The owner resets the unit, over this session or another one. */
  wasReset(): void {
    this.#resetMs = this.#clock.nowMs();
  }

  /** Flushes for the next owner. True when this vouches for all that the former one acknowledged. */
  async flush(io: IoContext): Promise<boolean> {
    const stood = this.#stands;
    await this.#lun.flush(io);
    // No client is told of this one.
    if (stood) this.#raise();
    return !this.#stands;
  }

  get #stands(): boolean {
    return this.#lun.flusher.newestGood <= this.#since;
  }

  #hear({ asc, deferred }: UnitAttention): void {
    // A deferred error fails the flush itself.
    if (deferred === true || asc !== ASC_POWER_ON_OR_RESET) return;
    const isEcho = this.#clock.nowMs() - this.#resetMs <= ECHO_MS_MAX;
    this.#resetMs = Number.NEGATIVE_INFINITY;
    if (!isEcho) this.#raise();
  }

  #raise(): void {
    this.#since = this.#lun.flusher.ordered;
  }
}
