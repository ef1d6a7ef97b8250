import type { KeyValue, KvEntry, Payload, Subscription } from '../bus.ts';
import { decodePayload, encodePayload } from '../codec.ts';
import { assertSubject } from '../subject.ts';
import type { Bucket } from './bucket.ts';
import type { MemoryBusHub } from './hub.ts';
import type { MemoryBus } from './memory-bus.ts';
import { MemoryWatch } from './memory-watch.ts';

export class MemoryKeyValue implements KeyValue {
  readonly #hub: MemoryBusHub;
  readonly #client: MemoryBus;
  readonly #bucket: string;
  #incarnation = '';

  constructor(hub: MemoryBusHub, client: MemoryBus, bucket: string) {
    this.#hub = hub;
    this.#client = client;
    this.#bucket = bucket;
  }

  get incarnation(): string {
    return this.#incarnation;
  }

  async get(key: string): Promise<KvEntry | null> {
    assertSubject(key);
    const found = await this.#call('get', key, (bucket) => bucket.get(key));
    if (found === null) return null;
    return { key, value: decodePayload(found.bytes!, key), revision: found.revision };
  }

  async create(key: string, value: Payload): Promise<number> {
    return this.update(key, value, 0);
  }

  async update(key: string, value: Payload, revision: number): Promise<number> {
    assertSubject(key);
    const bytes = encodePayload(value, key);
    return this.#call('update', key, (bucket) => bucket.put(key, bytes, revision));
  }

  async delete(key: string): Promise<void> {
    assertSubject(key);
    await this.#call('delete', key, (bucket) => bucket.delete(key));
  }

  async keys(prefix: string): Promise<string[]> {
    const found = await this.#call('keys', prefix, (bucket) => bucket.list(prefix));
    return found.map((entry) => entry.key);
  }

  async watch(prefix: string, handler: (entry: KvEntry) => void): Promise<Subscription> {
    await this.refresh();
    const watch = new MemoryWatch(this.#hub, this.#client, this.#bucket, prefix, handler);
    this.#client.watches.add(watch);
    watch.resume();
    return { unsubscribe: () => watch.stop() };
  }

  /** Learns the incarnation. Every operation does, too. */
  async refresh(): Promise<void> {
    await this.#call('open', '', () => null);
  }

  async #call<T>(verb: string, key: string, apply: (bucket: Bucket) => T): Promise<T> {
    const hub = this.#hub;
    const client = this.#client;
    const fields = { bucket: this.#bucket, verb, key };
    return client.calls.run<T>({ timeoutMs: hub.kvTimeoutMs }, fields, (resolve, reject) => {
      const atServer = (): void => {
        const bucket = hub.bucket(this.#bucket);
        const answer = attempt(() => apply(bucket), resolve, reject);
        const deliver = (): void => {
          this.#incarnation = bucket.incarnation;
          answer();
        };
        hub.transmit(null, client, { deliver });
      };
      hub.transmit(client, null, { deliver: atServer });
    });
  }
}

/** Runs it now, gives a function that tells the result later. */
function attempt<T>(
  run: () => T,
  resolve: (value: T) => void,
  reject: (error: unknown) => void,
): () => void {
  try {
    const value = run();
    return () => resolve(value);
  } catch (error) {
    return () => reject(error);
  }
}
