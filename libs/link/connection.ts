import type { IoContext, TraceContext } from '../block/device.ts';
import { errorText, isOrionError } from '../core/errors.ts';
import { LINK_PAYLOAD_BYTES_MAX } from '../core/limits.ts';
import type { Workload } from '../core/workload.ts';
import { AccessState } from '../multipath/access.ts';
import type { PathDevice } from '../multipath/path.ts';
import type { BufferPool } from '../wire/buffer-pool.ts';
import type { Address, ByteStream, Network, StreamSink } from '../wire/network.ts';
import { Receiver } from '../wire/receiver.ts';
import { Answers } from './answers.ts';
import { linkErrors } from './errors.ts';
import {
  FLAG_SHARED,
  FLAG_TRACED,
  FRAME_BYTES,
  FrameStatus,
  FrameType,
  frameEpoch,
  frameFlags,
  frameHandle,
  frameIncarnation,
  frameLength,
  frameOffset,
  framePage,
  frameTag,
  frameType,
  invalidFrameReason,
  JSON_BYTES_MAX,
  TRACE_BYTES,
} from './frame.ts';
import { checkHello, encodeError, type Hello, offeredMemory } from './hello.ts';
import type { PathHost } from './host.ts';
import { memoryAt, WorkerMemory } from './memory.ts';

/** What one gateway may have in flight on one link. Beyond it the gateway waits; one that does not is cut off. */
export const LINK_CREDIT_REQUESTS = 512;
export const LINK_CREDIT_BYTES = 64 * 1024 * 1024;

/** The unit attention that goes with a change of access state (SPC-4): a gateway that knows nothing of these logs it. */
const ACCESS_CHANGED = { asc: 0x2a, ascq: 0x06 };

export interface LinkConnectionOptions {
  readonly network: Network;
  readonly address: Address;
  readonly host: PathHost;
  readonly pool: BufferPool;
  /** What a gateway must know to be served. */
  readonly token: string;
  /** Who we are: told to the gateway in HELLO. */
  readonly hello: Hello;
  /** Where requests in flight are counted, when somebody wants to know. */
  readonly workload?: Workload;
  readonly onEvent?: (text: string) => void;
}

/** One gateway's stream. Frames in, device calls, replies out; replies of one turn leave together. */
export class LinkConnection implements StreamSink {
  readonly #options: LinkConnectionOptions;
  readonly #stream: ByteStream;
  readonly #answers: Answers;
  readonly #receiver: Receiver;
  readonly #onClosed: () => void;
  /** Devices whose loss this gateway is told of, by handle. */
  readonly #watched = new Map<number, PathDevice>();
  readonly #untraced: IoContext;
  readonly #workload: Workload;
  #memory: WorkerMemory | null = null;
  #inflight = 0;
  #inflightBytes = 0;
  #closed = false;
  #greeted = false;
  // The frame whose payload is being received.
  #type = 0;
  #flags = 0;
  #tag = 0;
  #handle = 0;
  #incarnation = 0;
  #epoch = 0;
  #offset = 0;
  #length = 0;
  /** The place of its payload in shared memory; null when that goes with the frame. */
  #shared: Buffer | null = null;
  #payload: Buffer | null = null;
  #inPayload = false;
  #inTrace = false;
  #trace: TraceContext | undefined;

  constructor(stream: ByteStream, options: LinkConnectionOptions, onClosed: () => void) {
    this.#stream = stream;
    this.#options = options;
    this.#onClosed = onClosed;
    this.#workload = options.workload ?? { inflight: 0 };
    this.#answers = new Answers(stream, options.pool);
    this.#untraced = { deadlineMs: Number.POSITIVE_INFINITY, client: `link:${stream.remote}` };
    this.#receiver = new Receiver((buffer, at) => this.#segment(buffer, at));
    this.#receiver.want(FRAME_BYTES);
  }

  buffer(): Buffer {
    return this.#receiver.buffer();
  }

  data(chunk: Buffer, length: number): void {
    this.#receiver.push(chunk, length);
  }

  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#receiver.stop();
    if (this.#payload !== null) {
      this.#options.pool.give(this.#payload);
      this.#payload = null;
      this.#done(this.#length);
    }
    this.#answers.close();
    this.#onClosed();
    this.#releaseMemory();
  }

  /** When nobody asks any more, and what was asked for has ended: until then sessions use it. */
  #releaseMemory(): void {
    if (!this.#closed || this.#inflight > 0) return;
    this.#memory?.release();
    this.#memory = null;
  }

  destroy(): void {
    this.#stream.destroy();
  }

  #segment(buffer: Buffer, at: number): void {
    if (this.#inTrace) {
      this.#inTrace = false;
      const traceId = buffer.toString('hex', at, at + 16);
      this.#trace = { traceId, spanId: buffer.toString('hex', at + 16, at + TRACE_BYTES) };
      return this.#body(this.#length);
    }
    if (!this.#inPayload) return this.#header(buffer, at);
    this.#inPayload = false;
    const payload = this.#payload;
    this.#payload = null;
    this.#receiver.want(FRAME_BYTES);
    if (this.#type === FrameType.Hello) return this.#hello(buffer, at);
    this.#submitPayload(payload!);
  }

  #header(buffer: Buffer, at: number): void {
    const reason = invalidFrameReason(buffer, at);
    if (reason !== null) return this.#protocolError(reason);
    this.#type = frameType(buffer, at);
    this.#flags = frameFlags(buffer, at);
    this.#tag = frameTag(buffer, at);
    this.#handle = frameHandle(buffer, at);
    this.#incarnation = frameIncarnation(buffer, at);
    this.#epoch = frameEpoch(buffer, at);
    this.#offset = frameOffset(buffer, at);
    const length = frameLength(buffer, at);
    this.#length = length;
    this.#shared = null;
    if ((this.#flags & FLAG_SHARED) !== 0 && !this.#share(framePage(buffer, at))) return;
    if ((this.#flags & FLAG_TRACED) !== 0 && this.#greeted) {
      this.#flags &= ~FLAG_TRACED;
      this.#inTrace = true;
      return this.#receiver.want(TRACE_BYTES);
    }
    this.#trace = undefined;
    this.#body(length);
  }

  /** False, and the end, when the payload of the frame cannot be where it says. */
  #share(page: number): boolean {
    this.#flags &= ~FLAG_SHARED;
    const bulk = this.#type === FrameType.Read || this.#type === FrameType.Write;
    this.#shared = bulk ? (this.#memory?.view(page, this.#length) ?? null) : null;
    if (this.#shared !== null) return true;
    this.#protocolError(`${this.#length} bytes at page ${page} of shared memory`);
    return false;
  }

  /** The header (and trace context) of a frame is read: its payload, if it has one, comes next. */
  #body(length: number): void {
    if (this.#type === FrameType.Hello) {
      if (this.#greeted) return this.#protocolError('a second HELLO');
      if (length === 0 || length > JSON_BYTES_MAX) return this.#protocolError('HELLO too long');
      this.#inPayload = true;
      return this.#receiver.want(length);
    }
    if (!this.#greeted) return this.#protocolError('a frame came before HELLO');
    if (this.#type === FrameType.Write || this.#type === FrameType.CompareWrite) {
      if (length === 0 || length > LINK_PAYLOAD_BYTES_MAX) {
        return this.#protocolError(`payload of ${length} bytes`);
      }
      if (!this.#admit(length)) return;
      if (this.#shared !== null) {
        this.#receiver.want(FRAME_BYTES);
        return this.#write(this.#shared, null);
      }
      this.#payload = this.#options.pool.take(length);
      this.#inPayload = true;
      return this.#receiver.want(length, this.#payload, 0);
    }
    this.#receiver.want(FRAME_BYTES);
    this.#submit(length);
  }

  #submit(length: number): void {
    const tag = this.#tag;
    switch (this.#type) {
      case FrameType.Ping:
        return this.#answers.pong(tag);
      case FrameType.Read:
        if (length === 0 || length > LINK_PAYLOAD_BYTES_MAX) {
          return this.#protocolError(`read of ${length} bytes`);
        }
        if (this.#admit(length)) this.#read(tag, length);
        return;
      case FrameType.Flush:
        return this.#call(tag, (device) => device.flush(this.#io));
      case FrameType.Watch:
        return this.#call(tag, async () => {});
      case FrameType.Probe:
        return this.#call(tag, (device) => device.probe(this.#io));
      case FrameType.Trim: {
        const { offset, flags } = this.#range();
        return this.#call(tag, (device) => device.trim(offset, length, flags, this.#io));
      }
      case FrameType.Zero: {
        const { offset, flags } = this.#range();
        return this.#call(tag, (device) => device.writeZeroes(offset, length, flags, this.#io));
      }
      case FrameType.Extents: {
        const { offset } = this.#range();
        return this.#call(tag, (device) => device.extents(offset, length, this.#io));
      }
      default:
        return this.#protocolError(`frame type ${this.#type}`);
    }
  }

  #range(): { readonly offset: number; readonly flags: number } {
    return { offset: this.#offset, flags: this.#flags };
  }

  /** The context of the frame at hand. */
  get #io(): IoContext {
    const trace = this.#trace;
    return trace === undefined ? this.#untraced : { ...this.#untraced, trace };
  }

  #read(tag: number, length: number): void {
    const device = this.#open(tag, length);
    if (device === null) return;
    const owned = this.#shared === null ? this.#options.pool.take(length) : null;
    device.read(this.#offset, this.#shared ?? owned!, this.#io).then(
      () => {
        this.#done(length);
        if (owned === null) this.#answers.done(tag);
        else if (this.#closed) this.#options.pool.give(owned);
        else this.#answers.data(tag, owned);
      },
      (error) => {
        if (owned !== null) this.#options.pool.give(owned);
        this.#done(length);
        this.#replyError(tag, error);
      },
    );
  }

  /** `owned`: the payload, when it is of our pool. */
  #write(payload: Buffer, owned: Buffer | null): void {
    const tag = this.#tag;
    const { length } = payload;
    const settle = (): void => {
      if (owned !== null) this.#options.pool.give(owned);
    };
    const device = this.#open(tag, length);
    if (device === null) return settle();
    device.write(this.#offset, payload, this.#flags, this.#io).then(
      () => {
        settle();
        this.#done(length);
        this.#answers.done(tag);
      },
      (error) => {
        settle();
        this.#done(length);
        this.#replyError(tag, error);
      },
    );
  }

  #submitPayload(payload: Buffer): void {
    if (this.#type === FrameType.Write) return this.#write(payload, payload);
    const tag = this.#tag;
    const length = payload.length;
    const device = this.#open(tag, length);
    if (device === null) return this.#options.pool.give(payload);
    const settle = (): void => {
      this.#options.pool.give(payload);
      this.#done(length);
    };
    const half = length >>> 1;
    const expected = payload.subarray(0, half);
    device.compareAndWrite(this.#offset, expected, payload.subarray(half), this.#io).then(
      (result) => {
        settle();
        this.#answers.value(tag, result);
      },
      (error) => {
        settle();
        this.#replyError(tag, error);
      },
    );
  }

  #call(tag: number, run: (device: PathDevice) => Promise<unknown>): void {
    if (!this.#admit(0)) return;
    const device = this.#open(tag, 0);
    if (device === null) return;
    run(device).then(
      (result) => {
        this.#done(0);
        if (result === undefined) this.#answers.done(tag);
        else this.#answers.value(tag, result);
      },
      (error) => {
        this.#done(0);
        this.#replyError(tag, error);
      },
    );
  }

  /** The device for the frame at hand, or null after the refusal was sent. */
  #open(tag: number, bytes: number): PathDevice | null {
    try {
      const device = this.#options.host.open(this.#handle, this.#incarnation, this.#epoch);
      this.#watch(this.#handle, device);
      return device;
    } catch (error) {
      this.#done(bytes);
      this.#replyError(tag, error);
      return null;
    }
  }

  #watch(handle: number, device: PathDevice): void {
    if (this.#watched.get(handle) === device) return;
    this.#watched.set(handle, device);
    device.onLost((cause) => {
      if (this.#watched.get(handle) === device) this.#watched.delete(handle);
      this.#answers.json(FrameType.Lost, 0, 0, handle, encodeError(cause));
    });
    device.onUnitAttention((attention) => {
      this.#answers.json(FrameType.Attention, 0, 0, handle, attention);
    });
    // What changed before anybody listened here.
    const { access } = device;
    if (access !== undefined && access.state !== AccessState.Any) {
      const attention = { ...ACCESS_CHANGED, text: `access state ${access.state}`, access };
      this.#answers.json(FrameType.Attention, 0, 0, handle, attention);
    }
  }

  #admit(bytes: number): boolean {
    this.#inflight += 1;
    this.#inflightBytes += bytes;
    this.#workload.inflight += 1;
    if (this.#inflight <= LINK_CREDIT_REQUESTS && this.#inflightBytes <= LINK_CREDIT_BYTES) {
      return true;
    }
    this.#done(bytes);
    this.#protocolError('the gateway used more than its credit');
    return false;
  }

  #done(bytes: number): void {
    this.#inflight -= 1;
    this.#inflightBytes -= bytes;
    this.#workload.inflight -= 1;
    if (this.#closed) this.#releaseMemory();
  }

  // ---- answers

  #hello(buffer: Buffer, at: number): void {
    const { hello, token } = this.#options;
    const theirs = buffer.subarray(at, at + this.#length);
    const problem = checkHello(theirs, hello, token);
    if (problem !== null) return this.#protocolError(problem);
    this.#greeted = true;
    this.#openMemory(theirs);
    const own = {
      ...this.#options.hello,
      requests: LINK_CREDIT_REQUESTS,
      bytes: LINK_CREDIT_BYTES,
      shares: this.#memory !== null,
    };
    this.#answers.json(FrameType.Hello, FrameStatus.Ok, this.#tag, 0, own);
  }

  #openMemory(hello: Buffer): void {
    const offer = offeredMemory(hello);
    const shared = memoryAt(this.#options.network, this.#options.address);
    if (offer === null || shared === null) return;
    try {
      this.#memory = new WorkerMemory(shared, offer.name);
    } catch (error) {
      this.#options.onEvent?.(`payloads go over the link's socket: ${errorText(error)}`);
    }
  }

  #replyError(tag: number, error: unknown): void {
    if (this.#closed) return;
    if (!isOrionError(error)) this.#options.onEvent?.(`link request failed: ${errorText(error)}`);
    this.#answers.failed(tag, error);
  }

  #protocolError(reason: string): void {
    const error = linkErrors.make('LINK_PROTOCOL', {
      message: `a gateway broke the link protocol: ${reason}`,
      fields: { peer: this.#stream.remote },
    });
    this.#options.onEvent?.(error.describe());
    this.#receiver.stop();
    this.#stream.destroy(error);
  }
}
