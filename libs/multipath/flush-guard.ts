/**
 * Knows whether acknowledged writes may sit in the target's volatile cache, and whether that cache may have been
 * lost (failover.md I5). A flush that would hide such a loss is failed, once.
 */
export class FlushGuard {
  #volatile: boolean;
  /** Counts acknowledged writes that a flush has still to cover. */
  #writes = 0;
  #flushedWrites = 0;
  #losses: number;
  #reportedLosses = 0;
  /** Of the losses: the doubt that it began with, until it was reported. */
  #inherited: number;

  /** `mayBeLost`: the cache may have been lost before. */
  constructor(volatileCache: boolean, mayBeLost = false) {
    this.#volatile = volatileCache;
    this.#inherited = volatileCache && mayBeLost ? 1 : 0;
    this.#losses = this.#inherited;
  }

  get dirty(): boolean {
    return this.#writes !== this.#flushedWrites;
  }

  get lossPending(): boolean {
    return this.#losses !== this.#reportedLosses;
  }

  /** The unit has a volatile cache after all: what was acknowledged before we knew may stand in it. */
  switchOn(): void {
    this.#volatile = true;
    this.#writes += 1;
  }

  /** A write without FUA was acknowledged. */
  wrote(): void {
    if (this.#volatile) this.#writes += 1;
  }

  /** The logical unit may have lost its cache. True when that put acknowledged writes at risk. */
  cacheMayBeLost(): boolean {
    if (!this.dirty) return false;
    this.#losses += 1;
    return true;
  }

  /** Something acknowledged is gone for certain, flushed or not, and whatever the cache is. */
  isLost(): void {
    this.#losses += 1;
  }

  /** The doubt that it began with is over. */
  isWhole(): void {
    this.#losses -= this.#inherited;
    this.#inherited = 0;
  }

  /** Before SYNCHRONIZE CACHE is sent: what it will cover if nothing is lost meanwhile. */
  begin(): FlushMark {
    return { writes: this.#writes, reportedLosses: this.#reportedLosses };
  }

  /**
   * SYNCHRONIZE CACHE succeeded. False when the flush must be failed: a loss had not been reported when it began.
   * Every flush that began before the report fails, so that each client that waits for one learns of the loss.
   */
  complete(mark: FlushMark): boolean {
    this.#flushedWrites = Math.max(this.#flushedWrites, mark.writes);
    return !this.report(mark);
  }

  /** True when a flush that began with `mark` has to fail; then it is the report. */
  report({ reportedLosses }: FlushMark): boolean {
    if (this.#losses === reportedLosses) return false;
    this.#reportedLosses = this.#losses;
    this.#inherited = 0;
    return true;
  }
}

export interface FlushMark {
  readonly writes: number;
  readonly reportedLosses: number;
}
