import type { Clock, Timer } from '../core/clock.ts';
import type { Rng } from '../core/rng.ts';
import {
  type Address,
  type ByteStream,
  type ConnectOptions,
  formatAddress,
  type Listener,
  type Network,
  type StreamSink,
} from '../wire/network.ts';
import {
  DEFAULT_LINK,
  type LinkKnobs,
  MemoryEndpoint,
  type MemoryHost,
  systemError,
} from './memory-stream.ts';

export type { LinkKnobs } from './memory-stream.ts';

/** Ports for listeners that ask for port 0, and for the connecting ends. */
const EPHEMERAL_PORT_MIN = 49_152;

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);
const WILDCARD = new Set(['0.0.0.0', '::']);

/** One open connection, for `cut` and for assertions. */
export interface StreamInfo {
  readonly connector: string;
  readonly listener: string;
  readonly address: Address;
}

export interface CrashOptions {
  /**
   * True (a process died): the peers see a reset. False (power lost): they see nothing until they send to the
   * host after it came back.
   */
  readonly notifyPeers?: boolean;
}

interface MemoryListener {
  readonly host: string;
  readonly address: Address;
  readonly accept: (stream: ByteStream) => StreamSink;
  readonly accepted: Set<MemoryEndpoint>;
}

interface PendingConnect {
  readonly from: string;
  retry(): void;
}

/**
 * A network in memory, driven by a clock and a generator: the same seed gives the same delays, fragments and
 * orders. `host(name)` is the network as that host sees it, so that hosts can be cut off, partitioned and crashed.
 * Loopback addresses and socket files are private to a host, as they are on real ones.
 */
export class MemoryNetwork implements Network {
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #listeners = new Map<string, MemoryListener>();
  readonly #streams = new Set<{ near: MemoryEndpoint; far: MemoryEndpoint; info: StreamInfo }>();
  readonly #partitions = new Set<string>();
  readonly #refused = new Set<string>();
  readonly #links = new Map<string, LinkKnobs>();
  readonly #down = new Set<string>();
  readonly #waiting = new Set<PendingConnect>();
  #nextPort = EPHEMERAL_PORT_MIN;
  #knobs: LinkKnobs;

  constructor(clock: Clock, rng: Rng, knobs: Partial<LinkKnobs> = {}) {
    this.#clock = clock;
    this.#rng = rng;
    this.#knobs = { ...DEFAULT_LINK, ...knobs };
  }

  /** The network as `name` sees it. */
  host(name: string): Network {
    return {
      connect: (address, sink, options) => this.#connect(name, address, sink, options),
      listen: (address, accept) => this.#listen(name, address, accept),
    };
  }

  connect(address: Address, sink: StreamSink, options: ConnectOptions): Promise<ByteStream> {
    return this.#connect('local', address, sink, options);
  }

  listen(address: Address, accept: (stream: ByteStream) => StreamSink): Promise<Listener> {
    return this.#listen('local', address, accept);
  }

  /** Changes the knobs of all links that have none of their own; of streams that are open too. */
  setDefaults(knobs: Partial<LinkKnobs>): void {
    this.#knobs = { ...this.#knobs, ...knobs };
  }

  /** Changes the knobs between two hosts, both directions. */
  setLink(a: string, b: string, knobs: Partial<LinkKnobs>): void {
    for (const key of [`${a}>${b}`, `${b}>${a}`]) {
      this.#links.set(key, { ...(this.#links.get(key) ?? this.#knobs), ...knobs });
    }
  }

  /** Open connections. */
  streams(): StreamInfo[] {
    return [...this.#streams].map((stream) => stream.info);
  }

  /** Resets the open connections that `match`; both ends see ECONNRESET. Returns how many. */
  cut(match: (stream: StreamInfo) => boolean = () => true): number {
    let count = 0;
    for (const { near, far, info } of [...this.#streams]) {
      if (!match(info)) continue;
      count += 1;
      near.fail(systemError('ECONNRESET', `connection to ${formatAddress(info.address)} was cut`));
      far.fail(systemError('ECONNRESET', `connection from ${info.connector} was cut`));
    }
    return count;
  }

  /** Cuts all connections between two hosts. */
  cutLink(a: string, b: string): number {
    return this.cut(
      ({ connector, listener }) =>
        (connector === a && listener === b) || (connector === b && listener === a),
    );
  }

  /** Refuses new connections to `address`, or accepts them again. */
  refuse(address: Address, refused = true): void {
    if (refused) this.#refused.add(formatAddress(address));
    else this.#refused.delete(formatAddress(address));
  }

  /**
   * Silence between two hosts: nothing arrives, nothing is closed. Bytes are held as TCP would retransmit them,
   * and arrive after `heal` if both ends still live.
   */
  partition(a: string, b: string, options: { readonly oneWay?: boolean } = {}): void {
    this.#partitions.add(`${a}>${b}`);
    if (options.oneWay !== true) this.#partitions.add(`${b}>${a}`);
  }

  /** Ends the partition of two hosts, of one host from all, or all partitions. */
  heal(a?: string, b?: string): void {
    for (const key of [...this.#partitions]) {
      const [from, to] = key.split('>') as [string, string];
      const about = (host: string | undefined): boolean =>
        host === undefined || host === from || host === to;
      if (about(a) && about(b)) this.#partitions.delete(key);
    }
    this.#wake();
  }

  /** The host is gone: its streams die, its listeners vanish, it can neither connect nor listen. */
  crashHost(name: string, options: CrashOptions = {}): void {
    this.#down.add(name);
    for (const [key, listener] of [...this.#listeners]) {
      if (listener.host === name) this.#listeners.delete(key);
    }
    for (const { near, far, info } of [...this.#streams]) {
      if (info.connector !== name && info.listener !== name) continue;
      const [own, peer] = info.connector === name ? [near, far] : [far, near];
      if (options.notifyPeers ?? true) own.destroy(systemError('ECONNABORTED', `${name} crashed`));
      else own.vanish(systemError('ECONNABORTED', `${name} crashed`));
      if (info.connector === info.listener) peer.fail(systemError('ECONNABORTED', 'host crashed'));
    }
  }

  /** The host is back, with no stream and no listener. */
  startHost(name: string): void {
    this.#down.delete(name);
    this.#wake();
  }

  #knobsFor(from: string, to: string): LinkKnobs {
    return this.#links.get(`${from}>${to}`) ?? this.#knobs;
  }

  #isSilent(from: string, to: string): boolean {
    return this.#partitions.has(`${from}>${to}`) || this.#down.has(to);
  }

  #wake(): void {
    for (const { near, far } of this.#streams) {
      near.wake();
      far.wake();
    }
    for (const pending of [...this.#waiting]) pending.retry();
  }

  #listen(
    host: string,
    address: Address,
    accept: (stream: ByteStream) => StreamSink,
  ): Promise<Listener> {
    if (this.#down.has(host)) return Promise.reject(systemError('ENETDOWN', `${host} is down`));
    const actual: Address =
      address.kind === 'tcp' && address.port === 0
        ? { ...address, port: this.#nextPort++ }
        : address;
    const key = listenKey(host, actual);
    if (this.#listeners.has(key)) {
      const text = `${formatAddress(actual)} is in use`;
      return Promise.reject(systemError('EADDRINUSE', text));
    }
    const listener: MemoryListener = { host, address: actual, accept, accepted: new Set() };
    this.#listeners.set(key, listener);
    return Promise.resolve({
      address: actual,
      close: () => {
        if (this.#listeners.get(key) === listener) this.#listeners.delete(key);
        for (const stream of listener.accepted) stream.destroy();
        return new Promise((resolve) => this.#clock.after(0, () => resolve()));
      },
    });
  }

  #find(host: string, address: Address): MemoryListener | undefined {
    const exact = this.#listeners.get(listenKey(host, address));
    if (exact !== undefined || address.kind === 'unix') return exact;
    const target = LOOPBACK.has(address.host) ? host : address.host;
    for (const listener of this.#listeners.values()) {
      const at = listener.address;
      if (at.kind !== 'tcp' || at.port !== address.port) continue;
      if (listener.host === target && WILDCARD.has(at.host)) return listener;
    }
    return undefined;
  }

  #connect(
    host: string,
    address: Address,
    sink: StreamSink,
    options: ConnectOptions,
  ): Promise<ByteStream> {
    return new Promise((resolve, reject) => {
      if (this.#down.has(host)) return reject(systemError('ENETDOWN', `${host} is down`));
      if (options.signal?.aborted) return reject(options.signal.reason);
      let step: Timer | null = null;
      let opened: MemoryEndpoint | null = null;
      const finish = (): void => {
        this.#waiting.delete(pending);
        step?.cancel();
        timeout.cancel();
        options.signal?.removeEventListener('abort', onAbort);
      };
      const fail = (error: unknown): void => {
        finish();
        opened?.destroy();
        reject(error);
      };
      const onAbort = (): void => fail(options.signal?.reason);
      const where = formatAddress(address);
      const timeout = this.#clock.after(options.timeoutMs, () =>
        fail(systemError('ETIMEDOUT', `no connection to ${where} within ${options.timeoutMs} ms`)),
      );
      options.signal?.addEventListener('abort', onAbort, { once: true });
      const arrive = (): void => {
        step = null;
        const listener = this.#find(host, address);
        const target = listener?.host ?? this.#hostOf(host, address);
        if (this.#isSilent(host, target) || this.#isSilent(target, host)) {
          this.#waiting.add(pending);
          return;
        }
        if (listener === undefined || this.#refused.has(where)) {
          const code =
            address.kind === 'unix' && listener === undefined ? 'ENOENT' : 'ECONNREFUSED';
          fail(systemError(code, `connect ${code} ${where}`));
          return;
        }
        opened = this.#open(host, address, listener);
        step = this.#clock.after(this.#latency(listener.host, host), established);
      };
      const established = (): void => {
        const near = opened!;
        if (near.dead) {
          fail(systemError('ECONNRESET', `connection to ${where} was reset`));
          return;
        }
        finish();
        near.attach(sink);
        resolve(near);
      };
      const attempt = (): void => {
        const target = this.#find(host, address)?.host ?? host;
        step = this.#clock.after(this.#latency(host, target), arrive);
      };
      const pending: PendingConnect = {
        from: host,
        retry: () => {
          this.#waiting.delete(pending);
          attempt();
        },
      };
      attempt();
    });
  }

  /** Where an address would lead to if somebody listened. */
  #hostOf(from: string, address: Address): string {
    if (address.kind === 'unix' || LOOPBACK.has(address.host)) return from;
    return address.host;
  }

  #latency(from: string, to: string): number {
    const { latencyMinMs, latencyMaxMs } = this.#knobsFor(from, to);
    return latencyMinMs + this.#rng.float() * (latencyMaxMs - latencyMinMs);
  }

  #open(host: string, address: Address, listener: MemoryListener): MemoryEndpoint {
    const env = (from: string, to: string): MemoryHost => ({
      clock: this.#clock,
      rng: this.#rng,
      knobs: () => this.#knobsFor(from, to),
      silent: () => this.#isSilent(from, to),
    });
    const near = new MemoryEndpoint(env(host, listener.host), formatAddress(address), 'connector');
    const from = address.kind === 'unix' ? address.path : `${host}:${this.#nextPort++}`;
    const far = new MemoryEndpoint(env(listener.host, host), from, 'acceptor');
    const info: StreamInfo = { connector: host, listener: listener.host, address };
    const entry = { near, far, info };
    this.#streams.add(entry);
    listener.accepted.add(far);
    let open = 2;
    const onClosed = (): void => {
      open -= 1;
      if (open > 0) return;
      this.#streams.delete(entry);
      listener.accepted.delete(far);
    };
    near.join(far, onClosed);
    far.join(near, onClosed);
    far.attach(listener.accept(far));
    return near;
  }
}

function listenKey(host: string, address: Address): string {
  const text = formatAddress(address);
  const isPrivate =
    address.kind === 'unix' || LOOPBACK.has(address.host) || WILDCARD.has(address.host);
  return isPrivate ? `${host} ${text}` : text;
}
