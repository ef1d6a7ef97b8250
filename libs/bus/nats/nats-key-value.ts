import { StorageType } from '@nats-io/jetstream';
import type { KV, Kvm } from '@nats-io/kv';
import { sleep } from '../../core/clock.ts';
import { isOrionError } from '../../core/errors.ts';
import { hexId } from '../../core/rng.ts';
import type { KeyValue, KvEntry, Payload, Subscription } from '../bus.ts';
import { decodePayload, encodePayload } from '../codec.ts';
import { busErrors } from '../errors.ts';
import { assertSubject } from '../subject.ts';
import type { NatsBus } from './nats-bus.ts';
import { fromNats, isBucketGone } from './nats-errors.ts';
import { INCARNATION_KEY, NatsWatch } from './nats-watch.ts';

/** Between two tries to open the bucket after a reconnect; a JetStream cluster may have no leader yet. */
const REOPEN_WAIT_MS = 250;

/**
 * A JetStream bucket. After every reconnect it is opened anew before any operation goes on: a server that lost its
 * store has no bucket (or another one), and whoever uses it must see the new incarnation first.
 */
export class NatsKeyValue implements KeyValue {
  readonly bucket: string;
  readonly #bus: NatsBus;
  readonly #kvm: Kvm;
  readonly #watches = new Set<NatsWatch>();
  #kv: KV | null = null;
  #incarnation = '';
  #reopening: Promise<void> | null = null;
  #reopens = 0;
  #closed = false;

  constructor(bus: NatsBus, kvm: Kvm, bucket: string) {
    this.#bus = bus;
    this.#kvm = kvm;
    this.bucket = bucket;
  }

  get incarnation(): string {
    return this.#incarnation;
  }

  async get(key: string): Promise<KvEntry | null> {
    assertSubject(key);
    const entry = await this.#call('get', key, (kv) => kv.get(key));
    if (entry === null || entry.operation !== 'PUT') return null;
    return { key, value: decodePayload(entry.value, key), revision: entry.revision };
  }

  async create(key: string, value: Payload): Promise<number> {
    assertSubject(key);
    const bytes = encodePayload(value, key);
    return this.#call('create', key, (kv) => kv.create(key, bytes));
  }

  async update(key: string, value: Payload, revision: number): Promise<number> {
    assertSubject(key);
    const bytes = encodePayload(value, key);
    return this.#call('update', key, (kv) => kv.update(key, bytes, revision));
  }

  async delete(key: string): Promise<void> {
    assertSubject(key);
    await this.#call('delete', key, (kv) => kv.delete(key));
  }

  async keys(prefix: string): Promise<string[]> {
    return this.#call('keys', prefix, async (kv) => {
      const found: string[] = [];
      for await (const key of await kv.keys(filterOf(prefix))) {
        if (key.startsWith(prefix) && key !== INCARNATION_KEY) found.push(key);
      }
      return found;
    });
  }

  async watch(prefix: string, handler: (entry: KvEntry) => void): Promise<Subscription> {
    const watch = new NatsWatch(this.#bus, this, prefix, handler);
    const subscription = {
      unsubscribe: () => {
        this.#watches.delete(watch);
        watch.stop();
      },
    };
    this.#watches.add(watch);
    try {
      await this.#call('watch', prefix, () => watch.start());
    } catch (error) {
      subscription.unsubscribe();
      throw error;
    }
    return subscription;
  }

  /** Opens the bucket, makes it if it is missing, and learns its incarnation. */
  async open(): Promise<void> {
    const fields = { bucket: this.bucket, verb: 'open' };
    try {
      const kv = await this.#kvm.create(this.bucket, {
        history: 1,
        storage: StorageType.File,
        replicas: this.#bus.replicas,
        // A follower that lags may answer a direct get: no reading of one's own writes.
        allow_direct: false,
      });
      this.#incarnation = await readIncarnation(kv, hexId(this.#bus.rng, 16), fields);
      this.#kv = kv;
    } catch (error) {
      throw fromNats(error, fields);
    }
  }

  /** The opened bucket; after a reconnect when it is open again. */
  async opened(): Promise<KV> {
    await this.#reopening;
    return this.#kv!;
  }

  /** The connection is back. */
  reopen(): void {
    if (this.#closed) return;
    this.#reopens += 1;
    this.#reopening = this.#reopenUntilDone(this.#reopens);
    for (const watch of this.#watches) watch.restart();
  }

  close(): void {
    this.#closed = true;
    this.#reopens += 1;
    for (const watch of this.#watches) watch.stop();
    this.#watches.clear();
  }

  async #reopenUntilDone(reopen: number): Promise<void> {
    while (reopen === this.#reopens) {
      try {
        await this.open();
        break;
      } catch {
        // Whoever waits for the bucket has a timeout and reports it.
        await sleep(this.#bus.clock, REOPEN_WAIT_MS);
      }
    }
    if (reopen === this.#reopens) this.#reopening = null;
  }

  async #call<T>(verb: string, key: string, run: (kv: KV) => Promise<T>): Promise<T> {
    const fields = { bucket: this.bucket, verb, key };
    const options = { timeoutMs: this.#bus.kvTimeoutMs };
    return this.#bus.calls.run<T>(options, fields, (resolve, reject, waits) => {
      this.#attempt(run, waits).then(resolve, (error: unknown) => reject(fromNats(error, fields)));
    });
  }

  async #attempt<T>(run: (kv: KV) => Promise<T>, waits: () => boolean): Promise<T> {
    const kv = await this.opened();
    // A change that its caller has given up may not be sent: it would come after what he did next.
    if (!waits()) throw busErrors.make('BUS_TIMEOUT');
    try {
      return await run(kv);
    } catch (error) {
      if (!isBucketGone(error)) throw error;
      await this.open();
      if (!waits()) throw busErrors.make('BUS_TIMEOUT');
      return run(this.#kv!);
    }
  }
}

/** The first who opens the bucket writes it, by compare-and-set. */
async function readIncarnation(
  kv: KV,
  proposal: string,
  fields: Record<string, string>,
): Promise<string> {
  const found = await kv.get(INCARNATION_KEY);
  if (found?.operation === 'PUT') return incarnationOf(found.value, fields);
  try {
    await kv.create(INCARNATION_KEY, encodePayload(proposal, INCARNATION_KEY));
    return proposal;
  } catch (error) {
    const conflict = fromNats(error, fields);
    if (!isOrionError(conflict) || conflict.code !== 'BUS_KV_CONFLICT') throw conflict;
    return readIncarnation(kv, proposal, fields);
  }
}

function incarnationOf(bytes: Uint8Array, fields: Record<string, string>): string {
  const value = decodePayload(bytes, INCARNATION_KEY);
  if (typeof value === 'string' && value !== '') return value;
  throw busErrors.make('BUS_BAD_MESSAGE', { fields: { ...fields, key: INCARNATION_KEY } });
}

/** The narrowest filter of whole tokens that lets every key with the prefix pass. */
function filterOf(prefix: string): string {
  return `${prefix.slice(0, prefix.lastIndexOf('.') + 1)}>`;
}
