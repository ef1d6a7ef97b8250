import { Fifo } from '../core/fifo.ts';
import type { IscsiSession } from './session.ts';
import { TASKS_MAX, type Task, type TaskOwner } from './task-table.ts';

/** A logical unit that is overloaded still gets this many commands at once. */
const DEPTH_MIN = 1;

/** One overload answers many commands: it shrinks the window once in this time. */
const SHRINK_PERIOD_MS = 10;

/**
 * How many reads and writes may be in flight on one logical unit. BUSY and TASK SET FULL halve it; each window of good
 * answers makes it one wider, until it is as wide as the session. What does not fit waits here, in order.
 */
export class LunWindow {
  /** In flight, between tries too. */
  used = 0;
  /** As many may be; 0 while I/O is held back. */
  limit = TASKS_MAX;
  readonly #session: IscsiSession;
  readonly #owner: TaskOwner;
  readonly #parked = new Fifo<Task>();
  #depth = TASKS_MAX;
  #good = 0;
  #gates = 0;
  #opened: PromiseWithResolvers<void> | null = null;
  #shrunkMs = Number.NEGATIVE_INFINITY;
  #filling = false;

  constructor(session: IscsiSession, owner: TaskOwner) {
    this.#session = session;
    this.#owner = owner;
  }

  /** Nothing limits it: the path of every I/O asks no more than this. */
  get open(): boolean {
    return this.limit === TASKS_MAX;
  }

  get closed(): boolean {
    return this.#gates > 0;
  }

  /** Lets a new task wait for its turn. */
  park(task: Task): void {
    this.#session.stats.commands += 1;
    this.#session.park(task);
    this.#wait(task);
  }

  /** Sends an answered task, which the session keeps parked, again; it waits while I/O is held back. */
  again(task: Task): void {
    if (!this.closed) return this.#session.unpark(task);
    this.used -= 1;
    this.#wait(task);
  }

  #wait(task: Task): void {
    task.parked = true;
    this.#parked.push(task);
  }

  /** A task has come back with success. */
  succeeded(): void {
    this.used -= 1;
    if (this.open) return;
    this.#good += 1;
    if (this.#good >= this.#depth) {
      this.#good = 0;
      this.#setDepth(Math.min(this.#depth + 1, TASKS_MAX));
    }
    this.fill();
  }

  /** A task has come back otherwise, or is lost. */
  left(task: Task): void {
    if (task.parked) {
      task.parked = false;
      return;
    }
    this.used -= 1;
    if (!this.open) this.fill();
  }

  /** The device said BUSY or TASK SET FULL. */
  shrink(): void {
    const now = this.#session.clock.nowMs();
    if (now - this.#shrunkMs < SHRINK_PERIOD_MS) return;
    this.#shrunkMs = now;
    this.#good = 0;
    this.#setDepth(Math.max(DEPTH_MIN, Math.floor(Math.min(this.#depth, this.used) / 2)));
  }

  /** Holds I/O back until `release`. Counted. */
  hold(): void {
    this.#gates += 1;
    this.limit = 0;
  }

  release(): void {
    this.#gates -= 1;
    this.#setDepth(this.#depth);
    this.fill();
    if (this.closed) return;
    this.#opened?.resolve();
    this.#opened = null;
  }

  /** For commands that do not stand in this window: resolves when I/O is held back no more; null when it is not. */
  whenOpen(): Promise<void> | null {
    if (!this.closed) return null;
    this.#opened ??= Promise.withResolvers<void>();
    return this.#opened.promise;
  }

  #setDepth(depth: number): void {
    this.#depth = depth;
    this.limit = this.closed ? 0 : depth;
  }

  /** Sends what waits, as far as there is room. */
  fill(): void {
    if (this.#filling) return; // what is sent may be lost at once, which comes back here
    this.#filling = true;
    while (this.used < this.limit) {
      const task = this.#parked.shift();
      if (task === undefined) break;
      // One that was lost while it waited may be in use by somebody else now.
      if (!task.parked || task.owner !== this.#owner) continue;
      task.parked = false;
      this.used += 1;
      this.#session.unpark(task);
    }
    this.#filling = false;
  }
}
