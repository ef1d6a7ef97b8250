import type { KV, KvWatchEntry } from '@nats-io/kv';
import { sleep } from '../../core/clock.ts';
import type { KvEntry } from '../bus.ts';
import { WatchView } from '../watch-view.ts';
import type { NatsBus } from './nats-bus.ts';
import type { NatsKeyValue } from './nats-key-value.ts';

/** Where a bucket keeps its incarnation; not shown to users of the bucket. */
export const INCARNATION_KEY = 'meta.incarnation';

const RETRY_WAIT_MS = 250;

type Entries = Awaited<ReturnType<KV['watch']>>;

/**
 * One watch. The library's consumer survives gaps, but it goes on from a sequence number, which means nothing in a
 * bucket made anew; so after a reconnect the watch starts over and its view drops what has been told.
 */
export class NatsWatch {
  readonly #bus: NatsBus;
  readonly #keyValue: NatsKeyValue;
  readonly #view: WatchView;
  #entries: Entries | null = null;
  #incarnation = '';
  #stopped = false;

  constructor(
    bus: NatsBus,
    keyValue: NatsKeyValue,
    prefix: string,
    handler: (entry: KvEntry) => void,
  ) {
    this.#bus = bus;
    this.#keyValue = keyValue;
    this.#view = new WatchView(prefix, handler);
  }

  /** Resolves when the server has it; rejects when it could not be made. After that it keeps itself alive. */
  async start(): Promise<void> {
    const entries = await this.#begin();
    void this.#follow(entries); // ends with `stop`, does not reject
  }

  restart(): void {
    this.#entries?.stop();
  }

  stop(): void {
    this.#stopped = true;
    this.#entries?.stop();
  }

  /** The whole bucket is watched: it is never empty (it has its incarnation), so a snapshot has an end. */
  async #begin(): Promise<Entries> {
    const kv = await this.#keyValue.opened();
    const entries = await kv.watch({ key: '>' });
    this.#entries = entries;
    if (this.#stopped) entries.stop();
    return entries;
  }

  async #follow(first: Entries): Promise<void> {
    let entries: Entries | null = first;
    while (!this.#stopped) {
      try {
        entries ??= await this.#begin();
        await this.#tell(entries);
      } catch (error) {
        // Without a connection nothing else is to be expected. With one it is worth telling.
        if (this.#bus.status === 'connected' && !this.#stopped) {
          this.#bus.onWatchBroken(error, this.#keyValue.bucket);
        }
      }
      entries?.stop();
      entries = null;
      if (!this.#stopped) await sleep(this.#bus.clock, RETRY_WAIT_MS);
    }
  }

  async #tell(entries: Entries): Promise<void> {
    const { incarnation } = this.#keyValue;
    this.#view.snapshotStart(incarnation !== this.#incarnation);
    this.#incarnation = incarnation;
    let inSnapshot = true;
    for await (const entry of entries) {
      if (this.#stopped || entries !== this.#entries) return;
      this.#tellOne(entry);
      if (inSnapshot && entry.delta === 0) {
        inSnapshot = false;
        this.#view.snapshotEnd(entry.revision);
      }
    }
  }

  #tellOne(entry: KvWatchEntry): void {
    const { key, revision } = entry;
    if (key === INCARNATION_KEY) return;
    const deleted = entry.operation !== 'PUT';
    const value = deleted ? null : this.#bus.decode(entry.value, key);
    if (value === undefined) return;
    try {
      this.#view.update({ key, value, revision, deleted });
    } catch (error) {
      this.#bus.onError(error, key);
    }
  }
}
