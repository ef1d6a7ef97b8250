import type { Clock, Timer } from '../core/clock.ts';
import { Fifo } from '../core/fifo.ts';
import { intBetween, type Rng } from '../core/rng.ts';
import type { ByteStream, StreamSink } from '../wire/network.ts';

/** What the platform would deliver in one read on the accepting side. */
const ACCEPT_READ_BYTES = 64 * 1024;

/** Overwrites a delivered chunk, so that a sink that keeps it is found out. */
const POISON = 0xdd;

export interface LinkKnobs {
  readonly latencyMinMs: number;
  readonly latencyMaxMs: number;
  /** Bytes per millisecond of one stream and direction; Infinity: no limit. */
  readonly bytesPerMs: number;
  /** Delivers in pieces of at most this many bytes, of random length; 0: as sent. */
  readonly fragmentBytesMax: number;
  /** What becomes of bytes that are on their way when their sender destroys the stream or crashes. */
  readonly onDestroy: 'drop' | 'deliver' | 'part';
}

export const DEFAULT_LINK: LinkKnobs = {
  latencyMinMs: 0,
  latencyMaxMs: 0,
  bytesPerMs: Number.POSITIVE_INFINITY,
  fragmentBytesMax: 0,
  onDestroy: 'drop',
};

/** What an endpoint needs of its network, for its own sending direction. */
export interface MemoryHost {
  readonly clock: Clock;
  readonly rng: Rng;
  knobs(): LinkKnobs;
  /** True while what this end sends does not arrive. */
  silent(): boolean;
}

type Item =
  | { kind: 'data'; at: number; bytes: Buffer; offset: number; done: (() => void) | null }
  | { kind: 'end'; at: number }
  | { kind: 'reset'; at: number; error: Error };

export function systemError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/** One end of a connection; it owns the queue of what it sent and the peer has not received yet. */
export class MemoryEndpoint implements ByteStream {
  readonly remote: string;
  readonly #host: MemoryHost;
  readonly #role: 'connector' | 'acceptor';
  readonly #queue = new Fifo<Item>();
  #peer: MemoryEndpoint | null = null;
  #sink: StreamSink | null = null;
  #onClosed: (() => void) | null = null;
  #timer: Timer | null = null;
  #lastAt = 0;
  #unsentBytes = 0;
  #paused = false;
  #ended = false;
  #dead = false;
  /** The host lost its power: what arrives for it is answered with a reset once it is reachable again. */
  #vanished = false;

  constructor(host: MemoryHost, remote: string, role: 'connector' | 'acceptor') {
    this.#host = host;
    this.remote = remote;
    this.#role = role;
  }

  join(peer: MemoryEndpoint, onClosed: () => void): void {
    this.#peer = peer;
    this.#onClosed = onClosed;
    this.#arm();
  }

  /** Names the sink; what the peer sent before is delivered now. */
  attach(sink: StreamSink): void {
    this.#sink = sink;
    this.#peer?.wake();
  }

  /** True once nothing more can be delivered to this end. */
  get dead(): boolean {
    return this.#dead;
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  writev(chunks: readonly Uint8Array[], done: () => void): void {
    if (this.#dead || this.#ended) {
      done();
      return;
    }
    const bytes = Buffer.concat(chunks);
    this.#unsentBytes += bytes.length;
    const { fragmentBytesMax } = this.#host.knobs();
    let from = 0;
    while (fragmentBytesMax > 0 && bytes.length - from > 1) {
      const length = intBetween(this.#host.rng, 1, fragmentBytesMax);
      if (from + length >= bytes.length) break;
      this.#push(bytes.subarray(from, from + length), null);
      from += length;
    }
    this.#push(bytes.subarray(from), done);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#peer?.wake();
  }

  end(): void {
    if (this.#dead || this.#ended) return;
    this.#ended = true;
    this.#queue.push({ kind: 'end', at: this.#arrival(0) });
    this.#arm();
  }

  destroy(reason?: Error): void {
    if (this.#dead) return;
    const { onDestroy } = this.#host.knobs();
    if (onDestroy === 'drop') this.#keep(0);
    else if (onDestroy === 'part') this.#keep(intBetween(this.#host.rng, 0, this.#unsentBytes));
    const error = systemError('ECONNRESET', `connection reset by ${this.#role}`);
    this.#queue.push({ kind: 'reset', at: this.#arrival(0), error });
    this.#arm();
    this.#close(reason ?? null);
  }

  /** Dies at once, with `error`, and tells the peer nothing. */
  fail(error: Error): void {
    if (this.#dead) return;
    this.#keep(0);
    this.#close(error);
  }

  /** As a host that loses its power: the peer learns of it when it is answered again. */
  vanish(error: Error): void {
    this.#vanished = true;
    this.fail(error);
  }

  /** Looks again at what could not be delivered. */
  wake(): void {
    this.#arm();
  }

  #push(bytes: Buffer, done: (() => void) | null): void {
    this.#queue.push({ kind: 'data', at: this.#arrival(bytes.length), bytes, offset: 0, done });
    this.#arm();
  }

  #arrival(bytes: number): number {
    const { clock, rng } = this.#host;
    const { latencyMinMs, latencyMaxMs, bytesPerMs } = this.#host.knobs();
    const latencyMs = latencyMinMs + rng.float() * (latencyMaxMs - latencyMinMs);
    const at = Math.max(clock.nowMs() + latencyMs, this.#lastAt) + bytes / bytesPerMs;
    this.#lastAt = at;
    return at;
  }

  #arm(): void {
    const head = this.#queue.peek();
    if (head === undefined || this.#timer !== null || this.#peer === null) return;
    const delayMs = Math.max(0, head.at - this.#host.clock.nowMs());
    this.#timer = this.#host.clock.after(delayMs, () => {
      this.#timer = null;
      this.#deliver();
    });
  }

  /** Delivers the head of the queue, one item a turn, so that nothing is ever called re-entrantly. */
  #deliver(): void {
    const head = this.#queue.peek();
    const peer = this.#peer;
    if (head === undefined || peer === null || this.#host.silent()) return;
    if (head.kind === 'reset') {
      this.#queue.shift();
      peer.fail(head.error);
      return;
    }
    if (peer.#dead) {
      this.#keep(0);
      if (peer.#vanished) this.fail(systemError('ECONNRESET', 'the peer has forgotten us'));
      return;
    }
    if (peer.#paused || peer.#sink === null) return;
    if (head.kind === 'end') {
      this.#queue.shift();
      peer.#peerEnded();
      return;
    }
    peer.#receive(head);
    if (head.offset === head.bytes.length) {
      this.#queue.shift();
      this.#unsentBytes -= head.bytes.length;
      if (peer.#role === 'acceptor') head.bytes.fill(POISON);
      head.done?.();
    }
    this.#arm();
  }

  /** Hands as much of `item` to the sink as it takes now. */
  #receive(item: Extract<Item, { kind: 'data' }>): void {
    while (item.offset < item.bytes.length && this.#sink !== null && !this.#paused) {
      const left = item.bytes.subarray(item.offset);
      if (this.#role === 'connector') {
        const into = this.#sink.buffer();
        const length = left.copy(into, 0, 0, Math.min(into.length, left.length));
        item.offset += length;
        this.#sink.data(into, length);
      } else {
        const chunk = left.subarray(0, ACCEPT_READ_BYTES);
        item.offset += chunk.length;
        this.#sink.data(chunk, chunk.length);
      }
    }
  }

  #peerEnded(): void {
    if (this.#dead) return;
    if (!this.#ended) this.end();
    this.#close(null);
  }

  /** Forgets what is queued beyond the next `bytes` bytes. */
  #keep(bytes: number): void {
    let left = bytes;
    const dones: (() => void)[] = [];
    for (const item of this.#queue.drain()) {
      if (item.kind !== 'data') continue;
      const length = item.bytes.length;
      const within = Math.min(left, length);
      left -= within;
      if (within === length) {
        this.#queue.push(item);
        continue;
      }
      const kept = within > item.offset ? within : 0;
      this.#unsentBytes -= length - kept;
      if (kept > 0) this.#queue.push({ ...item, bytes: item.bytes.subarray(0, kept), done: null });
      if (item.done !== null) dones.push(item.done);
    }
    // Not at once: the caller may be in the middle of a turn of its own.
    if (dones.length === 0) return;
    this.#host.clock.after(0, () => {
      for (const done of dones) done();
    });
  }

  #close(error: Error | null): void {
    this.#dead = true;
    this.#host.clock.after(0, () => {
      const sink = this.#sink;
      this.#sink = null;
      this.#onClosed?.();
      sink?.closed(error);
    });
  }
}
