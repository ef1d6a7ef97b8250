import { byteDevice } from '../block/byte-device.ts';
import type { IoContext, TraceContext } from '../block/device.ts';
import type { Clock, Timer } from '../core/clock.ts';
import type { Workload } from '../core/workload.ts';
import type { BufferPool } from '../wire/buffer-pool.ts';
import type { ByteStream, StreamSink } from '../wire/network.ts';
import { OutQueue } from '../wire/out-queue.ts';
import { Receiver } from '../wire/receiver.ts';
import { type NbdCmd, NbdOpt, nameOf } from './constants.ts';
import type { ExportSource, NbdClientInfo, NbdExport } from './export.ts';
import { Handshake, type Negotiated } from './handshake.ts';
import type { NbdLimits } from './limits.ts';
import { type NbdStats, newStats } from './stats.ts';
import { Transmission } from './transmission.ts';
import type { RequestFailure } from './transmission-options.ts';

/** What happens on the connections of a server, for logs and counters. */
export type NbdEvent =
  | { readonly kind: 'connected'; readonly client: NbdClientInfo }
  | {
      readonly kind: 'negotiated';
      readonly client: NbdClientInfo;
      readonly export: string;
      /** "Go" or "ExportName". */
      readonly option: string;
      readonly flags: number;
      readonly minimumBytes: number;
    }
  | { readonly kind: 'protocol-error'; readonly client: NbdClientInfo; readonly reason: string }
  | {
      readonly kind: 'request-error';
      readonly client: NbdClientInfo;
      readonly export: string;
      readonly failure: RequestFailure;
    }
  | {
      readonly kind: 'closed';
      readonly client: NbdClientInfo;
      /** Null when it never chose one. */
      readonly export: string | null;
      /** It left in good order, or between two messages: nothing that needs a log line. */
      readonly clean: boolean;
      readonly reason: string;
      /** Requests that were in flight; their effects may still come. */
      readonly inflight: number;
    };

/** One line of `NbdServer.connections()`. */
export interface NbdConnectionInfo {
  readonly client: NbdClientInfo;
  /** `settling`: the client is gone, requests of it are still in flight. */
  readonly phase: 'handshake' | 'transmission' | 'ending' | 'settling';
  readonly export: string | null;
  readonly inflight: number;
  readonly inflightBytes: number;
  readonly unsentBytes: number;
  /** Its socket is not read because of a bound. */
  readonly paused: boolean;
  readonly connectedMs: number;
  readonly stats: Readonly<NbdStats>;
}

export interface ConnectionOptions {
  readonly client: NbdClientInfo;
  readonly clock: Clock;
  readonly pool: BufferPool;
  readonly exports: ExportSource;
  readonly limits: NbdLimits;
  readonly stats: NbdStats;
  readonly workload: Workload;
  readonly draining: () => boolean;
  readonly onEvent: (event: NbdEvent) => void;
  readonly ioContext: (client: NbdClientInfo, exp: NbdExport) => IoContext;
  readonly onRequest:
    | ((command: NbdCmd, offset: number, length: number) => TraceContext | undefined)
    | null;
  /** It entered transmission. */
  readonly onNegotiated: (connection: NbdConnection) => void;
  /** It is gone, and so are its requests. */
  readonly onGone: (connection: NbdConnection) => void;
}

/** One client: the stream, then the handshake on it, then the transmission. */
export class NbdConnection implements StreamSink {
  readonly #o: ConnectionOptions;
  readonly #stream: ByteStream;
  readonly #receiver: Receiver;
  readonly #out: OutQueue;
  readonly #own = newStats();
  readonly #sinceMs: number;
  #phase: 'handshake' | 'transmission' | 'ending' | 'settling' | 'gone' = 'handshake';
  #handshake: Handshake;
  #transmission: Transmission | null = null;
  #exportName: string | null = null;
  #timer: Timer;
  /** Why we ended it; null while we did not. */
  #ended: { readonly reason: string; readonly clean: boolean } | null = null;

  constructor(stream: ByteStream, options: ConnectionOptions) {
    const { clock, limits } = options;
    this.#o = options;
    this.#stream = stream;
    this.#sinceMs = clock.nowMs();
    this.#out = new OutQueue(stream, options.pool);
    this.#receiver = new Receiver((buffer, at) => this.#segment(buffer, at));
    this.#handshake = new Handshake({
      client: options.client,
      exports: options.exports,
      limits,
      draining: options.draining,
      send: (bytes) => this.#out.append(bytes),
    });
    this.#receiver.want(this.#handshake.need);
    this.#timer = clock.after(limits.handshakeMs, () => {
      this.drop(`no end of the handshake within ${limits.handshakeMs} ms`, false);
    });
    options.onEvent({ kind: 'connected', client: options.client });
  }

  get client(): NbdClientInfo {
    return this.#o.client;
  }

  info(): NbdConnectionInfo {
    const transmission = this.#transmission;
    return {
      client: this.#o.client,
      phase: this.#phase === 'gone' ? 'settling' : this.#phase,
      export: this.#exportName,
      inflight: transmission?.inflight ?? 0,
      inflightBytes: transmission?.inflightBytes ?? 0,
      unsentBytes: this.#out.unsentBytes,
      paused: transmission?.paused ?? false,
      connectedMs: this.#o.clock.nowMs() - this.#sinceMs,
      stats: this.#own,
    };
  }

  // ---- StreamSink

  buffer(): Buffer {
    return this.#receiver.buffer();
  }

  data(chunk: Buffer, length: number): void {
    this.#receiver.push(chunk, length);
    this.#transmission?.submit();
  }

  closed(error: Error | null): void {
    const wasEnding = this.#phase === 'ending';
    const transmission = this.#transmission;
    const boundary = transmission?.atBoundary ?? this.#isHandshakeBoundary();
    const inflight = transmission?.inflight ?? 0;
    // A client that leaves between two messages, in whatever way, is none of our trouble; with requests under way it is.
    const clean = this.#ended?.clean ?? (boundary && inflight === 0);
    const left = error === null ? 'the client closed the connection' : error.message;
    const reason = this.#ended?.reason ?? (boundary ? left : `${left} in the middle of a message`);
    this.#timer.cancel();
    this.#receiver.stop();
    this.#out.close();
    this.#phase = 'settling';
    this.#o.onEvent({
      kind: 'closed',
      client: this.#o.client,
      export: this.#exportName,
      clean: clean || wasEnding,
      reason,
      inflight,
    });
    if (transmission === null) this.#gone();
    else transmission.close();
    if (inflight === 0) this.#gone();
  }

  // ---- ends

  /** Drops the connection at once. */
  drop(reason: string, clean: boolean): void {
    if (this.#phase === 'settling' || this.#phase === 'gone') return;
    this.#ended ??= { reason, clean };
    this.#receiver.stop();
    this.#transmission?.close();
    this.#stream.destroy();
  }

  /** Lets what is in flight end, refuses the rest, and closes. */
  drain(): void {
    if (this.#phase === 'transmission') {
      this.#ended ??= { reason: 'the server is shutting down', clean: true };
      this.#transmission!.drain();
    } else if (this.#phase === 'handshake') {
      // Options are answered with ERR_SHUTDOWN; who does not say anything is not waited for.
      this.#timer.cancel();
      this.#timer = this.#o.clock.after(this.#o.limits.drainHandshakeMs, () =>
        this.#end('the server is shutting down'),
      );
    }
  }

  /** Sends what is queued, closes our side, and does not wait for ever for the other one. */
  #end(reason: string): void {
    if (this.#phase !== 'handshake' && this.#phase !== 'transmission') return;
    this.#phase = 'ending';
    this.#ended ??= { reason, clean: true };
    this.#receiver.stop();
    this.#out.flush();
    // A paused stream would never notice that its peer has closed.
    this.#stream.resume();
    this.#stream.end();
    this.#timer.cancel();
    this.#timer = this.#o.clock.after(this.#o.limits.closeMs, () => this.#stream.destroy());
  }

  #gone(): void {
    if (this.#phase !== 'settling') return;
    this.#phase = 'gone';
    this.#o.onGone(this);
  }

  #violation(reason: string): void {
    this.#o.stats.protocolErrors += 1;
    this.#own.protocolErrors += 1;
    this.#o.onEvent({ kind: 'protocol-error', client: this.#o.client, reason });
    this.drop(reason, false);
  }

  // ---- phases

  #segment(buffer: Buffer, at: number): void {
    if (this.#transmission !== null) this.#transmission.segment(buffer, at);
    else this.#handshakeSegment(buffer, at);
  }

  #isHandshakeBoundary(): boolean {
    return this.#handshake.atBoundary && !this.#receiver.partial;
  }

  #handshakeSegment(buffer: Buffer, at: number): void {
    const step = this.#handshake.segment(buffer, at);
    switch (step.kind) {
      case 'more':
        // A client that sends options without reading the answers is one that we do not need.
        if (this.#out.unsentBytes > HANDSHAKE_UNSENT_BYTES_MAX) {
          return this.#violation('options are sent but their replies are not read');
        }
        this.#receiver.want(this.#handshake.need);
        return;
      case 'end':
        return this.#end('the client ended the negotiation');
      case 'drop':
        if (step.violation) this.#violation(step.reason);
        else this.#end(step.reason);
        return;
      case 'transmission':
        return this.#transmit(step.negotiated);
    }
  }

  #transmit(negotiated: Negotiated): void {
    const { client, limits, pool, stats } = this.#o;
    const exp = negotiated.export;
    this.#timer.cancel();
    this.#phase = 'transmission';
    this.#exportName = exp.name;
    stats.negotiated += 1;
    this.#transmission = new Transmission({
      device: byteDevice(exp.device),
      rules: { ...negotiated, requestBytesMax: limits.requestBytesMax },
      io: this.#o.ioContext(client, exp),
      limits,
      pool,
      stream: this.#stream,
      receiver: this.#receiver,
      out: this.#out,
      stats,
      own: this.#own,
      workload: this.#o.workload,
      onRequest: this.#o.onRequest,
      onFailure: (failure) =>
        this.#o.onEvent({ kind: 'request-error', client, export: exp.name, failure }),
      onViolation: (reason) => this.#violation(reason),
      onFinished: () => this.#end('the client disconnected'),
      onSettled: () => this.#gone(),
    });
    this.#o.onEvent({
      kind: 'negotiated',
      client,
      export: exp.name,
      option: nameOf(NbdOpt, negotiated.option),
      flags: negotiated.flags,
      minimumBytes: negotiated.minimumBytes,
    });
    this.#o.onNegotiated(this);
    this.#transmission.start();
  }
}

/** Unread replies of the handshake at which the client is dropped. */
const HANDSHAKE_UNSENT_BYTES_MAX = 4 * 1024 * 1024;
