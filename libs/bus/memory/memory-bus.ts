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
import type { MemoryBusHub } from './hub.ts';
import { MemoryKeyValue } from './memory-key-value.ts';
import type { MemoryWatch } from './memory-watch.ts';

/** Somebody's interest in a subject: to hear what is said there, or to answer what is asked. */
export interface Registration {
  readonly client: MemoryBus;
  readonly pattern: string;
  readonly hear?: (subject: string, bytes: Uint8Array) => void;
  /** Gives the encoded reply, also of a failure; never rejects. */
  readonly answer?: (subject: string, bytes: Uint8Array) => Promise<Uint8Array>;
}

/** One client of the hub. */
export class MemoryBus implements Bus {
  readonly name: string;
  readonly id: number;
  readonly registrations: Registration[] = [];
  readonly watches = new Set<MemoryWatch>();
  readonly #hub: MemoryBusHub;
  readonly #status: StatusCell;
  readonly #keyValues: MemoryKeyValue[] = [];
  readonly calls: Calls;

  constructor(hub: MemoryBusHub, name: string, id: number, status: BusStatus) {
    this.#hub = hub;
    this.name = name;
    this.id = id;
    this.#status = new StatusCell(status);
    this.calls = new Calls(hub.clock, this.#status);
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
    if (this.status !== 'connected') return;
    this.#spread(subject, bytes);
  }

  subscribe(subject: string, handler: (message: BusMessage) => void): Subscription {
    const hear = (at: string, bytes: Uint8Array): void => {
      try {
        handler({ subject: at, data: decodePayload(bytes, at) });
      } catch (error) {
        this.#hub.onHandlerError(error, at);
      }
    };
    return this.#register({ client: this, pattern: subject, hear });
  }

  serve(subject: string, handler: (message: BusMessage) => Promise<Payload>): Subscription {
    const limit = new ServeLimit(handler);
    const answer = (at: string, bytes: Uint8Array) => limit.answer(at, bytes);
    return this.#register({ client: this, pattern: subject, answer });
  }

  async request(subject: string, data: Payload, options: RequestOptions): Promise<Payload> {
    assertSubject(subject);
    const bytes = encodePayload(data, subject);
    const fields = { subject, timeoutMs: options.timeoutMs };
    const reply = await this.calls.run<Uint8Array>(options, fields, (resolve, reject) => {
      const serving = this.#spread(subject, bytes);
      if (serving === null) {
        const deliver = (): void => reject(busErrors.make('BUS_NO_RESPONDER', { fields }));
        return this.#hub.transmit(null, this, { deliver });
      }
      if (serving.length === 0) return;
      const server = this.#hub.pickServer(this, serving);
      const reach = (): void => {
        if (server.client.registrations.includes(server))
          void this.#ask(server, subject, bytes, resolve);
      };
      this.#hub.transmit(this, server.client, { deliver: reach, repeatable: true });
    });
    return decodeReply(reply, subject);
  }

  async keyValue(bucket: string): Promise<KeyValue> {
    const keyValue = new MemoryKeyValue(this.#hub, this, bucket);
    await keyValue.refresh();
    this.#keyValues.push(keyValue);
    return keyValue;
  }

  async close(): Promise<void> {
    if (this.status === 'closed') return;
    this.#hub.forget(this);
    this.registrations.length = 0;
    this.watches.clear();
    this.#status.set('closed');
    this.calls.breakOff();
  }

  setConnected(connected: boolean): void {
    this.#status.set(connected ? 'connected' : 'disconnected');
    if (!connected) {
      for (const watch of this.watches) watch.interrupt();
      return this.calls.breakOff();
    }
    // If it fails the next operation learns what it would have.
    for (const keyValue of this.#keyValues) void keyValue.refresh().catch(() => undefined);
    for (const watch of this.watches) watch.resume();
  }

  async #ask(
    server: Registration,
    subject: string,
    bytes: Uint8Array,
    resolve: (answer: Uint8Array) => void,
  ): Promise<void> {
    const answer = await server.answer!(subject, bytes);
    this.#hub.transmit(server.client, this, { deliver: () => resolve(answer) });
  }

  /** Sends to all who hear it. Gives those who answer it, or null when nobody at all listens. */
  #spread(subject: string, bytes: Uint8Array): Registration[] | null {
    const interested = this.#hub.interested(subject);
    for (const registration of interested) {
      const { client, hear } = registration;
      if (hear === undefined) continue;
      const deliver = (): void => {
        if (client.registrations.includes(registration)) hear(subject, bytes);
      };
      this.#hub.transmit(this, client, { deliver, repeatable: true });
    }
    return interested.length === 0 ? null : interested.filter((r) => r.answer !== undefined);
  }

  #register(registration: Registration): Subscription {
    assertPattern(registration.pattern);
    this.registrations.push(registration);
    const unsubscribe = (): void => {
      const at = this.registrations.indexOf(registration);
      if (at >= 0) this.registrations.splice(at, 1);
    };
    return { unsubscribe };
  }
}
