import { NO_DEADLINE } from '../block/device.ts';
import { isOrionError } from '../core/errors.ts';
import { FlushGuard, type FlushMark } from './flush-guard.ts';
import { ASC_POWER_ON_OR_RESET, PathState, type UnitAttention } from './path.ts';
import { NO_RESET, type PathEntry } from './path-entry.ts';

/** Why acknowledged writes may be gone. */
export const NO_WITNESS = 'no path was left that would know of a restart of the target';
export const ACKNOWLEDGED_LATE =
  'a write was acknowledged when its path was lost, or its unit reset, already';

/**
 * Says whether the cache of the target may have been lost under acknowledged writes (failover.md I5).
 *
 * A session ends with the power of its target, so one that lives proves that the cache does: a witness. A new session
 * proves nothing of the time before it, until a witness answers what was sent later: then both have seen the same
 * target. When the last witness is lost before that, nobody knows what happened in between.
 */
export class CacheWatch {
  readonly #guard: FlushGuard;
  #volatile: boolean;
  readonly #live = new Set<PathEntry>();
  /** Live paths that are no witnesses yet. */
  #unproven = 0;
  /** How often the cache was in doubt, whether or not anything unflushed stood in it then. */
  #doubts = 0;
  /** `#doubts` after the last reset that the target told of. */
  #resetDoubt = 0;

  /** `mayBeLost`: what a former owner of the volume had acknowledged may be gone. */
  constructor(volatileCache: boolean, mayBeLost: boolean) {
    this.#volatile = volatileCache;
    this.#guard = new FlushGuard(volatileCache, mayBeLost);
  }

  /** The unit has a volatile cache after all. The sessions that live have seen what happens to it from now on. */
  switchOn(): void {
    this.#volatile = true;
    this.#guard.switchOn();
  }

  get unproven(): boolean {
    return this.#unproven > 0;
  }

  get dirty(): boolean {
    return this.#guard.dirty;
  }

  /** A loss that no flush has told of. */
  get lossPending(): boolean {
    return this.#guard.lossPending;
  }

  /** To be remembered with every change that is sent; see `wrote`. */
  get doubts(): number {
    return this.#doubts;
  }

  /**
   * A change was acknowledged that was sent over `entry` after `doubts` doubts. True when it may be gone already: the
   * answer of a lost path comes with the news of the loss, or after it, and that of a unit that was reset may be from
   * before. Of a path that lives the session has outlived every loss of a witness. FUA is no exception: at worst one
   * flush fails without need.
   */
  wrote(entry: PathEntry, doubts: number): boolean {
    this.#guard.wrote();
    if (doubts === this.#doubts) return false;
    const newest = this.#live.has(entry) ? this.#resetDoubt : this.#doubts;
    return newest > doubts && this.#guard.cacheMayBeLost();
  }

  begin(): FlushMark {
    return this.#guard.begin();
  }

  complete(mark: FlushMark): boolean {
    return this.#guard.complete(mark);
  }

  /** What the target told over a path. The reason when acknowledged writes may be gone that nobody was told of. */
  heard(entry: PathEntry, { asc, text, deferred }: UnitAttention): string | null {
    if (deferred === true) {
      entry.deferred = true;
      this.#guard.isLost();
      return `an acknowledged write has failed since: ${text}`;
    }
    if (asc !== ASC_POWER_ON_OR_RESET || entry.resetAtMs !== NO_RESET) return null;
    this.#doubts += 1;
    this.#resetDoubt = this.#doubts;
    return this.#guard.cacheMayBeLost() ? `the target reported: ${text}` : null;
  }

  /** Whether a flush that failed is to fail: not with a deferred error that a flush over another path has told already. */
  isNews(error: unknown, entry: PathEntry | null, mark: FlushMark): boolean {
    const isDeferred = isOrionError(error) && error.code === 'SCSI_DEFERRED_ERROR';
    if (!isDeferred || entry === null || !entry.deferred) return true;
    entry.deferred = false;
    return this.#guard.report(mark);
  }

  /** The doubt that it began with is over: what a former owner had acknowledged is durable after all. */
  isWhole(): void {
    this.#guard.isWhole();
  }

  add(entry: PathEntry): void {
    // Without another path the loss of the last one has been noted already.
    entry.witness = !this.#volatile || this.#live.size === 0;
    this.#live.add(entry);
    if (entry.witness) return;
    this.#unproven += 1;
    for (const other of this.#live) if (other.witness) other.probeSoon = true;
  }

  /** Takes a path out. True when acknowledged writes may be gone that nobody was told of. */
  remove(entry: PathEntry): boolean {
    if (!this.#live.delete(entry)) return false;
    if (!entry.witness) {
      this.#unproven -= 1;
      return false;
    }
    for (const other of this.#live) if (other.witness) return false;
    return this.#broken();
  }

  /** The target has answered over this path what was sent at `sentMs`. */
  answered(entry: PathEntry, sentMs: number): void {
    if (!entry.witness) return;
    for (const other of this.#live) {
      if (other.witness || other.addedMs > sentMs) continue;
      other.witness = true;
      this.#unproven -= 1;
    }
  }

  /**
   * The paths that a flush may go over: its success says something over a witness only, the best of those that are ready.
   * None while a witness that takes no I/O (a port in standby) is still to be asked: its answer proves the others.
   */
  forFlush(usable: readonly PathEntry[], ready: readonly PathEntry[]): readonly PathEntry[] {
    if (this.#unproven === 0) return usable;
    for (const paths of [usable, ready]) {
      const witnesses = paths.filter((entry) => entry.witness);
      if (witnesses.length > 0) return witnesses;
    }
    if (ready.length === 0) return ready;
    for (const entry of this.#live) {
      const { witness, state } = entry;
      if (witness && (state === PathState.Ghost || state === PathState.Disabled)) return [];
    }
    this.#broken();
    return usable;
  }

  /** Has the target make durable what was acknowledged. False when that is not certain. */
  async empty(usable: readonly PathEntry[], ready: readonly PathEntry[]): Promise<boolean> {
    const mark = this.begin();
    const [path] = this.forFlush(usable, ready);
    if (path === undefined) return !this.lossPending && !this.dirty;
    await path.device.flush(NO_DEADLINE);
    return this.complete(mark);
  }

  /** Before a path that works is taken out: what it alone has seen is proven to the others, or made durable. */
  async handOver(entry: PathEntry, nowMs: number): Promise<void> {
    if (!entry.witness || !this.#volatile) return;
    if (this.#live.size > 1) {
      if (this.#unproven === 0) return;
      await entry.device.probe(NO_DEADLINE);
      return this.answered(entry, nowMs);
    }
    if (this.lossPending || !this.dirty) return;
    const mark = this.begin();
    await entry.device.flush(NO_DEADLINE);
    if (!this.lossPending) this.complete(mark);
  }

  /** From here on the paths that there are witness; what was before is not known. */
  #broken(): boolean {
    for (const entry of this.#live) entry.witness = true;
    this.#unproven = 0;
    this.#doubts += 1;
    return this.#guard.cacheMayBeLost();
  }
}
