import { NO_DEADLINE } from '../block/device.ts';
import { assert } from '../core/assert.ts';
import type { Clock } from '../core/clock.ts';
import { isOrionError } from '../core/errors.ts';
import { PathState } from './path.ts';
import type { PathEntry } from './path-entry.ts';
import type { IoRequest } from './request.ts';

interface DrainWaiter {
  /** The path to wait for; null for all usable ones. */
  readonly entry: PathEntry | null;
  readonly done: (drained: boolean) => void;
}

/** The paths of one volume by slot: which are usable, which are lost, and what the lost ones left behind. */
export class PathMap {
  readonly #clock: Clock;
  readonly #probeIdleMs: number;
  readonly #bySlot = new Map<number, PathEntry>();
  readonly #lost = new Map<number, PathEntry>();
  readonly #unknown = new Map<PathEntry, IoRequest[]>();
  readonly #drainWaiters = new Set<DrainWaiter>();
  /** Paths that take I/O now; replaced, never changed, when a state changes. */
  usable: readonly PathEntry[] = [];

  /** An idle path is asked whether it still works after `probeIdleMs` without a good answer. */
  constructor(clock: Clock, probeIdleMs: number) {
    this.#clock = clock;
    this.#probeIdleMs = probeIdleMs;
  }

  all(): PathEntry[] {
    return [...this.#bySlot.values(), ...this.#lost.values()];
  }

  get(slot: number): PathEntry | undefined {
    return this.#bySlot.get(slot);
  }

  lost(slot: number): PathEntry | undefined {
    return this.#lost.get(slot);
  }

  add(entry: PathEntry): void {
    assert(!this.#bySlot.has(entry.slot), 'a slot has one path at a time');
    assert(!this.#lost.has(entry.slot), 'a lost path is fenced before its slot gets a new one');
    this.#bySlot.set(entry.slot, entry);
    this.#refresh();
  }

  remove(entry: PathEntry): void {
    this.#bySlot.delete(entry.slot);
    this.#refresh();
  }

  setState(entry: PathEntry, state: PathState): void {
    entry.state = state;
    this.#refresh();
  }

  /** True the first time. */
  lose(entry: PathEntry): boolean {
    if (this.#bySlot.get(entry.slot) !== entry) return false;
    this.#bySlot.delete(entry.slot);
    this.#lost.set(entry.slot, entry);
    entry.state = PathState.Fencing;
    this.#refresh();
    this.#checkDrained();
    return true;
  }

  needsFence(slot: number): boolean {
    const entry = this.#lost.get(slot);
    if (entry === undefined) return false;
    return entry.outstanding > 0 || (this.#unknown.get(entry)?.length ?? 0) > 0;
  }

  removeLost(slot: number): PathEntry | null {
    const entry = this.#lost.get(slot);
    if (entry === undefined) return null;
    assert(entry.outstanding === 0, 'a lost path has answered everything before it is forgotten');
    this.#lost.delete(slot);
    entry.state = PathState.Down;
    return entry;
  }

  // ---- what lost paths left behind

  addUnknown(entry: PathEntry, request: IoRequest): void {
    const list = this.#unknown.get(entry);
    if (list === undefined) this.#unknown.set(entry, [request]);
    else list.push(request);
  }

  takeUnknown(entry: PathEntry): IoRequest[] {
    const list = this.#unknown.get(entry) ?? [];
    this.#unknown.delete(entry);
    return list;
  }

  get unknownCount(): number {
    let count = 0;
    for (const list of this.#unknown.values()) count += list.length;
    return count;
  }

  unknownExpired(nowMs: number): IoRequest[] {
    if (this.#unknown.size === 0) return [];
    const late: IoRequest[] = [];
    for (const list of this.#unknown.values()) {
      for (const request of list) {
        if (!request.settled && nowMs >= request.giveUpMs) late.push(request);
      }
    }
    return late;
  }

  // ---- draining and probing

  /** Called after each end of an I/O. */
  ended(_entry: PathEntry): void {
    if (this.#drainWaiters.size > 0) this.#checkDrained();
  }

  /** Resolves true when nothing is in flight (on `entry`, or on all usable paths), false when the time is up. */
  drained(entry: PathEntry | null, timeoutMs: number): Promise<boolean> {
    if (this.#isDrained(entry)) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = this.#clock.after(timeoutMs, () => waiter.done(false));
      const waiter: DrainWaiter = {
        entry,
        done: (drained) => {
          timer.cancel();
          this.#drainWaiters.delete(waiter);
          resolve(drained);
        },
      };
      this.#drainWaiters.add(waiter);
    });
  }

  /** Our own reset of the unit has hit every path. */
  wasReset(): void {
    for (const entry of this.#bySlot.values()) entry.resetAtMs = this.#clock.nowMs();
  }

  /** Asks idle paths for a sign of life. A path that answers with an error is out until it answers well. */
  probeIdle(nowMs: number): void {
    for (const entry of this.#bySlot.values()) {
      const checked = entry.state === PathState.Ready || entry.state === PathState.Down;
      if (!checked || entry.probing || nowMs - entry.lastGoodMs < this.#probeIdleMs) continue;
      entry.probing = true;
      entry.device.probe(NO_DEADLINE).then(
        () => this.#probed(entry, null),
        (error) => this.#probed(entry, error),
      );
    }
  }

  #probed(entry: PathEntry, error: unknown): void {
    entry.probing = false;
    entry.lastGoodMs = this.#clock.nowMs();
    if (this.#bySlot.get(entry.slot) !== entry) return;
    if (error === null) {
      if (entry.state === PathState.Down) this.setState(entry, PathState.Ready);
      return;
    }
    entry.lastError = error instanceof Error ? error.message : String(error);
    // A lost path says so through onLost; anything else is the logical unit's answer on a path that works.
    const lost = isOrionError(error) && error.outcome === 'unknown';
    if (!lost && entry.state === PathState.Ready) this.setState(entry, PathState.Down);
  }

  #refresh(): void {
    this.usable = [...this.#bySlot.values()].filter((entry) => entry.state === PathState.Ready);
  }

  #isDrained(entry: PathEntry | null): boolean {
    if (entry !== null) return entry.outstanding === 0;
    return this.usable.every((path) => path.outstanding === 0);
  }

  #checkDrained(): void {
    for (const waiter of [...this.#drainWaiters]) {
      if (this.#isDrained(waiter.entry)) waiter.done(true);
    }
  }
}
