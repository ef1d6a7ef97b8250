import type { KvEntry } from '../bus.ts';
import { decodePayload } from '../codec.ts';
import { WatchView } from '../watch-view.ts';
import type { BucketChange } from './bucket.ts';
import type { MemoryBusHub } from './hub.ts';
import type { MemoryBus } from './memory-bus.ts';

/**
 * A watch as the server keeps it: changes are pushed in order; after the first that could not be delivered it waits
 * for `resume`, which replays the whole bucket, and the view on the client's side drops what it has told.
 */
export class MemoryWatch {
  readonly bucket: string;
  readonly #hub: MemoryBusHub;
  readonly #client: MemoryBus;
  readonly #view: WatchView;
  #incarnation = '';
  #behind = true;
  /** Grows with every replay; what comes late from an older one is dropped. */
  #replay = 0;
  #stopped = false;

  constructor(
    hub: MemoryBusHub,
    client: MemoryBus,
    bucket: string,
    prefix: string,
    handler: (entry: KvEntry) => void,
  ) {
    this.#hub = hub;
    this.#client = client;
    this.bucket = bucket;
    this.#view = new WatchView(prefix, handler);
  }

  push(change: BucketChange): void {
    if (this.#behind) return;
    this.#send(() => this.#tell(change));
  }

  /** Replays the bucket if something was missed. */
  resume(): void {
    if (!this.#behind || this.#stopped) return;
    this.#behind = false;
    this.#replay += 1;
    const bucket = this.#hub.bucket(this.bucket);
    const revision = bucket.revision;
    this.#send(() => {
      this.#view.snapshotStart(this.#incarnation !== bucket.incarnation);
      this.#incarnation = bucket.incarnation;
    });
    for (const change of bucket.list('')) this.#send(() => this.#tell(change));
    this.#send(() => this.#view.snapshotEnd(revision));
  }

  /** The connection broke: what is under way will not arrive. */
  interrupt(): void {
    this.#behind = true;
  }

  stop(): void {
    this.#stopped = true;
    this.#client.watches.delete(this);
  }

  #tell(change: BucketChange): void {
    const { key, bytes, revision } = change;
    const value = bytes === null ? null : decodePayload(bytes, key);
    try {
      this.#view.update({ key, value, revision, deleted: bytes === null });
    } catch (error) {
      this.#hub.onHandlerError(error, key);
    }
  }

  #send(tell: () => void): void {
    const replay = this.#replay;
    const current = (): boolean => replay === this.#replay && !this.#stopped;
    const deliver = (): void => {
      if (current() && !this.#behind) tell();
    };
    const lost = (): void => {
      if (current()) this.#behind = true;
    };
    this.#hub.transmit(null, this.#client, { deliver, lost, reliable: true });
  }
}
