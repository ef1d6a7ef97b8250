import { type IoContext, WriteFlag } from '../block/device.ts';
import { readPooled } from '../block/read-pooled.ts';
import { isOrionError } from '../core/errors.ts';
import type { Lent } from '../wire/lent.ts';
import {
  CmdFlag,
  Magic,
  NbdCmd,
  NbdErr,
  nameOf,
  REQUEST_BYTES,
  SIMPLE_REPLY_BYTES,
} from './constants.ts';
import { ReadRun } from './read-run.ts';
import { NbdRequest, refuse, replyError } from './request.ts';
import { countRequest } from './stats.ts';
import type { RequestFailure, TransmissionOptions } from './transmission-options.ts';

/** Payload of a refused WRITE is received in pieces of this size and dropped. */
const SKIP_BYTES = 64 * 1024;

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
  /** READs of what arrived together that are not on their way yet. */
  readonly #run = new ReadRun();
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

  /** All that arrived together has been looked at: what was gathered of it goes to the device. */
  submit(): void {
    if (!this.#run.empty) this.#submitRun();
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
    if (this.#isOver()) return this.submit();
    receiver.resume();
    this.submit();
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
    this.#o.workload.inflight += 1;
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
      this.#hold(request);
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
    const io = this.#ioOf(request);
    if (request.command !== NbdCmd.Read) {
      this.submit();
      return this.#start(request, io);
    }
    this.#hold(request);
    // A request that is traced is to be seen alone.
    if (io !== this.#o.io) return this.#start(request, io);
    if (!this.#run.fits(request)) this.#submitRun();
    this.#run.add(request);
  }

  #ioOf(request: NbdRequest): IoContext {
    const { io, onRequest } = this.#o;
    if (onRequest === null) return io;
    const trace = onRequest(request.command as NbdCmd, request.offset, request.length);
    return trace === undefined ? io : { ...io, trace };
  }

  #start(request: NbdRequest, io: IoContext): void {
    try {
      this.#call(request, io).then(request.onOk, request.onFailed);
    } catch (error) {
      this.#failed(request, error);
    }
  }

  #call(request: NbdRequest, io: IoContext): Promise<void> {
    const { device, pool } = this.#o;
    const { offset, length } = request;
    switch (request.command) {
      case NbdCmd.Read: {
        const into = pool.take(length);
        request.buffer = into;
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

  #submitRun(): void {
    const run = this.#run;
    const { device, io, pool } = this.#o;
    const { offset, bytes } = run;
    const lent = device.lend(offset, bytes, io);
    if (lent === null && run.single !== null) {
      const request = run.single;
      run.clear();
      return this.#start(request, io);
    }
    const requests = run.takeAll();
    (lent ?? readPooled(device, offset, pool.take(bytes), pool, io)).then(
      (read) => this.#readTogether(requests, read),
      (error) => this.#readEach(requests, error),
    );
  }

  #readTogether(requests: readonly NbdRequest[], read: Lent): void {
    const { out } = this.#o;
    const wanted = this.#state !== 'closed';
    let at = 0;
    for (const request of requests) {
      this.#countRead(request);
      if (!wanted) continue;
      this.#reply(request, NbdErr.OK);
      out.append(read.bytes.subarray(at, at + request.length));
      at += request.length;
    }
    if (wanted) out.borrow(read);
    else read.giveBack();
    for (const request of requests) this.#forget(request);
  }

  /** Some of it cannot be read: each request is to get what is true of it. */
  #readEach(requests: readonly NbdRequest[], error: unknown): void {
    for (const request of requests) {
      if (this.#state === 'closed') this.#forget(request);
      else if (requests.length === 1) this.#failed(request, error);
      else this.#start(request, this.#o.io);
    }
  }

  #succeeded(request: NbdRequest): void {
    const { buffer } = request;
    const { stats, own, out } = this.#o;
    if (request.command === NbdCmd.Read) this.#countRead(request);
    else if (request.command === NbdCmd.Write) {
      stats.bytesWritten += request.length;
      own.bytesWritten += request.length;
    }
    if (this.#state !== 'closed') {
      this.#reply(request, NbdErr.OK);
      if (buffer !== null && request.command === NbdCmd.Read) {
        request.buffer = null; // its owner is the queue now
        out.appendOwned(buffer);
      }
    }
    this.#forget(request);
  }

  #countRead(request: NbdRequest): void {
    this.#o.stats.bytesRead += request.length;
    this.#o.own.bytesRead += request.length;
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

  /** Counts the payload of a request as held in memory, until `#forget`. */
  #hold(request: NbdRequest): void {
    request.heldBytes = request.length;
    this.#inflightBytes += request.length;
  }

  /** Takes the request out of the books and gives its buffer back. */
  #forget(request: NbdRequest): void {
    this.#inflightBytes -= request.heldBytes;
    request.heldBytes = 0;
    if (request.buffer !== null) {
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
    this.#o.workload.inflight -= 1;
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
