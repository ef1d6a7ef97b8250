import { readFile } from 'node:fs/promises';
import { jetstream } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import {
  connect,
  credsAuthenticator,
  type Msg,
  type NatsConnection,
  type Subscription as NatsSubscription,
  type NodeConnectionOptions,
} from '@nats-io/transport-node';
import { type Clock, sleep } from '../../core/clock.ts';
import { errorText } from '../../core/errors.ts';
import type { Rng } from '../../core/rng.ts';
import type {
  Bus,
  BusMessage,
  BusStatus,
  KeyValue,
  Payload,
  RequestOptions,
  Subscription,
} from '../bus.ts';
import { Calls } from '../calls.ts';
import { decodePayload, decodeReply, encodePayload } from '../codec.ts';
import { busErrors } from '../errors.ts';
import { StatusCell } from '../listeners.ts';
import { ServeLimit } from '../serve-limit.ts';
import { assertPattern, assertSubject } from '../subject.ts';
import { fromNats } from './nats-errors.ts';
import { NatsKeyValue } from './nats-key-value.ts';

const CONNECT_TIMEOUT_MS = 5000;
const RECONNECT_WAIT_MS = 250;
/** A connection that is silent for two of these is given up: a cable was pulled, or a process stopped. */
const PING_INTERVAL_MS = 2000;
const PINGS_OUT_MAX = 2;
const KV_TIMEOUT_MS = 2000;
/** Time that `close` gives to what is still to be written, a farewell for instance. */
const CLOSE_FLUSH_MS = 1000;
/** The library's own timer is only there to forget the request; ours decides. */
const LIBRARY_TIMEOUT_EXTRA_MS = 1000;
/** All that serve one subject are in this group, so that one of them gets a request. */
const SERVE_GROUP = 'serve';

export interface NatsBusOptions {
  /** One server or several, with commas between: "nats://host:4222". */
  readonly url: string;
  /** Shown in the server's list of connections. */
  readonly name: string;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly user?: string;
  readonly password?: string;
  readonly token?: string;
  /** A ".creds" file with JWT and seed. */
  readonly credentialsFile?: string;
  readonly tls?: {
    readonly caFile?: string;
    readonly certFile?: string;
    readonly keyFile?: string;
  };
  /** Copies of a bucket in a NATS cluster: 1, 3 or 5. */
  readonly replicas?: number;
  readonly connectTimeoutMs?: number;
  readonly kvTimeoutMs?: number;
  /** A subscriber's handler threw. Thrown on, as a bug, when left out. */
  readonly onError?: (error: unknown, subject: string) => void;
  /** A watch broke off while connected; it starts over by itself. For a log line. */
  readonly onWatchBroken?: (error: unknown, bucket: string) => void;
}

/** Connects, and from then on reconnects for ever. Rejects with BUS_UNREACHABLE when the first try fails. */
export async function connectNats(options: NatsBusOptions): Promise<NatsBus> {
  try {
    return new NatsBus(await connect(await connectionOptions(options)), options);
  } catch (cause) {
    const fields = { url: withoutSecrets(options.url), error: errorText(cause) };
    throw busErrors.make('BUS_UNREACHABLE', { fields, cause });
  }
}

export class NatsBus implements Bus {
  readonly calls: Calls;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly kvTimeoutMs: number;
  readonly replicas: number;
  readonly onError: (error: unknown, subject: string) => void;
  readonly onWatchBroken: (error: unknown, bucket: string) => void;
  readonly #nats: NatsConnection;
  readonly #status = new StatusCell('connected');
  readonly #keyValues = new Set<NatsKeyValue>();
  /** Messages that could not be decoded and were dropped. */
  badMessages = 0;

  constructor(nats: NatsConnection, options: NatsBusOptions) {
    this.#nats = nats;
    this.clock = options.clock;
    this.rng = options.rng;
    this.calls = new Calls(options.clock, this.#status);
    this.kvTimeoutMs = options.kvTimeoutMs ?? KV_TIMEOUT_MS;
    this.replicas = options.replicas ?? 1;
    this.onError = options.onError ?? throwOn;
    this.onWatchBroken = options.onWatchBroken ?? (() => undefined);
    void this.#follow(); // ends when the connection is closed, and does not reject
  }

  get status(): BusStatus {
    return this.#status.status;
  }

  onStatus(fn: (status: BusStatus) => void): Subscription {
    return this.#status.listen(fn);
  }

  publish(subject: string, data: Payload): void {
    assertSubject(subject);
    const bytes = encodePayload(data, subject);
    if (this.status === 'connected') this.#nats.publish(subject, bytes);
  }

  subscribe(subject: string, handler: (message: BusMessage) => void): Subscription {
    assertPattern(subject);
    const subscription = this.#nats.subscribe(subject, {
      callback: (error, message) => {
        if (error !== null) return this.onError(error, subject);
        this.#hear(message, handler);
      },
    });
    return closing(subscription);
  }

  serve(subject: string, handler: (message: BusMessage) => Promise<Payload>): Subscription {
    assertPattern(subject);
    const limit = new ServeLimit(handler);
    const subscription = this.#nats.subscribe(subject, {
      queue: SERVE_GROUP,
      callback: (error, message) => {
        if (error !== null) return this.onError(error, subject);
        void this.#answer(message, limit); // replies with whatever goes wrong
      },
    });
    return closing(subscription);
  }

  async request(subject: string, data: Payload, options: RequestOptions): Promise<Payload> {
    assertSubject(subject);
    const bytes = encodePayload(data, subject);
    const fields = { subject, timeoutMs: options.timeoutMs };
    const timeout = Math.max(1, options.timeoutMs) + LIBRARY_TIMEOUT_EXTRA_MS;
    const reply = await this.calls.run<Uint8Array>(options, fields, (resolve, reject) => {
      this.#nats.request(subject, bytes, { timeout }).then(
        (message) => resolve(message.data),
        (error: unknown) => reject(fromNats(error, fields)),
      );
    });
    return decodeReply(reply, subject);
  }

  async keyValue(bucket: string): Promise<KeyValue> {
    const kvm = new Kvm(jetstream(this.#nats, { timeout: this.kvTimeoutMs }));
    const keyValue = new NatsKeyValue(this, kvm, bucket);
    await keyValue.open();
    this.#keyValues.add(keyValue);
    return keyValue;
  }

  async close(): Promise<void> {
    if (this.status === 'closed') return;
    for (const keyValue of this.#keyValues) keyValue.close();
    if (this.status === 'connected') {
      const flushed = this.#nats.flush().catch(() => undefined); // it is closing anyway
      const gaveUp = new AbortController();
      const waited = sleep(this.clock, CLOSE_FLUSH_MS, gaveUp.signal).catch(() => undefined);
      await Promise.race([flushed, waited]);
      gaveUp.abort();
    }
    this.#status.set('closed');
    this.calls.breakOff();
    await this.#nats.close();
  }

  /** Undefined, and counted, when it cannot be read: whoever sent it is not ours. */
  decode(bytes: Uint8Array, subject: string): Payload | undefined {
    try {
      return decodePayload(bytes, subject);
    } catch {
      this.badMessages += 1;
      return undefined;
    }
  }

  /** Turns what the library says of the connection into `status`. */
  async #follow(): Promise<void> {
    for await (const event of this.#nats.status()) {
      if (event.type === 'disconnect') {
        this.#status.set('disconnected');
        this.calls.breakOff();
      } else if (event.type === 'reconnect') {
        // Buckets first: an operation may not meet a server that has lost them before we have noticed.
        for (const keyValue of this.#keyValues) keyValue.reopen();
        this.#status.set('connected');
      }
    }
    this.#status.set('closed');
    this.calls.breakOff();
  }

  #hear(message: Msg, handler: (message: BusMessage) => void): void {
    const { subject } = message;
    const data = this.decode(message.data, subject);
    if (data === undefined) return;
    try {
      handler({ subject, data });
    } catch (error) {
      this.onError(error, subject);
    }
  }

  async #answer(message: Msg, limit: ServeLimit): Promise<void> {
    const reply = await limit.answer(message.subject, message.data);
    // Kept while disconnected it would come when nobody waits any more.
    if (this.status === 'connected') message.respond(reply);
  }
}

async function connectionOptions(options: NatsBusOptions): Promise<NodeConnectionOptions> {
  const { user, password, token, credentialsFile, tls } = options;
  return {
    servers: options.url.split(',').map((server) => server.trim()),
    name: options.name,
    timeout: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    reconnect: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT_WAIT_MS,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: PINGS_OUT_MAX,
    noAsyncTraces: true,
    ignoreAuthErrorAbort: true,
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { pass: password }),
    ...(token === undefined ? {} : { token }),
    ...(tls === undefined ? {} : { tls: { ...tls } }),
    ...(credentialsFile === undefined
      ? {}
      : { authenticator: credsAuthenticator(await readFile(credentialsFile)) }),
  };
}

function withoutSecrets(url: string): string {
  return url.replaceAll(/\/\/[^@/,]*@/g, '//***@');
}

function closing(subscription: NatsSubscription): Subscription {
  return { unsubscribe: () => subscription.unsubscribe() };
}

function throwOn(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
