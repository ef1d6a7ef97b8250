import { assert } from './assert.ts';
import type { Clock } from './clock.ts';

const TICK_MS = 250;
const SLOTS = 256;

/** A member of a wheel: extend it, so that arming a timeout allocates nothing. */
export abstract class WheelEntry {
  wheelNext: WheelEntry | null = null;
  wheelPrevious: WheelEntry | null = null;
  /** The slot that it stands in; -1 while it is not armed. */
  wheelSlot = -1;
  wheelDueTick = 0;

  /** The time has come. The entry is disarmed by then, and may be armed again. */
  abstract onTimeout(): void;
}

/**
 * Many coarse timeouts on one timer of the clock: arming and disarming are a few assignments. A timeout comes up to two
 * ticks late and never early. For timeouts that nearly never happen; not for pacing.
 */
export class TimerWheel {
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #slots: (WheelEntry | null)[] = new Array<WheelEntry | null>(SLOTS).fill(null);
  #tick = 0;
  #originMs = 0;
  #armed = 0;
  #running = false;

  constructor(clock: Clock, tickMs = TICK_MS) {
    this.#clock = clock;
    this.#tickMs = tickMs;
  }

  get size(): number {
    return this.#armed;
  }

  arm(entry: WheelEntry, delayMs: number): void {
    assert(entry.wheelSlot < 0, 'a wheel entry is armed once at a time');
    if (!this.#running) this.#start();
    // One more, since the current tick has begun already.
    const due = this.#tick + Math.max(1, Math.ceil(delayMs / this.#tickMs)) + 1;
    const slot = due % SLOTS;
    const head = this.#slots[slot]!;
    entry.wheelDueTick = due;
    entry.wheelSlot = slot;
    entry.wheelNext = head;
    entry.wheelPrevious = null;
    if (head !== null) head.wheelPrevious = entry;
    this.#slots[slot] = entry;
    this.#armed += 1;
  }

  /** Disarms; does nothing to an entry that is not armed. */
  disarm(entry: WheelEntry): void {
    if (entry.wheelSlot < 0) return;
    const next = entry.wheelNext;
    const previous = entry.wheelPrevious;
    if (next !== null) next.wheelPrevious = previous;
    if (previous !== null) previous.wheelNext = next;
    else this.#slots[entry.wheelSlot] = next;
    entry.wheelSlot = -1;
    entry.wheelNext = null;
    entry.wheelPrevious = null;
    this.#armed -= 1;
  }

  #start(): void {
    this.#running = true;
    this.#originMs = this.#clock.nowMs() - this.#tick * this.#tickMs;
    this.#next();
  }

  #next(): void {
    this.#clock.after(this.#tickMs, () => this.#onTick());
  }

  #onTick(): void {
    const now = Math.floor((this.#clock.nowMs() - this.#originMs) / this.#tickMs);
    // After a stall one turn over all slots finds everything that is due.
    const turns = Math.min(Math.max(now - this.#tick, 0), SLOTS);
    const first = Math.max(now, this.#tick) - turns + 1;
    this.#tick = Math.max(now, this.#tick);
    for (let i = 0; i < turns; i++) this.#fireSlot((first + i) % SLOTS);
    // Stops only when a whole tick found it empty: I/O one at a time does not start it again and again.
    if (this.#armed === 0) this.#running = false;
    else this.#next();
  }

  #fireSlot(slot: number): void {
    const due: WheelEntry[] = [];
    for (let entry = this.#slots[slot]!; entry !== null; entry = entry.wheelNext!) {
      if (entry.wheelDueTick <= this.#tick) due.push(entry);
    }
    for (const entry of due) {
      // An earlier one of this slot may have disarmed it, or disarmed and armed it again.
      if (entry.wheelSlot < 0 || entry.wheelDueTick > this.#tick) continue;
      this.disarm(entry);
      entry.onTimeout();
    }
  }
}
