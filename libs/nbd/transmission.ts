import type { ByteDevice } from '../block/byte-device.ts';
import { type IoContext, type TraceContext, WriteFlag } from '../block/device.ts';
import { isOrionError } from '../core/errors.ts';
import type { BufferPool } from '../wire/buffer-pool.ts';
import type { ByteStream } from '../wire/network.ts';
import type { OutQueue } from '../wire/out-queue.ts';
import type { Receiver } from '../wire/receiver.ts';
import {
  CmdFlag,
  Magic,
  NbdCmd,
  NbdErr,
  nameOf,
  REQUEST_BYTES,
  SIMPLE_REPLY_BYTES,
} from './constants.ts';
import type { NbdLimits } from './limits.ts';
import { NbdRequest, type RequestRules, refuse, replyError } from './request.ts';
import { countRequest, type NbdStats } from './stats.ts';

/** Payload of a refused WRITE is received in pieces of this size and dropped. */
const SKIP_BYTES = 64 * 1024;

/** What became of a request that failed, for logs: the client sees a number only. */
export interface RequestFailure {
  readonly command: string;
  readonly offset: number;
  readonly length: number;
  /** "EINVAL". */
  readonly errno: string;
  /** `client`: it asked for something that it may not. `device`: the volume failed. */
  readonly source: 'client' | 'device';
  readonly reason: string;
  readonly error?: unknown;
}

export interface TransmissionOptions {
  readonly device: ByteDevice;
  readonly rules: RequestRules;
  readonly io: IoContext;
  readonly limits: NbdLimits;
  readonly pool: BufferPool;
  readonly stream: ByteStream;
  readonly receiver: Receiver;
  readonly out: OutQueue;
  /** Of the whole server, and of this connection. */
  readonly stats: NbdStats;
  readonly own: NbdStats;
  readonly onRequest:
    | ((command: NbdCmd, offset: number, length: number) => TraceContext | undefined)
    | null;
  readonly onFailure: (failure: RequestFailure) => void;
  /** The peer broke the protocol: the connection is to be dropped. */
  readonly onViolation: (reason: string) => void;
  /** DISC, or a drain, and nothing is in flight any more: flush and end the connection. */
  readonly onFinished: () => void;
  /** The last request in flight of a connection that is gone has settled. */
  readonly onSettled: () => void;
}

/**
 * The transmission phase of one connection (proto.md "Transmission"). The hot path of the product: requests are
 * records that are reused, the device's promise is the only object made for one, numbers stay small integers.
 *
 * At a bound of the limits it stops in the middle of what arrived, keeps that, and stops reading the socket. It
 * goes on when half of the bound is free, so that a client at the bound costs no switching per request.
 */
export class Transmission {
  readonly #o: TransmissionOptions;
  readonly #free: NbdRequest[] = [];
  readonly #onOk: (request: NbdRequest) => void;
  readonly #onFailed: (request: NbdRequest, error: unknown) => void;
  #state: 'header' | 'payload' | 'skip' | 'ending' | 'closed' = 'header';
  /** The WRITE whose payload is being received or skipped. */
  #receiving: NbdRequest | null = null;
  #skipLeft = 0;
  /** The request that has to wait for room; while there is one nothing is read. */
  #waiting: NbdRequest | null = null;
  #inflight = 0;
  #inflightBytes = 0;
  #draining = false;

  constructor(options: TransmissionOptions) {
    this.#o = options;
    this.#onOk = (request) => this.#succeeded(request);
    this.#onFailed = (request, error) => this.#failed(request, error);
    options.out.onRelease(() => this.#goOn());
  }

  get inflight(): number {
    return this.#inflight;
  }

  get inflightBytes(): number {
    return this.#inflightBytes;
  }

  get paused(): boolean {
    return this.#waiting !== null;
  }

  /** True between requests: a client that leaves now breaks nothing. */
  get atBoundary(): boolean {
    return this.#state !== 'payload' && this.#state !== 'skip' && !this.#o.receiver.partial;
  }

  /** Asks for the first request. */
  start(): void {
    this.#o.receiver.want(REQUEST_BYTES);
  }

  /** Takes the segment that was asked for. */
  segment(buffer: Buffer, at: number): void {
    switch (this.#state) {
      case 'header':
        return this.#onHeader(buffer, at);
      case 'payload': {
        const request = this.#receiving!;
        this.#receiving = null;
        this.#nextHeader();
        return this.#execute(request);
      }
      case 'skip':
        return this.#skip();
      default:
        return;
    }
  }

  /** Answers what is in flight, refuses what still comes, then finishes. */
  drain(): void {
    if (this.#draining || this.#state === 'closed' || this.#state === 'ending') return;
    this.#draining = true;
    if (this.#inflight === 0) this.#finish();
    else this.#goOn();
  }

  /** The stream is gone. Requests in flight run to their end without a reply, and give their buffers back then. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#waiting = null;
    const request = this.#receiving;
    this.#receiving = null;
    if (request !== null)
      this.#forget(request); // says so itself when it was the last
    else if (this.#inflight === 0) this.#o.onSettled();
  }

  #onHeader(buffer: Buffer, at: number): void {
    if (buffer.readUInt32BE(at) !== Magic.Request) {
      // Nothing after it can be trusted, replies to it neither.
      const got = buffer.readUInt32BE(at).toString(16).padStart(8, '0');
      return this.#o.onViolation(`a request begins with 0x${got}`);
    }
    const request = this.#free.pop() ?? new NbdRequest(this.#onOk, this.#onFailed);
    request.decode(buffer, at);
    if (this.#hasRoom(request)) return this.#begin(request);
    this.#waiting = request;
    this.#o.stats.pauses += 1;
    this.#o.own.pauses += 1;
    this.#o.receiver.pause();
    this.#o.stream.pause();
  }

  #nextHeader(): void {
    this.#state = 'header';
    this.#o.receiver.want(REQUEST_BYTES);
  }

  /** Replies that wait for the client and those that will come count together: this bounds a client's memory. */
  #hasRoom(request: NbdRequest): boolean {
    if (this.#inflight === 0 && this.#o.out.unsentBytes === 0) return true;
    const { limits, out, pool } = this.#o;
    const bytes = this.#inflightBytes + payloadBytes(request);
    const crowded = pool.takenBytes > limits.poolBytesMax;
    if (crowded && bytes + out.unsentBytes > limits.crowdedBytesMax) return false;
    return (
      this.#inflight < limits.inflightRequestsMax &&
      bytes <= limits.inflightBytesMax &&
      bytes + out.unsentBytes <= limits.unsentBytesMax
    );
  }

  /** Takes up reading again after `#waiting`, when half of every bound is free. */
  #goOn(): void {
    const request = this.#waiting;
    if (request === null) return;
    const { limits, out, receiver, stream } = this.#o;
    const idle = this.#inflight === 0 && out.unsentBytes === 0;
    const below =
      this.#inflight * 2 <= limits.inflightRequestsMax &&
      this.#inflightBytes * 2 <= limits.inflightBytesMax &&
      (this.#inflightBytes + out.unsentBytes) * 2 <= limits.unsentBytesMax;
    if (!idle && !(below && this.#hasRoom(request))) return;
    this.#waiting = null;
    this.#begin(request);
    if (this.#isOver()) return;
    receiver.resume();
    if (this.#waiting === null && !this.#isOver()) stream.resume();
  }

  #isOver(): boolean {
    return this.#state === 'closed' || this.#state === 'ending';
  }

  #begin(request: NbdRequest): void {
    const { stats, own } = this.#o;
    countRequest(stats, request.command);
    countRequest(own, request.command);
    if (request.command === NbdCmd.Disc) {
      this.#free.push(request);
      return this.#disconnect();
    }
    this.#inflight += 1;
    if (refuse(request, this.#o.rules)) {
      // The verdict stands.
    } else if (this.#draining) {
      request.error = NbdErr.ESHUTDOWN;
      request.reason = 'the server is shutting down';
    }
    if (request.command === NbdCmd.Write && request.length > 0) return this.#beginWrite(request);
    this.#nextHeader();
    this.#execute(request);
  }

  #beginWrite(request: NbdRequest): void {
    const { length } = request;
    this.#receiving = request;
    if (request.error === NbdErr.OK) {
      this.#inflightBytes += length;
      request.buffer = this.#o.pool.take(length);
      this.#state = 'payload';
      this.#o.receiver.want(length, request.buffer);
      return;
    }
    // A refused payload is consumed so that the stream stays in step, unless it is too much to be worth it.
    if (length > 2 * this.#o.limits.requestBytesMax) {
      return this.#o.onViolation(`a write of ${length} bytes is too long`);
    }
    this.#skipLeft = length;
    this.#wantSkip();
  }

  #wantSkip(): void {
    const bytes = Math.min(this.#skipLeft, SKIP_BYTES);
    this.#skipLeft -= bytes;
    this.#state = 'skip';
    this.#o.receiver.want(bytes);
  }

  #skip(): void {
    if (this.#skipLeft > 0) return this.#wantSkip();
    const request = this.#receiving!;
    this.#receiving = null;
    this.#nextHeader();
    this.#execute(request);
  }

  #execute(request: NbdRequest): void {
    if (request.error !== NbdErr.OK) return this.#refused(request);
    if (request.length === 0 && request.command !== NbdCmd.Flush) return this.#succeeded(request);
    try {
      this.#call(request).then(request.onOk, request.onFailed);
    } catch (error) {
      this.#failed(request, error);
    }
  }

  #call(request: NbdRequest): Promise<void> {
    const { device, onRequest, pool } = this.#o;
    const { offset, length } = request;
    let { io } = this.#o;
    if (onRequest !== null) {
      const trace = onRequest(request.command as NbdCmd, offset, length);
      if (trace !== undefined) io = { ...io, trace };
    }
    switch (request.command) {
      case NbdCmd.Read: {
        const into = pool.take(length);
        request.buffer = into;
        this.#inflightBytes += length;
        return device.read(offset, into, io);
      }
      case NbdCmd.Write:
        return device.write(offset, request.buffer!, deviceFlags(request.flags), io);
      case NbdCmd.Flush:
        return device.flush(io);
      case NbdCmd.Trim:
        return device.trim(offset, length, deviceFlags(request.flags), io);
      case NbdCmd.WriteZeroes:
        return device.writeZeroes(offset, length, deviceFlags(request.flags), io);
      default:
        // CACHE: nothing to warm, which is allowed: it is advisory.
        return ACCEPTED;
    }
  }

  #succeeded(request: NbdRequest): void {
    const { buffer } = request;
    const { stats, own, pool, out } = this.#o;
    if (request.command === NbdCmd.Read) {
      stats.bytesRead += request.length;
      own.bytesRead += request.length;
    } else if (request.command === NbdCmd.Write) {
      stats.bytesWritten += request.length;
      own.bytesWritten += request.length;
    }
    if (this.#state !== 'closed') {
      this.#reply(request, NbdErr.OK);
      if (buffer !== null && request.command === NbdCmd.Read) {
        request.buffer = null; // its owner is the queue now
        this.#inflightBytes -= request.length;
        out.appendOwned(buffer);
      }
    }
    if (request.buffer !== null) {
      this.#inflightBytes -= request.length;
      pool.give(request.buffer);
      request.buffer = null;
    }
    this.#settled(request);
  }

  #failed(request: NbdRequest, error: unknown): void {
    const errno = isOrionError(error) ? error.errno : 'EIO';
    const reason = error instanceof Error ? error.message : String(error);
    this.#answerError(request, replyError(errno, request), 'device', reason, error);
  }

  #refused(request: NbdRequest): void {
    this.#answerError(request, request.error as NbdErr, 'client', request.reason);
  }

  /** Never with a payload: the buffer may hold what was in it before. */
  #answerError(
    request: NbdRequest,
    errno: NbdErr,
    source: RequestFailure['source'],
    reason: string,
    error?: unknown,
  ): void {
    const { stats, own } = this.#o;
    stats.errors += 1;
    own.errors += 1;
    this.#o.onFailure({
      command: nameOf(NbdCmd, request.command),
      offset: request.offset,
      length: request.length,
      errno: nameOf(NbdErr, errno),
      source,
      reason,
      ...(error === undefined ? {} : { error }),
    });
    if (this.#state !== 'closed') this.#reply(request, errno);
    this.#forget(request);
  }

  /** Takes the request out of the books and gives its buffer back. */
  #forget(request: NbdRequest): void {
    if (request.buffer !== null) {
      this.#inflightBytes -= request.length;
      this.#o.pool.give(request.buffer);
      request.buffer = null;
    }
    this.#settled(request);
  }

  #reply(request: NbdRequest, error: NbdErr): void {
    const { out } = this.#o;
    const at = out.reserve(SIMPLE_REPLY_BYTES);
    const { slab } = out;
    slab.writeInt32BE(Magic.SimpleReply, at);
    slab.writeInt32BE(error, at + 4);
    slab.writeInt32BE(request.cookieHigh, at + 8);
    slab.writeInt32BE(request.cookieLow, at + 12);
  }

  #settled(request: NbdRequest): void {
    this.#inflight -= 1;
    this.#free.push(request);
    if (this.#waiting !== null) this.#goOn();
    if (this.#inflight > 0) return;
    if (this.#state === 'closed') this.#o.onSettled();
    else if (this.#state === 'ending') this.#o.onFinished();
    else if (this.#draining && this.#waiting === null) this.#finish();
  }

  /** proto.md "NBD_CMD_DISC": everything outstanding is answered first. */
  #disconnect(): void {
    this.#state = 'ending';
    this.#o.receiver.stop();
    if (this.#inflight === 0) this.#o.onFinished();
  }

  #finish(): void {
    if (this.#isOver()) return;
    this.#disconnect();
  }
}

const ACCEPTED: Promise<void> = Promise.resolve();

/** What a request will hold in memory. */
function payloadBytes(request: NbdRequest): number {
  return request.command === NbdCmd.Read || request.command === NbdCmd.Write ? request.length : 0;
}

function deviceFlags(flags: number): number {
  if (flags === 0) return WriteFlag.None;
  return (
    ((flags & CmdFlag.Fua) !== 0 ? WriteFlag.Fua : 0) |
    ((flags & CmdFlag.NoHole) !== 0 ? WriteFlag.NoHole : 0) |
    ((flags & CmdFlag.FastZero) !== 0 ? WriteFlag.FastOnly : 0)
  );
}
