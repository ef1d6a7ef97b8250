import type { KeyValue, KvEntry, Subscription } from '../bus/bus.ts';
import { busErrors } from '../bus/errors.ts';
import type { LeaseRecord } from '../contracts/records.ts';
import { assert } from '../core/assert.ts';
import type { Clock, Timer } from '../core/clock.ts';
import { isOrionError } from '../core/errors.ts';
import {
  type Beat,
  begin,
  clockTrouble,
  decide,
  judge,
  type LeaseAlarm,
  type LeaseMemory,
  type LeaseSelf,
  learn,
  NO_MEMORY,
  RELEASED,
  type Reading,
  recordOf,
  renewal,
  renewalNotSent,
  renewalSent,
  renewed,
  type Tenure,
  wrote,
} from './lease-core.ts';

const LEASE_MS = 6000;
const MARGIN_MS = 1000;

/** Why a lease is no longer held. */
export type LeaseLoss =
  /** Somebody else's record stands there. */
  | 'taken'
  /** Not renewed in time. */
  | 'expired'
  /** The event loop stood still longer than the margin. */
  | 'stalled'
  /** The date moved and the monotonic clock did not: the machine slept. */
  | 'clock-jump'
  /** The store has lost its history. */
  | 'history-lost'
  /** We let go of it. */
  | 'stopped';

export interface LeaseOptions {
  readonly kv: KeyValue;
  readonly key: string;
  /** Who we are; stable over restarts. */
  readonly holder: string;
  /** Another one for every process start. */
  readonly incarnation: string;
  readonly clock: Clock;
  readonly leaseMs?: number;
  readonly marginMs?: number;
  /** We hold it from now on, with this fencing token. */
  readonly onAcquired: (epoch: number) => void;
  /** From now on we do not. Called before anybody else can have it (as far as clocks tell). */
  readonly onLost: (cause: LeaseLoss) => void;
  /** The store is not what it was, or holds what cannot be read. For a log line. */
  readonly onAlarm?: (alarm: LeaseAlarm) => void;
}

/**
 * A lease on one key of the store: contends for it from `start` to `stop`. It gives liveness (somebody leads, mostly
 * one); safety is the fencing token's, `epoch`, which grows with every holder and which others must check.
 */
export class Lease {
  readonly #options: LeaseOptions;
  readonly #kv: KeyValue;
  readonly #clock: Clock;
  readonly #self: LeaseSelf;
  #memory: LeaseMemory = NO_MEMORY;
  #tenure: Tenure | null = null;
  #beat: Beat | null = null;
  #beatTimer: Timer | null = null;
  #running = false;
  #loop: Promise<void> = Promise.resolve();
  #watching: Subscription | null = null;
  #wake: (() => void) | null = null;
  #hinted = false;
  #lastAlarm: LeaseAlarm | null = null;

  constructor(options: LeaseOptions) {
    const { kv, clock, holder, incarnation, leaseMs = LEASE_MS, marginMs = MARGIN_MS } = options;
    assert(marginMs > 0 && leaseMs > 3 * marginMs, 'a lease is longer than three of its margins');
    this.#options = options;
    this.#kv = kv;
    this.#clock = clock;
    this.#self = { holder, incarnation, leaseMs, marginMs };
  }

  /** True only while it is certain. Ask again after every wait. */
  get held(): boolean {
    return this.#tenure !== null && this.#trouble() === null;
  }

  /** The fencing token while held, else 0. */
  get epoch(): number {
    return this.held ? this.#tenure!.record.epoch : 0;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#loop = this.#run();
  }

  /** Lets go of it if it is held, so that another can have it at once. */
  async stop(): Promise<void> {
    if (!this.#running) return this.#loop;
    this.#running = false;
    this.#wake?.();
    await this.#loop;
    const tenure = this.#tenure;
    this.#lose('stopped');
    if (tenure !== null) await this.#release(tenure);
  }

  async #run(): Promise<void> {
    const watching = this.#watch();
    while (this.#running) {
      const waitMs = this.#tenure === null ? await this.#contend() : await this.#renew();
      if (this.#running) await this.#pause(waitMs);
    }
    await watching;
    this.#watching?.unsubscribe();
    this.#watching = null;
  }

  /** One look at the key, and a try to take it if it is free. Gives the time to the next look. */
  async #contend(): Promise<number> {
    const { leaseMs } = this.#self;
    const pollMs = leaseMs / 3;
    const reading = await this.#read();
    if (reading === null || !this.#running) return pollMs;
    const decision = decide(this.#memory, reading, this.#self);
    if (decision.do === 'wait') return Math.min(pollMs, decision.ms);
    const { record, revision } = decision;
    const sentMs = this.#clock.nowMs();
    const bucket = this.#kv.incarnation;
    try {
      const { key } = this.#options;
      const taken = await this.#inTime(
        revision === 0 ? this.#kv.create(key, record) : this.#kv.update(key, record, revision),
      );
      if (bucket !== this.#kv.incarnation) return 0;
      this.#acquire(begin(record, taken, sentMs, this.#self));
      return pollMs;
    } catch {
      // Somebody was faster, or nobody knows: the next look tells.
      return leaseMs / 12;
    }
  }

  /** Gives the time to the next renewal. */
  async #renew(): Promise<number> {
    const { leaseMs } = this.#self;
    const before = this.#tenure!;
    const record = renewal(before);
    const sentMs = this.#clock.nowMs();
    this.#tenure = renewalSent(before, record, sentMs);
    try {
      const revision = await this.#inTime(
        this.#kv.update(this.#options.key, record, before.revision),
      );
      if (this.#tenure === null) return 0;
      // The bucket is another one: what it says of our revision means nothing.
      if (this.#memory.bucket !== this.#kv.incarnation) return this.#verify();
      this.#tenure = renewed(this.#tenure, record, revision, this.#self);
      this.#memory = wrote(this.#memory, this.#tenure);
      return Math.max(0, sentMs + leaseMs / 3 - this.#clock.nowMs());
    } catch (error) {
      return this.#notRenewed(record, error);
    }
  }

  async #notRenewed(record: LeaseRecord, error: unknown): Promise<number> {
    if (this.#tenure === null) return 0;
    if (!isOrionError(error) || error.outcome !== 'not-executed') return this.#verify();
    this.#tenure = renewalNotSent(this.#tenure, record);
    if (error.code !== 'BUS_KV_CONFLICT') return this.#self.leaseMs / 12;
    const isSameBucket = this.#memory.bucket === this.#kv.incarnation;
    if (!isSameBucket || this.#tenure.unsettled.length > 0) return this.#verify();
    this.#lose('taken');
    return 0;
  }

  /** After a renewal whose outcome is not known, or on a hint: is it still ours? Gives the time to the next try. */
  async #verify(): Promise<number> {
    const retryMs = this.#self.leaseMs / 12;
    const reading = await this.#read();
    if (reading === null || this.#tenure === null) return retryMs;
    const tenure = judge(this.#tenure, reading.entry, this.#self);
    if (tenure === null) this.#lose('taken');
    else this.#tenure = tenure;
    return retryMs;
  }

  /** Null when the store cannot be asked. */
  async #read(): Promise<Reading | null> {
    let entry: KvEntry | null;
    try {
      entry = await this.#inTime(this.#kv.get(this.#options.key));
    } catch {
      return null;
    }
    const reading = { entry, bucket: this.#kv.incarnation, nowMs: this.#clock.nowMs() };
    const { memory, alarm } = learn(this.#memory, reading, this.#self);
    this.#memory = memory;
    if (alarm !== this.#lastAlarm && alarm !== null) this.#options.onAlarm?.(alarm);
    this.#lastAlarm = alarm;
    if (alarm !== null && alarm !== 'bad-record') this.#lose('history-lost');
    return reading;
  }

  #acquire(tenure: Tenure): void {
    this.#tenure = tenure;
    this.#memory = wrote(this.#memory, tenure);
    this.#armBeat();
    // The answer may have come too late to be of use.
    if (this.held) this.#options.onAcquired(tenure.record.epoch);
    else this.#drop();
  }

  #lose(cause: LeaseLoss): void {
    if (this.#tenure === null) return;
    this.#drop();
    this.#options.onLost(cause);
    this.#wake?.();
  }

  #drop(): void {
    this.#tenure = null;
    this.#beatTimer?.cancel();
    this.#beatTimer = null;
    this.#beat = null;
  }

  /** Looks at its clocks four times a margin, and at the very end of the lease. */
  #armBeat(): void {
    const nowMs = this.#clock.nowMs();
    const leftMs = Math.max(0, this.#tenure!.validUntilMs - nowMs);
    const delayMs = Math.min(this.#self.marginMs / 4, leftMs);
    this.#beat = { nowMs, wallMs: this.#clock.wallMs(), dueMs: nowMs + delayMs };
    this.#beatTimer = this.#clock.after(delayMs, () => {
      const trouble = this.#trouble();
      if (trouble === null) this.#armBeat();
      else this.#lose(trouble);
    });
  }

  #trouble(): 'stalled' | 'clock-jump' | 'expired' | null {
    const now = { nowMs: this.#clock.nowMs(), wallMs: this.#clock.wallMs() };
    const trouble = clockTrouble(this.#beat!, now, this.#self.marginMs);
    if (trouble !== null) return trouble;
    return now.nowMs >= this.#tenure!.validUntilMs ? 'expired' : null;
  }

  async #release(tenure: Tenure): Promise<void> {
    const record = { ...renewal(tenure), incarnation: RELEASED };
    try {
      await this.#inTime(this.#kv.update(this.#options.key, record, tenure.revision));
    } catch {
      // Then it runs out by itself.
    }
  }

  /** A change of the key is a hint to look sooner, never a proof of anything. */
  async #watch(): Promise<void> {
    try {
      const watching = await this.#kv.watch(this.#options.key, (entry) => this.#hint(entry));
      if (this.#running) this.#watching = watching;
      else watching.unsubscribe();
    } catch {
      // It works without hints, only slower.
    }
  }

  #hint(entry: KvEntry): void {
    if (entry.key !== this.#options.key) return;
    const record = entry.value === null ? null : recordOf(entry);
    if (record?.incarnation === this.#self.incarnation) return;
    this.#hinted = true;
    this.#wake?.();
  }

  async #pause(ms: number): Promise<void> {
    if (!this.#hinted) {
      await new Promise<void>((resolve) => {
        const timer = this.#clock.after(ms, resolve);
        this.#wake = () => {
          timer.cancel();
          resolve();
        };
      });
      this.#wake = null;
    }
    if (!this.#hinted) return;
    this.#hinted = false;
    if (this.#tenure !== null && this.#running) await this.#verify();
  }

  /** Gives up waiting after a sixth of the lease; what becomes of the operation is then unknown. */
  #inTime<T>(operation: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const timer = this.#clock.after(this.#self.leaseMs / 6, () => {
        reject(busErrors.make('BUS_TIMEOUT', { fields: { key: this.#options.key } }));
      });
      operation.then(resolve, reject).finally(() => timer.cancel());
    });
  }
}
