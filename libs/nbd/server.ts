import type { IoContext, TraceContext } from '../block/device.ts';
import type { Clock } from '../core/clock.ts';
import type { Workload } from '../core/workload.ts';
import type { BufferPool } from '../wire/buffer-pool.ts';
import type { Address, ByteStream, Listener, Network, StreamSink } from '../wire/network.ts';
import { NbdConnection, type NbdConnectionInfo, type NbdEvent } from './connection.ts';
import type { NbdCmd } from './constants.ts';
import type { ExportSource, NbdClientInfo, NbdExport } from './export.ts';
import { DEFAULT_NBD_LIMITS, type NbdLimits } from './limits.ts';
import { type NbdStats, newStats } from './stats.ts';

export interface NbdServerOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly pool: BufferPool;
  readonly exports: ExportSource;
  readonly limits?: Partial<NbdLimits>;
  /** Where requests in flight are counted, when somebody wants to know. */
  readonly workload?: Workload;
  readonly onEvent?: (event: NbdEvent) => void;
  /** The context of all I/O of a connection, built once when it has chosen its export. */
  readonly ioContext?: (client: NbdClientInfo, exp: NbdExport) => IoContext;
  /** Called for each request that goes to the device; what it returns travels with the I/O. */
  readonly onRequest?: (
    command: NbdCmd,
    offset: number,
    length: number,
  ) => TraceContext | undefined;
}

/** Takes what is left of a connection that is not wanted. */
const NOBODY: StreamSink = {
  buffer: () => Buffer.alloc(1024),
  data: () => {},
  closed: () => {},
};

function defaultIoContext(client: NbdClientInfo): IoContext {
  return { deadlineMs: Number.POSITIVE_INFINITY, client: `nbd:${client.remote}` };
}

/** An NBD server: fixed newstyle, simple replies, any number of listeners and exports. */
export class NbdServer {
  readonly stats: NbdStats = newStats();
  readonly #o: NbdServerOptions;
  readonly #limits: NbdLimits;
  readonly #workload: Workload;
  readonly #listeners = new Set<Listener>();
  readonly #connections = new Set<NbdConnection>();
  /** In order of arrival: the first has been idle longest. */
  readonly #handshakes = new Set<NbdConnection>();
  #nextId = 1;
  #draining = false;
  #onEmpty: (() => void)[] = [];

  constructor(options: NbdServerOptions) {
    this.#o = options;
    this.#limits = { ...DEFAULT_NBD_LIMITS, ...options.limits };
    this.#workload = options.workload ?? { inflight: 0 };
  }

  async listen(address: Address): Promise<Listener> {
    const inner = await this.#o.network.listen(address, (stream) => this.#accept(stream));
    const listener: Listener = {
      address: inner.address,
      close: () => {
        this.#listeners.delete(listener);
        return inner.close();
      },
    };
    this.#listeners.add(listener);
    return listener;
  }

  connections(): readonly NbdConnectionInfo[] {
    return [...this.#connections].map((connection) => connection.info());
  }

  /**
   * Orderly shutdown: options are answered with ERR_SHUTDOWN and new requests with ESHUTDOWN, what is in flight is
   * finished and answered, then each connection is closed. After `timeoutMs` what is left is dropped.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.#draining = true;
    for (const connection of this.#connections) connection.drain();
    const timer = this.#o.clock.after(timeoutMs, () => {
      for (const connection of this.#connections) {
        connection.drop(`not drained within ${timeoutMs} ms`, false);
      }
      this.#notifyEmpty();
    });
    await this.#whenEmpty();
    timer.cancel();
    await this.close();
  }

  /** Drops all connections and stops listening. Requests in flight run to their end in their devices, unanswered. */
  async close(): Promise<void> {
    this.#draining = true;
    for (const connection of this.#connections) connection.drop('the server was closed', true);
    await Promise.all([...this.#listeners].map((listener) => listener.close()));
  }

  #accept(stream: ByteStream): StreamSink {
    this.stats.connections += 1;
    if (this.#connections.size >= this.#limits.connectionsMax || this.#draining) {
      this.stats.refused += 1;
      stream.destroy();
      return NOBODY;
    }
    if (this.#handshakes.size >= this.#limits.handshakesMax) {
      this.stats.refused += 1;
      const oldest = this.#handshakes.values().next().value!;
      this.#handshakes.delete(oldest);
      oldest.drop('too many connections in their handshake', false);
    }
    const connection = new NbdConnection(stream, {
      client: { id: this.#nextId++, remote: stream.remote },
      clock: this.#o.clock,
      pool: this.#o.pool,
      exports: this.#o.exports,
      limits: this.#limits,
      stats: this.stats,
      workload: this.#workload,
      draining: () => this.#draining,
      onEvent: this.#o.onEvent ?? (() => {}),
      ioContext: this.#o.ioContext ?? defaultIoContext,
      onRequest: this.#o.onRequest ?? null,
      onNegotiated: (negotiated) => this.#handshakes.delete(negotiated),
      onGone: (gone) => {
        this.#handshakes.delete(gone);
        this.#connections.delete(gone);
        if (this.#connections.size === 0) this.#notifyEmpty();
      },
    });
    this.#connections.add(connection);
    this.#handshakes.add(connection);
    return connection;
  }

  #whenEmpty(): Promise<void> {
    if (this.#connections.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onEmpty.push(resolve));
  }

  #notifyEmpty(): void {
    const waiting = this.#onEmpty;
    this.#onEmpty = [];
    for (const resolve of waiting) resolve();
  }
}
