/** What clients did to one block and what they were told, for judging afterwards. */

export interface WriteEvent {
  readonly value: number;
  readonly startMs: number;
  /** When it was acknowledged; Infinity: never (failed, or its client is gone), so it may or may not have happened. */
  ackedMs: number;
  /** Written with FUA: an acknowledged one survives a loss of the target's cache. */
  readonly durable?: boolean;
}

/** A flush of the volume and what its client was told. It is about all that was acknowledged before it began. */
export interface FlushEvent {
  readonly startMs: number;
  readonly endMs: number;
  readonly ok: boolean;
}

export interface ReadEvent {
  readonly value: number;
  readonly startMs: number;
  readonly endMs: number;
}

/** The value of a block that was never written. */
export const UNWRITTEN = 0;

/**
 * The writes and reads of single blocks, each write with a value of its own. `violations` finds every read that no order
 * of the writes allows: a value that nobody wrote, or one that a later write had replaced for certain. What the target's
 * cache held when it lost its power may be gone, unless a flush was told to have succeeded and none to have failed.
 */
export class History {
  readonly #writes = new Map<number, Map<number, WriteEvent>>();
  readonly #reads = new Map<number, ReadEvent[]>();
  readonly #flushes: FlushEvent[] = [];
  readonly #losses: number[] = [];

  wrote(block: number, event: WriteEvent): void {
    const writes = this.#writes.get(block) ?? new Map<number, WriteEvent>();
    writes.set(event.value, event);
    this.#writes.set(block, writes);
  }

  read(block: number, event: ReadEvent): void {
    const reads = this.#reads.get(block);
    if (reads === undefined) this.#reads.set(block, [event]);
    else reads.push(event);
  }

  flushed(event: FlushEvent): void {
    this.#flushes.push(event);
  }

  /** The target lost what was in its cache. */
  lostCache(atMs: number): void {
    this.#losses.push(atMs);
  }

  get flushes(): readonly FlushEvent[] {
    return this.#flushes;
  }

  get acknowledged(): number {
    let count = 0;
    for (const writes of this.#writes.values()) {
      for (const write of writes.values())
        if (write.ackedMs !== Number.POSITIVE_INFINITY) count += 1;
    }
    return count;
  }

  violations(): string[] {
    const found: string[] = [];
    for (const [block, reads] of this.#reads) {
      const writes = this.#writes.get(block) ?? new Map<number, WriteEvent>();
      for (const read of reads) {
        const mayBeGone = (write: WriteEvent): boolean => this.#mayBeGone(write, read);
        const reason = readViolation(read, writes, reads, mayBeGone);
        if (reason !== null) found.push(`block ${block}, read at ${read.startMs} ms: ${reason}`);
      }
    }
    return found;
  }

  #mayBeGone(write: WriteEvent, read: ReadEvent): boolean {
    return this.#losses.some((lossMs) => {
      if (lossMs < write.startMs || lossMs > read.endMs) return false;
      if (write.durable === true && write.ackedMs <= lossMs) return false;
      // A flush that says "all is safe" about this write binds, also when it is said after the loss ...
      const promised = this.#flushes.find(
        ({ ok, startMs, endMs }) => ok && startMs >= write.ackedMs && endMs <= read.startMs,
      );
      if (promised === undefined) return true;
      // ... unless the loss had been told by then.
      return this.#flushes.some(
        ({ ok, endMs }) => !ok && endMs >= lossMs && endMs <= promised.endMs,
      );
    });
  }
}

function readViolation(
  read: ReadEvent,
  writes: ReadonlyMap<number, WriteEvent>,
  reads: readonly ReadEvent[],
  mayBeGone: (write: WriteEvent) => boolean,
): string | null {
  const source = writes.get(read.value);
  if (source === undefined && read.value !== UNWRITTEN) {
    return `value ${read.value} was never written here`;
  }
  if (source !== undefined && source.startMs > read.endMs) {
    return `value ${read.value} was read before it was written`;
  }
  // The value was certainly on the disk by then, so whatever began later replaced it.
  const settledMs = source === undefined ? Number.NEGATIVE_INFINITY : source.ackedMs;
  for (const later of writes.values()) {
    if (later.startMs <= settledMs || later.value === read.value) continue;
    if (mayBeGone(later)) continue;
    if (later.ackedMs < read.startMs) {
      return `value ${read.value} (acknowledged at ${settledMs}) stands where ${later.value} was acknowledged at ${later.ackedMs}`;
    }
    // Seen once, a newer value may not give way to an older one again, acknowledged or not.
    const seen = reads.find((other) => other.value === later.value && other.endMs < read.startMs);
    if (seen !== undefined) {
      return `value ${read.value} (acknowledged at ${settledMs}) came back after ${later.value} was read at ${seen.endMs}`;
    }
  }
  return null;
}
