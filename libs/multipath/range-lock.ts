import { Fifo } from '../core/fifo.ts';

/** Something that changes [offset, end) and may have to wait for others that do. */
export interface RangeHolder {
  readonly offset: number;
  readonly end: number;
  /** Its place in the table of held ranges; owned by the lock. */
  lockIndex: number;
  /** When waiting for its turn ends in an error. */
  readonly giveUpMs: number;
  /** Called when its turn comes, if it could not be admitted at once. */
  admitted(): void;
}

/**
 * One writer at a time for every byte: changes that overlap are carried out one after the other, in the order they
 * came. A range is held from admission until the change is acknowledged or can never execute any more, so while the
 * outcome of a write is unknown nothing that overlaps it is sent (failover.md I3), and a late retry cannot
 * overwrite a newer write (I2).
 *
 * Depths are those of a block device's queue (tens to a few hundreds), where a scan over plain numbers is quicker
 * than any tree.
 */
export class RangeLock<Holder extends RangeHolder = RangeHolder> {
  readonly #from: number[] = [];
  readonly #to: number[] = [];
  readonly #held: Holder[] = [];
  #waiting = new Fifo<Holder>();

  get heldCount(): number {
    return this.#held.length;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** True when admitted now; else `admitted` is called later. */
  acquire(holder: Holder): boolean {
    if (this.#waiting.length > 0 || this.#overlapsHeld(holder.offset, holder.end)) {
      if (this.#mustWait(holder)) {
        this.#waiting.push(holder);
        return false;
      }
    }
    this.#hold(holder);
    return true;
  }

  release(holder: Holder): void {
    const index = holder.lockIndex;
    const last = this.#held.length - 1;
    if (index !== last) {
      const moved = this.#held[last]!;
      this.#held[index] = moved;
      this.#from[index] = this.#from[last]!;
      this.#to[index] = this.#to[last]!;
      moved.lockIndex = index;
    }
    this.#held.length = last;
    this.#from.length = last;
    this.#to.length = last;
    holder.lockIndex = -1;
    if (this.#waiting.length > 0) this.#admitWaiting();
  }

  /** Takes out those that waited for their turn until their time was up. */
  expired(nowMs: number): Holder[] {
    if (this.#waiting.length === 0) return [];
    const queue = this.#waiting.drain();
    const late = queue.filter((holder) => nowMs >= holder.giveUpMs);
    for (const holder of queue) if (nowMs < holder.giveUpMs) this.#waiting.push(holder);
    if (late.length > 0) this.#admitWaiting();
    return late;
  }

  /** Takes out all that wait for their turn. */
  drain(): Holder[] {
    return this.#waiting.drain();
  }

  #hold(holder: Holder): void {
    holder.lockIndex = this.#held.length;
    this.#held.push(holder);
    this.#from.push(holder.offset);
    this.#to.push(holder.end);
  }

  #overlapsHeld(offset: number, end: number): boolean {
    const from = this.#from;
    const to = this.#to;
    for (let i = 0; i < from.length; i++) {
      if (from[i]! < end && offset < to[i]!) return true;
    }
    return false;
  }

  /** A newcomer may not overtake a waiting change that it overlaps. */
  #mustWait(holder: Holder): boolean {
    if (this.#overlapsHeld(holder.offset, holder.end)) return true;
    const waiting = this.#waiting.drain();
    let overlaps = false;
    for (const other of waiting) {
      if (other.offset < holder.end && holder.offset < other.end) overlaps = true;
      this.#waiting.push(other);
    }
    return overlaps;
  }

  #admitWaiting(): void {
    const queue = this.#waiting.drain();
    const still: Holder[] = [];
    const admitted: Holder[] = [];
    for (const holder of queue) {
      const behind = still.some((other) => other.offset < holder.end && holder.offset < other.end);
      if (behind || this.#overlapsHeld(holder.offset, holder.end)) still.push(holder);
      else {
        this.#hold(holder);
        admitted.push(holder);
      }
    }
    for (const holder of still) this.#waiting.push(holder);
    for (const holder of admitted) holder.admitted();
  }
}
