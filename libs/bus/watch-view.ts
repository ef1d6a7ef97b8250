import type { KvEntry } from './bus.ts';

/** A key's newest state as the server tells it; `value` null with `deleted`. */
export interface WatchUpdate extends KvEntry {
  readonly deleted: boolean;
}

/**
 * What one watcher has been told, so that a watch which starts over (reconnect, bucket made anew) tells only what
 * is new: no entry twice, no older one after a newer one, and null for a key that went away unseen.
 */
export class WatchView {
  readonly #prefix: string;
  readonly #handler: (entry: KvEntry) => void;
  #told = new Map<string, number>();
  /** Keys seen since the watch started over; null when it is not starting over. */
  #present: Set<string> | null = null;

  constructor(prefix: string, handler: (entry: KvEntry) => void) {
    this.#prefix = prefix;
    this.#handler = handler;
  }

  /** A snapshot of the whole bucket follows, up to `snapshotEnd`. `anew`: it is another bucket, revisions restart. */
  snapshotStart(anew: boolean): void {
    this.#present = new Set();
    if (anew) for (const key of this.#told.keys()) this.#told.set(key, 0);
  }

  update(update: WatchUpdate): void {
    const { key, value, revision, deleted } = update;
    if (!key.startsWith(this.#prefix)) return;
    const told = this.#told.get(key);
    if (told !== undefined && revision <= told) {
      if (!deleted) this.#present?.add(key);
      return;
    }
    if (deleted) {
      this.#told.delete(key);
      this.#present?.delete(key);
      if (told !== undefined) this.#handler({ key, value: null, revision });
      return;
    }
    this.#told.set(key, revision);
    this.#present?.add(key);
    this.#handler({ key, value, revision });
  }

  snapshotEnd(revision: number): void {
    const present = this.#present;
    this.#present = null;
    if (present === null) return;
    for (const key of [...this.#told.keys()]) {
      if (present.has(key)) continue;
      this.#told.delete(key);
      this.#handler({ key, value: null, revision });
    }
  }
}
