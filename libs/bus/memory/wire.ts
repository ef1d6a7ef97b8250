import type { Clock } from '../../core/clock.ts';
import { Fifo } from '../../core/fifo.ts';

/** Messages that may be under way in one direction between two endpoints; more are lost, as a slow consumer's are. */
const WIRE_MESSAGES_MAX = 65_536;

export interface Parcel {
  deliver(): void;
  /** Called instead of `deliver` when it is lost. */
  lost(): void;
}

/**
 * One direction between two endpoints. It delays, and never reorders: the adapters stand for connections.
 * Delivery is always asynchronous, also with no delay.
 */
export class Wire {
  readonly #clock: Clock;
  readonly #underWay = new Fifo<Parcel>();
  #lastAtMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  send(parcel: Parcel, delayMs: number): void {
    if (this.#underWay.length >= WIRE_MESSAGES_MAX) return parcel.lost();
    const nowMs = this.#clock.nowMs();
    const atMs = Math.max(nowMs + delayMs, this.#lastAtMs);
    this.#lastAtMs = atMs;
    this.#underWay.push(parcel);
    // Each timer delivers the oldest, not its own: timers of a real clock may fire in another order.
    const arrive = (): void => this.#underWay.shift()?.deliver();
    if (atMs > nowMs) this.#clock.after(atMs - nowMs, arrive);
    else process.nextTick(arrive);
  }
}
