import { Fifo } from '../core/fifo.ts';

/** Messages from others that may wait; more are refused at once, there is no hidden queue. */
export const USER_LANE_MAX = 1000;

/** Timers, results and signs of death that may wait. An actor makes these itself: more is a bug. */
export const SYSTEM_LANE_MAX = 10_000;

/** Two lanes, each with a bound. What the actor itself has started goes before what others want of it. */
export class Mailbox<T> {
  readonly #userMax: number;
  readonly #system = new Fifo<T>();
  readonly #user = new Fifo<T>();

  constructor(userMax = USER_LANE_MAX) {
    this.#userMax = userMax;
  }

  get length(): number {
    return this.#system.length + this.#user.length;
  }

  /** False: full. */
  offer(lane: 'system' | 'user', item: T): boolean {
    const [queue, max] =
      lane === 'system' ? [this.#system, SYSTEM_LANE_MAX] : [this.#user, this.#userMax];
    if (queue.length >= max) return false;
    queue.push(item);
    return true;
  }

  take(): T | undefined {
    return this.#system.shift() ?? this.#user.shift();
  }

  drain(): T[] {
    return [...this.#system.drain(), ...this.#user.drain()];
  }
}
