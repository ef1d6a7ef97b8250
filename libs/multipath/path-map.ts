import { NO_DEADLINE } from '../block/device.ts';
import { assert } from '../core/assert.ts';
import type { Clock } from '../core/clock.ts';
import { isOrionError } from '../core/errors.ts';
import { accessRank } from './access.ts';
import { PathState, type UnitAttention } from './path.ts';
import type { PathEntry } from './path-entry.ts';
import type { IoRequest } from './request.ts';

/** A path that the device takes no I/O over is asked this often whether that has changed: it says so only when asked. */
const OUT_PROBE_MS = 1_000;

interface DrainWaiter {
  /** The path to wait for; null for all that are not lost. */
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
  /** Paths that I/O goes to now: the best of those that are ready. Replaced, never changed, when a state changes. */
  usable: readonly PathEntry[] = [];
  /** Paths that could take I/O now, whether or not there are better ones. */
  ready: readonly PathEntry[] = [];

  /** A probe that was sent at `sentMs` was answered well. */
  onProbed: (entry: PathEntry, sentMs: number) => void = () => {};

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

  /** What the unit told over one path. When access changed there, it may have on others: they are asked soon. */
  heard(entry: PathEntry, attention: UnitAttention): void {
    const { access, sizeBytes } = attention;
    if (sizeBytes !== undefined) entry.sizeBytes = sizeBytes;
    const { state, preferred } = entry.access;
    if (access === undefined || (access.state === state && access.preferred === preferred)) return;
    entry.access = access;
    const up = entry.state === PathState.Ready || entry.state === PathState.Ghost;
    if (up) entry.state = entry.servingState;
    for (const other of this.#bySlot.values()) if (other !== entry) other.probeSoon = true;
    this.#refresh();
  }

  /** The smallest size that the unit has over any path that tells one; 0 without such paths. */
  get sizeBytes(): number {
    const sizes = [...this.#bySlot.values()]
      .map((entry) => entry.sizeBytes)
      .filter((size) => size > 0);
    return sizes.length === 0 ? 0 : Math.min(...sizes);
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

  /** Resolves true when nothing is in flight (on `entry`, or on all paths that are not lost), false when the time is up. */
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
      if (entry.state === PathState.Disabled || entry.probing) continue;
      const out = entry.state !== PathState.Ready;
      const idleMs = out ? Math.min(OUT_PROBE_MS, this.#probeIdleMs) : this.#probeIdleMs;
      if (!entry.probeSoon && nowMs - entry.lastGoodMs < idleMs) continue;
      entry.probing = true;
      entry.probeSoon = false;
      entry.device.probe(NO_DEADLINE).then(
        () => {
          this.#probed(entry, null);
          this.onProbed(entry, nowMs);
        },
        (error) => this.#probed(entry, error),
      );
    }
  }

  #probed(entry: PathEntry, error: unknown): void {
    entry.probing = false;
    entry.lastGoodMs = this.#clock.nowMs();
    if (this.#bySlot.get(entry.slot) !== entry) return;
    if (error === null) {
      if (entry.state === PathState.Down) this.setState(entry, entry.servingState);
      return;
    }
    entry.lastError = error instanceof Error ? error.message : String(error);
    // A lost path says so through onLost; anything else is the logical unit's answer on a path that works.
    const lost = isOrionError(error) && error.outcome === 'unknown';
    const up = entry.state === PathState.Ready || entry.state === PathState.Ghost;
    if (!lost && up) this.setState(entry, PathState.Down);
  }

  #refresh(): void {
    const ready = [...this.#bySlot.values()].filter((entry) => entry.state === PathState.Ready);
    const best = Math.max(0, ...ready.map((entry) => accessRank(entry.access)));
    this.ready = ready;
    this.usable = ready.filter((entry) => accessRank(entry.access) === best);
  }

  #isDrained(entry: PathEntry | null): boolean {
    if (entry !== null) return entry.outstanding === 0;
    return [...this.#bySlot.values()].every((path) => path.outstanding === 0);
  }

  #checkDrained(): void {
    for (const waiter of [...this.#drainWaiters]) {
      if (this.#isDrained(waiter.entry)) waiter.done(true);
    }
  }
}
