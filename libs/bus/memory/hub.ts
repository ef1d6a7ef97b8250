import type { Clock } from '../../core/clock.ts';
import { hexId, intBetween, pick, type Rng } from '../../core/rng.ts';
import type { Bus } from '../bus.ts';
import { subjectMatches } from '../subject.ts';
import { Bucket, type BucketChange } from './bucket.ts';
import { MemoryBus, type Registration } from './memory-bus.ts';
import { Wire } from './wire.ts';

/** The name of the server where partitions are told; it holds the key-value buckets. */
export const SERVER = 'server';

const KV_TIMEOUT_MS = 2000;

export interface MemoryBusKnobs {
  /** Of each hop; drawn evenly. */
  delayMs: { min: number; max: number };
  /** Probability that a hop loses a message, a request, a reply. */
  loss: number;
  /** Probability that a message or a request arrives twice. */
  duplication: number;
}

export interface MemoryBusHubOptions {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly knobs?: Partial<MemoryBusKnobs>;
  readonly kvTimeoutMs?: number;
  /** A subscriber's handler threw. Thrown on, as a bug, when left out. */
  readonly onHandlerError?: (error: unknown, subject: string) => void;
}

/** Who sends or gets a parcel; null is the server. */
type Endpoint = MemoryBus | null;

export interface Delivery {
  readonly deliver: () => void;
  readonly lost?: () => void;
  /** It may arrive twice. */
  readonly repeatable?: boolean;
  /** Random loss does not touch it (a broken connection does). */
  readonly reliable?: boolean;
}

/**
 * The bus in one process: the embedded mode runs on it with perfect knobs, the simulation with bad ones. It keeps
 * what NATS promises: messages from one client to another never overtake each other, and arrive at most once
 * (unless `duplication` says otherwise). Payloads pass through msgpack, so that no object is shared.
 */
export class MemoryBusHub {
  readonly knobs: MemoryBusKnobs;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly kvTimeoutMs: number;
  readonly onHandlerError: (error: unknown, subject: string) => void;
  readonly #clients = new Set<MemoryBus>();
  readonly #buckets = new Map<string, Bucket>();
  readonly #wires = new Map<string, Wire>();
  #groupOf = new Map<string, number>();
  #up = true;
  /** Grows when all connections break: what was under way is gone. */
  #connections = 0;
  #lastId = 0;

  constructor(options: MemoryBusHubOptions) {
    this.clock = options.clock;
    this.rng = options.rng;
    this.kvTimeoutMs = options.kvTimeoutMs ?? KV_TIMEOUT_MS;
    this.onHandlerError = options.onHandlerError ?? throwOn;
    this.knobs = { delayMs: { min: 0, max: 0 }, loss: 0, duplication: 0, ...options.knobs };
  }

  /** `name` is what `partition` calls this client; several may share it (a process with several parts). */
  connect(name: string): Bus {
    this.#lastId += 1;
    const client = new MemoryBus(this, name, this.#lastId, this.#up ? 'connected' : 'disconnected');
    this.#clients.add(client);
    return client;
  }

  /**
   * Only clients of one group reach each other, silently; whoever is not named forms one more group. The buckets
   * are with the group that names SERVER, else with the rest.
   */
  partition(groups: readonly (readonly string[])[]): void {
    this.#groupOf = new Map(
      groups.flatMap((names, i) => names.map((name) => [name, i + 1] as const)),
    );
    this.#resumeWatches();
  }

  heal(): void {
    this.partition([]);
  }

  /** All connections break at once, and clients know it. The buckets stay. */
  serverDown(): void {
    if (!this.#up) return;
    this.#up = false;
    this.#connections += 1;
    for (const client of [...this.#clients]) client.setConnected(false);
  }

  serverUp(): void {
    if (this.#up) return;
    this.#up = true;
    for (const client of [...this.#clients]) client.setConnected(true);
  }

  /** The server comes back with an empty store: buckets get another incarnation, revisions start again. */
  wipe(): void {
    const wasUp = this.#up;
    this.serverDown();
    this.#buckets.clear();
    if (wasUp) this.serverUp();
  }

  // What follows is for the clients alone.

  bucket(name: string): Bucket {
    let bucket = this.#buckets.get(name);
    if (bucket === undefined) {
      bucket = new Bucket(name, hexId(this.rng, 16), (change) => this.#announce(name, change));
      this.#buckets.set(name, bucket);
    }
    return bucket;
  }

  interested(subject: string): Registration[] {
    return [...this.#clients].flatMap((client) =>
      client.registrations.filter((r) => subjectMatches(r.pattern, subject)),
    );
  }

  /** One of those who serve it: a reachable one if there is any. */
  pickServer(from: MemoryBus, serving: readonly Registration[]): Registration {
    const reachable = serving.filter((r) => this.#reaches(from, r.client));
    return pick(this.rng, reachable.length > 0 ? reachable : serving);
  }

  transmit(from: Endpoint, to: Endpoint, delivery: Delivery): void {
    const { loss, duplication } = this.knobs;
    this.#sendOnce(from, to, delivery, delivery.reliable === true ? 0 : loss);
    if (delivery.repeatable === true && this.#happens(duplication)) {
      this.#sendOnce(from, to, delivery, loss);
    }
  }

  forget(client: MemoryBus): void {
    this.#clients.delete(client);
    const id = String(client.id);
    for (const name of this.#wires.keys())
      if (name.split('>').includes(id)) this.#wires.delete(name);
  }

  #sendOnce(from: Endpoint, to: Endpoint, delivery: Delivery, loss: number): void {
    const lost = delivery.lost ?? nothing;
    if (!this.#reaches(from, to) || this.#happens(loss)) return lost();
    const connections = this.#connections;
    const deliver = (): void => {
      if (connections === this.#connections && this.#reaches(from, to)) delivery.deliver();
      else lost();
    };
    const { min, max } = this.knobs.delayMs;
    const delayMs = max === 0 ? 0 : intBetween(this.rng, min, max);
    this.#wire(from, to).send({ deliver, lost }, delayMs);
  }

  #wire(from: Endpoint, to: Endpoint): Wire {
    const name = `${from?.id ?? 0}>${to?.id ?? 0}`;
    let wire = this.#wires.get(name);
    if (wire === undefined) {
      wire = new Wire(this.clock);
      this.#wires.set(name, wire);
    }
    return wire;
  }

  #reaches(from: Endpoint, to: Endpoint): boolean {
    if (!this.#up) return false;
    if (from?.status === 'closed' || to?.status === 'closed') return false;
    return this.#group(from) === this.#group(to);
  }

  #group(endpoint: Endpoint): number {
    return this.#groupOf.get(endpoint?.name ?? SERVER) ?? 0;
  }

  #happens(probability: number): boolean {
    return probability > 0 && this.rng.float() < probability;
  }

  #announce(bucket: string, change: BucketChange): void {
    for (const client of this.#clients) {
      for (const watch of client.watches) if (watch.bucket === bucket) watch.push(change);
    }
  }

  #resumeWatches(): void {
    for (const client of this.#clients) {
      if (!this.#reaches(null, client)) continue;
      for (const watch of client.watches) watch.resume();
    }
  }
}

function nothing(): void {
  // Nobody waits for it.
}

function throwOn(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
