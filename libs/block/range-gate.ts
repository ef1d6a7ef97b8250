/** One write (shared) or read-modify-write (exclusive) of a byte range, from its arrival to its end. */
export interface GateEntry {
  start: number;
  end: number;
  exclusive: boolean;
  /** Earlier entries that it has to wait for. */
  blockers: number;
  wake: (() => void) | null;
  previous: GateEntry | null;
  next: GateEntry | null;
}

function conflict(a: GateEntry, b: GateEntry): boolean {
  return (a.exclusive || b.exclusive) && a.start < b.end && b.start < a.end;
}

/**
 * Orders read-modify-writes against everything that writes the same blocks. Plain writes do not wait for one
 * another (clients order those themselves); a read-modify-write waits for every earlier overlapping entry and every
 * later overlapping one waits for it. Waiting is always for earlier arrivals, so nothing can deadlock.
 *
 * Without this, a block read for a modification could be written back over a newer, acknowledged write.
 */
export class RangeGate {
  #first: GateEntry | null = null;
  #last: GateEntry | null = null;
  #exclusives = 0;

  /** Entries inside or waiting. */
  get busy(): boolean {
    return this.#first !== null;
  }

  /** Enters the range. When `entry.blockers` is 0 afterwards it may start, else `entry.wake` is called in time. */
  enter(entry: GateEntry): void {
    entry.blockers = 0;
    if (entry.exclusive) this.#exclusives += 1;
    if (this.#exclusives > 0) {
      for (let other = this.#first; other !== null; other = other.next) {
        if (conflict(other, entry)) entry.blockers += 1;
      }
    }
    entry.previous = this.#last;
    entry.next = null;
    if (this.#last === null) this.#first = entry;
    else this.#last.next = entry;
    this.#last = entry;
  }

  leave(entry: GateEntry): void {
    const { previous, next } = entry;
    if (previous === null) this.#first = next;
    else previous.next = next;
    if (next === null) this.#last = previous;
    else next.previous = previous;
    entry.previous = null;
    entry.next = null;
    if (this.#exclusives === 0) return;
    if (entry.exclusive) this.#exclusives -= 1;
    let ready: (() => void)[] | null = null;
    for (let other = next; other !== null; other = other.next) {
      if (!conflict(entry, other)) continue;
      other.blockers -= 1;
      if (other.blockers > 0 || other.wake === null) continue;
      ready ??= [];
      ready.push(other.wake);
      other.wake = null;
    }
    // Woken after the walk: a woken entry may leave, and change the list, at once.
    if (ready !== null) for (const wake of ready) wake();
  }

  /** Resolves when the entry may start; it has entered already. */
  ready(entry: GateEntry): Promise<void> {
    return new Promise((resolve) => {
      if (entry.blockers === 0) resolve();
      else entry.wake = resolve;
    });
  }
}

export function gateEntry(start: number, end: number, exclusive: boolean): GateEntry {
  return { start, end, exclusive, blockers: 0, wake: null, previous: null, next: null };
}
