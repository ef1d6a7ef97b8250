import { busErrors } from '../errors.ts';

interface Stored {
  readonly bytes: Uint8Array;
  readonly revision: number;
}

export interface BucketChange {
  readonly key: string;
  /** Null: deleted. */
  readonly bytes: Uint8Array | null;
  readonly revision: number;
}

/** The server's side of a key-value bucket: one counter of revisions over all keys, as a JetStream stream has. */
export class Bucket {
  readonly incarnation: string;
  readonly #name: string;
  readonly #onChange: (change: BucketChange) => void;
  readonly #entries = new Map<string, Stored>();
  #revision = 0;

  constructor(name: string, incarnation: string, onChange: (change: BucketChange) => void) {
    this.#name = name;
    this.incarnation = incarnation;
    this.#onChange = onChange;
  }

  get revision(): number {
    return this.#revision;
  }

  get(key: string): BucketChange | null {
    const stored = this.#entries.get(key);
    return stored === undefined ? null : { key, ...stored };
  }

  /** Stores when the key's revision is the expected one (0: it must not exist). Gives the new revision. */
  put(key: string, bytes: Uint8Array, expected: number): number {
    const found = this.#entries.get(key)?.revision ?? 0;
    if (found !== expected) {
      const fields = { bucket: this.#name, key, expected, found };
      throw busErrors.make('BUS_KV_CONFLICT', { fields });
    }
    this.#revision += 1;
    this.#entries.set(key, { bytes, revision: this.#revision });
    this.#onChange({ key, bytes, revision: this.#revision });
    return this.#revision;
  }

  delete(key: string): void {
    if (!this.#entries.delete(key)) return;
    this.#revision += 1;
    this.#onChange({ key, bytes: null, revision: this.#revision });
  }

  /** Oldest change first, as a stream replays. */
  list(prefix: string): BucketChange[] {
    return [...this.#entries]
      .filter(([key]) => key.startsWith(prefix))
      .map(([key, stored]) => ({ key, ...stored }))
      .sort((a, b) => a.revision - b.revision);
  }
}
