import type { OrionError } from '../../core/errors.ts';
import type {
  Bus,
  BusMessage,
  BusStatus,
  KeyValue,
  Payload,
  RequestOptions,
  Subscription,
} from '../bus.ts';
import { decodePayload, decodeReply, encodePayload } from '../codec.ts';
import { busErrors } from '../errors.ts';
import { StatusCell } from '../listeners.ts';
import { ServeLimit } from '../serve-limit.ts';
import { assertPattern, assertSubject } from '../subject.ts';
import type { MemoryBusHub } from './hub.ts';
import { MemoryKeyValue } from './memory-key-value.ts';
import type { MemoryWatch } from './memory-watch.ts';

/** Somebody's interest in a subject. */
export interface Registration {
  readonly client: MemoryBus;
  readonly pattern: string;
  readonly serves: boolean;
  /** Gives the encoded reply when it serves. */
  readonly handle: (subject: string, bytes: Uint8Array) => Promise<Uint8Array> | undefined;
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
  /** Called with the error when the connection breaks. */
  readonly #inFlight = new Set<(error: OrionError) => void>();

  constructor(hub: MemoryBusHub, name: string, id: number, status: BusStatus) {
    this.#hub = hub;
    this.name = name;
    this.id = id;
    this.#status = new StatusCell(status);
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
    return this.#register(subject, false, (at, bytes) => {
      try {
        handler({ subject: at, data: decodePayload(bytes, at) });
      } catch (error) {
        this.#hub.onHandlerError(error, at);
      }
      return undefined;
    });
  }

  serve(subject: string, handler: (message: BusMessage) => Promise<Payload>): Subscription {
    const limit = new ServeLimit(handler);
    return this.#register(subject, true, (at, bytes) => limit.answer(at, bytes));
  }

  async request(subject: string, data: Payload, options: RequestOptions): Promise<Payload> {
    assertSubject(subject);
    const bytes = encodePayload(data, subject);
    const fields = { subject, timeoutMs: options.timeoutMs };
    const reply = await this.call<Uint8Array>(options, fields, (resolve, reject) => {
      const serving = this.#spread(subject, bytes);
      if (serving === null) {
        const deliver = (): void => reject(busErrors.make('BUS_NO_RESPONDER', { fields }));
        return this.#hub.transmit(null, this, { deliver });
      }
      if (serving.length === 0) return;
      const server = this.#hub.pickServer(this, serving);
      const reach = (): void => {
        if (!server.client.registrations.includes(server)) return;
        void server // `handle` of who serves gives errors as replies, it does not reject
          .handle(subject, bytes)
          ?.then((answer) =>
            this.#hub.transmit(server.client, this, { deliver: () => resolve(answer) }),
          );
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
    this.#failInFlight();
  }

  /** Starts something that is over when it resolves, rejects, times out, is aborted, or the connection breaks. */
  call<T>(
    options: RequestOptions,
    fields: Record<string, string | number>,
    start: (resolve: (value: T) => void, reject: (error: unknown) => void) => void,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.status !== 'connected') {
        // It never left: that is certain.
        return reject(busErrors.make('BUS_DISCONNECTED', { outcome: 'not-executed', fields }));
      }
      const { signal, timeoutMs } = options;
      if (signal?.aborted) return reject(signal.reason);
      const end = (): void => {
        timer.cancel();
        this.#inFlight.delete(fail);
        signal?.removeEventListener('abort', onAbort);
      };
      const fail = (error: unknown): void => {
        end();
        reject(error);
      };
      const onAbort = (): void => fail(signal?.reason);
      const timer = this.#hub.clock.after(timeoutMs, () => {
        fail(busErrors.make('BUS_TIMEOUT', { fields }));
      });
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#inFlight.add(fail);
      start((value) => {
        end();
        resolve(value);
      }, fail);
    });
  }

  setConnected(connected: boolean): void {
    this.#status.set(connected ? 'connected' : 'disconnected');
    if (!connected) {
      for (const watch of this.watches) watch.interrupt();
      return this.#failInFlight();
    }
    // If it fails the next operation learns what it would have.
    for (const keyValue of this.#keyValues) void keyValue.refresh().catch(() => undefined);
    for (const watch of this.watches) watch.resume();
  }

  /** Sends to all subscribers. Gives those who serve the subject, or null when nobody at all listens. */
  #spread(subject: string, bytes: Uint8Array): Registration[] | null {
    const interested = this.#hub.interested(subject);
    for (const registration of interested) {
      if (registration.serves) continue;
      const { client } = registration;
      const deliver = (): void => {
        if (client.registrations.includes(registration)) registration.handle(subject, bytes);
      };
      this.#hub.transmit(this, client, { deliver, repeatable: true });
    }
    return interested.length === 0 ? null : interested.filter((r) => r.serves);
  }

  #register(pattern: string, serves: boolean, handle: Registration['handle']): Subscription {
    assertPattern(pattern);
    const registration: Registration = { client: this, pattern, serves, handle };
    this.registrations.push(registration);
    const unsubscribe = (): void => {
      const at = this.registrations.indexOf(registration);
      if (at >= 0) this.registrations.splice(at, 1);
    };
    return { unsubscribe };
  }

  #failInFlight(): void {
    for (const fail of [...this.#inFlight]) fail(busErrors.make('BUS_DISCONNECTED'));
  }
}
