import { assert } from '../core/assert.ts';
import type { Clock, Timer } from '../core/clock.ts';

/** Timers that may fire at one instant before it is called an endless loop. */
const TIMERS_PER_INSTANT_MAX = 1_000_000;

/** Cancelled timers stay in the heap until they are this many and more than half of it. */
const CANCELLED_KEPT_MIN = 64;

/** How many `setImmediate`s deep a chain may be and still be finished before the next timer fires. */
const SETTLE_TURNS = 2;

export interface VirtualClockOptions {
  /** What `wallMs` says at the start. */
  readonly wallStartMs?: number;
  /** Turns of the event loop between two timers. More only when code under test chains `setImmediate`s. */
  readonly settleTurns?: number;
}

interface Entry {
  readonly atMs: number;
  readonly order: number;
  /** Null when cancelled or fired. */
  fn: (() => void) | null;
}

/**
 * A clock that moves only when told to. Timers fire in the order of their time, those of the same time in the
 * order in which they were armed; between two of them everything that follows from the first runs to its end.
 *
 * Settling: Node empties the queues of `process.nextTick` and of promises, however long their chains, before it
 * goes on in the event loop. So one turn by `setImmediate` (about a microsecond; a MessageChannel turn costs
 * several times that) is enough for promises, and each further turn lets chains of `setImmediate` go one deeper.
 * Real sockets, files and the thread pool (asynchronous zlib and crypto) do not settle: keep them out.
 */
export class VirtualClock implements Clock {
  readonly #settleTurns: number;
  #nowMs = 0;
  #wallMs: number;
  #heap: Entry[] = [];
  #order = 0;
  #cancelled = 0;
  #running = false;
  #fired = 0;

  constructor(options: VirtualClockOptions = {}) {
    this.#wallMs = options.wallStartMs ?? Date.UTC(2026, 0, 1);
    this.#settleTurns = options.settleTurns ?? SETTLE_TURNS;
  }

  /** Timers that are armed. */
  get pending(): number {
    return this.#heap.length - this.#cancelled;
  }

  /** Timers that have fired so far: the measure of a simulation's length. */
  get fired(): number {
    return this.#fired;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#wallMs;
  }

  after(delayMs: number, fn: () => void): Timer {
    const delay = delayMs > 0 ? delayMs : 0;
    const entry: Entry = { atMs: this.#nowMs + delay, order: this.#order++, fn };
    pushEntry(this.#heap, entry);
    return {
      cancel: () => {
        if (entry.fn === null) return;
        entry.fn = null;
        this.#cancelled += 1;
        this.#compact();
      },
    };
  }

  /** Moves the time forward, firing what falls due on the way; resolves when all is quiet. */
  async advance(ms: number): Promise<void> {
    assert(ms >= 0, 'time does not go back');
    const untilMs = this.#nowMs + ms;
    await this.#run(untilMs, () => false);
    this.#moveTo(untilMs);
  }

  /** Goes from timer to timer until the predicate holds. Rejects when it does not within `maxMs`. */
  async runUntil(predicate: () => boolean, maxMs: number): Promise<void> {
    const untilMs = this.#nowMs + maxMs;
    if (await this.#run(untilMs, predicate)) return;
    this.#moveTo(untilMs);
    throw new Error(`not reached within ${maxMs} ms of virtual time`);
  }

  /** Lets time pass until the promise settles. */
  async during<T>(promise: Promise<T>, maxMs: number): Promise<T> {
    let settled = false;
    const watched = promise.finally(() => {
      settled = true;
    });
    watched.catch(() => {}); // the caller gets it below
    await this.runUntil(() => settled, maxMs);
    return watched;
  }

  /** Lets everything that is due to no timer run to its end, without moving the time. */
  async settle(): Promise<void> {
    for (let i = 0; i < this.#settleTurns; i++) await turn();
  }

  /** The date jumps, the monotonic clock does not: a machine that slept, or an operator with `date`. */
  jumpWall(byMs: number): void {
    this.#wallMs += byMs;
  }

  /** Time passes and nothing runs: a blocked event loop, or SIGSTOP. What fell due fires late, in order. */
  stall(ms: number): void {
    assert(ms >= 0, 'time does not go back');
    this.#moveTo(this.#nowMs + ms);
  }

  /** True when the predicate held. */
  async #run(untilMs: number, predicate: () => boolean): Promise<boolean> {
    assert(!this.#running, 'one advance at a time');
    this.#running = true;
    try {
      await this.settle();
      let atThisInstant = 0;
      while (!predicate()) {
        const entry = this.#nextDue(untilMs);
        if (entry === null) return false;
        atThisInstant = entry.atMs > this.#nowMs ? 0 : atThisInstant + 1;
        assert(
          atThisInstant < TIMERS_PER_INSTANT_MAX,
          'timers arm each other with no delay, endlessly',
        );
        this.#moveTo(Math.max(this.#nowMs, entry.atMs));
        this.#fire(entry);
        await this.settle();
      }
      return true;
    } finally {
      this.#running = false;
    }
  }

  #fire(entry: Entry): void {
    const fn = entry.fn!;
    entry.fn = null;
    this.#fired += 1;
    fn();
  }

  /** Takes the earliest armed timer out of the heap if it is due by then. */
  #nextDue(untilMs: number): Entry | null {
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || first.atMs > untilMs) return null;
      popEntry(this.#heap);
      if (first.fn !== null) return first;
      this.#cancelled -= 1;
    }
  }

  #moveTo(atMs: number): void {
    this.#wallMs += atMs - this.#nowMs;
    this.#nowMs = atMs;
  }

  #compact(): void {
    if (this.#cancelled < CANCELLED_KEPT_MIN || this.#cancelled * 2 < this.#heap.length) return;
    const armed = this.#heap.filter((entry) => entry.fn !== null);
    // A sorted array is a heap.
    armed.sort((a, b) => (isBefore(a, b) ? -1 : 1));
    this.#heap = armed;
    this.#cancelled = 0;
  }
}

/**
 * The clock as one process of a simulation sees it. `freeze` is SIGSTOP: time goes on and nothing of this process
 * runs; `thaw` is SIGCONT: what fell due meanwhile fires, late and in order. Timers only: messages still reach it, so
 * cut it off from the bus and its links as well.
 */
export class ProcessClock implements Clock {
  readonly #clock: Clock;
  #frozen = false;
  #wallOffsetMs = 0;
  #late: (() => void)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  wallMs(): number {
    return this.#clock.wallMs() + this.#wallOffsetMs;
  }

  after(delayMs: number, fn: () => void): Timer {
    let cancelled = false;
    const run = (): void => {
      if (!cancelled) fn();
    };
    const timer = this.#clock.after(delayMs, () => {
      if (this.#frozen) this.#late.push(run);
      else run();
    });
    return {
      cancel: () => {
        cancelled = true;
        timer.cancel();
      },
    };
  }

  freeze(): void {
    this.#frozen = true;
  }

  thaw(): void {
    this.#frozen = false;
    const late = this.#late;
    this.#late = [];
    for (const run of late) run();
  }

  jumpWall(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

function pushEntry(heap: Entry[], entry: Entry): void {
  let at = heap.length;
  heap.push(entry);
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!isBefore(entry, heap[parent]!)) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = entry;
}

function popEntry(heap: Entry[]): void {
  const last = heap.pop()!;
  if (heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = at * 2 + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
    if (!isBefore(heap[child]!, last)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = last;
}
