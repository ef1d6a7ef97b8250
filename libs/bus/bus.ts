/**
 * The bus carries control: requests, events, and a key-value store with compare-and-set. Never block data.
 * Two adapters stand behind it, in-process (with loss, delay, duplication and partition knobs) and NATS; one
 * contract suite runs against both. Delivery is at most once; a request may have been carried out although its
 * answer was lost.
 */

/** Anything msgpack can carry. Receivers check the shape of what they get (contracts). */
export type Payload = unknown;

export interface BusMessage {
  readonly subject: string;
  readonly data: Payload;
}

export interface Subscription {
  unsubscribe(): void;
}

export interface RequestOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export type BusStatus = 'connected' | 'disconnected' | 'closed';

export interface Bus {
  readonly status: BusStatus;
  /** Called on every change of `status`. */
  onStatus(fn: (status: BusStatus) => void): Subscription;
  /** Fire and forget. Dropped when disconnected; throws BUS_TOO_LARGE beyond BUS_MESSAGE_BYTES_MAX. */
  publish(subject: string, data: Payload): void;
  /** `subject` may end in `.>` or have `*` tokens, as in NATS. */
  subscribe(subject: string, handler: (message: BusMessage) => void): Subscription;
  /**
   * Asks and waits for one answer. Rejects with BUS_NO_RESPONDER (nobody serves it: certainly not carried out),
   * BUS_TIMEOUT or BUS_DISCONNECTED (may have been carried out), or the OrionError that the server threw.
   */
  request(subject: string, data: Payload, options: RequestOptions): Promise<Payload>;
  /** Answers requests. What the handler throws travels back with code, message, outcome, fields. */
  serve(subject: string, handler: (message: BusMessage) => Promise<Payload>): Subscription;
  /** Opens (creates if missing: file storage, one value of history, no direct gets) a bucket. */
  keyValue(bucket: string): Promise<KeyValue>;
  close(): Promise<void>;
}

export interface KvEntry {
  readonly key: string;
  readonly value: Payload;
  /** Grows with every change of the bucket; the token of compare-and-set. Never a fencing token. */
  readonly revision: number;
}

/** Keys are tokens separated by dots, of [A-Za-z0-9_-]. */
export interface KeyValue {
  /** A new one when the bucket was made anew: whoever sees it change has lost the history. */
  readonly incarnation: string;
  get(key: string): Promise<KvEntry | null>;
  /** Rejects with BUS_KV_CONFLICT when the key exists. Resolves the revision. */
  create(key: string, value: Payload): Promise<number>;
  /** Rejects with BUS_KV_CONFLICT when the revision is not the newest. */
  update(key: string, value: Payload, revision: number): Promise<number>;
  delete(key: string): Promise<void>;
  keys(prefix: string): Promise<string[]>;
  /**
   * First every present entry under the prefix, then every change, until unsubscribed; a deleted key comes with
   * value null. A hint: changes may be missed while disconnected, and then come when connected again.
   */
  watch(prefix: string, handler: (entry: KvEntry) => void): Promise<Subscription>;
}
