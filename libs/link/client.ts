import type { Extent, TraceContext } from '../block/device.ts';
import type { Clock } from '../core/clock.ts';
import type { OrionError } from '../core/errors.ts';
import { Fifo } from '../core/fifo.ts';
import { LINK_PAYLOAD_BYTES_MAX } from '../core/limits.ts';
import type { UnitAttention } from '../multipath/path.ts';
import type { Address, ByteStream, Network, StreamSink } from '../wire/network.ts';
import { formatAddress } from '../wire/network.ts';
import { OutQueue } from '../wire/out-queue.ts';
import { Receiver } from '../wire/receiver.ts';
import { linkErrors } from './errors.ts';
import {
  FLAG_SHARED,
  FLAG_TRACED,
  FRAME_BYTES,
  FrameStatus,
  FrameType,
  frameHandle,
  frameLength,
  frameOffset,
  frameStatus,
  frameTag,
  frameType,
  invalidFrameReason,
  JSON_BYTES_MAX,
  putFramePage,
  TRACE_BYTES,
  writeFrame,
} from './frame.ts';
import {
  decodeAttention,
  decodeError,
  decodeHelloReply,
  type Hello,
  type HelloReply,
} from './hello.ts';
import { GatewayMemory, LINK_MEMORY_BYTES, memoryAt } from './memory.ts';
import { dropPayload, NO_PAGE, placePayload, takePayload } from './payload.ts';
import { PeerWatch } from './peer-watch.ts';

const CONNECT_TIMEOUT_MS = 3_000;
const NO_BYTES = Buffer.alloc(0);

/** One request on its way. Reused: its place in the table is the frame's tag. */
export interface LinkRequest {
  type: FrameType;
  handle: number;
  incarnation: number;
  epoch: number;
  flags: number;
  offset: number;
  length: number;
  /** Payload of a write, destination of a read that lends nothing. */
  buffer: Buffer | null;
  /** A read that resolves with a `Lent`. */
  lends: boolean;
  /** Payload bytes that it costs of the credit, in whichever direction they go. */
  creditBytes: number;
  /** First part of the payload of a compare-and-write. */
  expected: Buffer | null;
  trace: TraceContext | undefined;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
}

export interface Pending extends LinkRequest {
  /** Batch of the out queue that carries it; 0 while it waits for credit. */
  seq: number;
  /** Where its payload is in the memory that the worker sees too. */
  page: number;
}

export interface LinkClientOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly address: Address;
  readonly hello: Hello;
}

/** The gateway's end of the stream to one worker. Once lost it stays lost. */
export class LinkClient implements StreamSink {
  readonly #options: LinkClientOptions;
  readonly #receiver: Receiver;
  #stream!: ByteStream;
  #out!: OutQueue;
  #peer: HelloReply | null = null;
  /** Offered, and once greeted in use. */
  #memory: GatewayMemory | null = null;
  #greeted: ((error: OrionError | null) => void) | null = null;
  #table: (Pending | null)[] = [];
  #freeTags: number[] = [];
  #queue = new Fifo<LinkRequest>();
  #creditRequests = 0;
  #creditBytes = 0;
  #lost: Error | null = null;
  readonly #lostListeners = new Set<(cause: Error) => void>();
  readonly #pathLost = new Map<number, (cause: Error) => void>();
  readonly #attention = new Map<number, (attention: UnitAttention) => void>();
  #watch: PeerWatch | null = null;
  // The frame whose payload is being received.
  #type = 0;
  #tag = 0;
  #handle = 0;
  #status = 0;
  #length = 0;
  #inPayload = false;

  private constructor(options: LinkClientOptions) {
    this.#options = options;
    this.#receiver = new Receiver((buffer, at) => this.#segment(buffer, at));
    this.#receiver.want(FRAME_BYTES);
  }

  /** Connects and greets. Rejects with LINK_CONNECT. */
  static async connect(options: LinkClientOptions): Promise<LinkClient> {
    const client = new LinkClient(options);
    const { address, network, clock } = options;
    const fields = { link: formatAddress(address) };
    try {
      client.#stream = await network.connect(address, client, { timeoutMs: CONNECT_TIMEOUT_MS });
    } catch (cause) {
      throw linkErrors.make('LINK_CONNECT', { cause, fields });
    }
    client.#out = new OutQueue(client.#stream);
    const greeted = new Promise<OrionError | null>((resolve) => {
      client.#greeted = resolve;
    });
    client.#greet();
    client.#watch = new PeerWatch({
      clock,
      ping: () => client.#ping(),
      silent: (silentMs) => client.#onSilent(silentMs),
    });
    const problem = await greeted;
    if (problem !== null) throw linkErrors.make('LINK_CONNECT', { cause: problem, fields });
    return client;
  }

  #greet(): void {
    const { network, address, hello } = this.#options;
    const memory = GatewayMemory.offer(memoryAt(network, address));
    this.#memory = memory;
    const offer =
      memory === null ? {} : { memory: { name: memory.name, bytes: LINK_MEMORY_BYTES } };
    const json = Buffer.from(JSON.stringify({ ...hello, ...offer }));
    const at = this.#out.reserve(FRAME_BYTES);
    writeFrame(this.#out.slab, at, FrameType.Hello, 0, 0, 0, 0, 0, 0, json.length);
    this.#out.append(json);
  }

  /** Who answered: known once connected. */
  get peer(): HelloReply {
    return this.#peer!;
  }

  /** Large payloads do not go over the socket. */
  get sharesMemory(): boolean {
    return this.#memory !== null;
  }

  get lost(): Error | null {
    return this.#lost;
  }

  onLost(fn: (cause: Error) => void): void {
    if (this.#lost !== null) fn(this.#lost);
    else this.#lostListeners.add(fn);
  }

  /** Told when the worker says that the path behind `handle` is lost, or when the link is. */
  onPathLost(handle: number, fn: (cause: Error) => void): void {
    if (this.#lost !== null) fn(this.#lost);
    else this.#pathLost.set(handle, fn);
  }

  onAttention(handle: number, fn: (attention: UnitAttention) => void): void {
    this.#attention.set(handle, fn);
  }

  close(): void {
    this.#end(linkErrors.make('LINK_NOT_SENT', { message: 'the link was closed by its owner' }));
    this.#stream.destroy();
  }

  /** Sends now, or when credit allows. Settles through `resolve` or `reject` of the request, exactly once. */
  send(request: LinkRequest): void {
    if (this.#lost !== null) {
      request.reject(linkErrors.make('LINK_NOT_SENT', { cause: this.#lost }));
    } else if (this.#queue.length > 0 || !this.#affordable(request)) {
      this.#queue.push(request);
    } else {
      this.#transmit(request);
    }
  }

  #affordable(request: LinkRequest): boolean {
    return this.#creditRequests > 0 && this.#creditBytes >= request.creditBytes;
  }

  #transmit(request: LinkRequest): void {
    const pending = request as Pending;
    let tag = this.#freeTags.pop();
    if (tag === undefined) tag = this.#table.push(null) - 1;
    this.#table[tag] = pending;
    this.#creditRequests -= 1;
    this.#creditBytes -= request.creditBytes;
    const out = this.#out;
    const { type, handle, incarnation, epoch, offset, length, trace } = request;
    let flags = trace === undefined ? request.flags : request.flags | FLAG_TRACED;
    const page = placePayload(this.#memory, request);
    if (page !== NO_PAGE) flags |= FLAG_SHARED;
    pending.page = page;
    const at = out.reserve(trace === undefined ? FRAME_BYTES : FRAME_BYTES + TRACE_BYTES);
    if (trace !== undefined) {
      out.slab.write(trace.traceId + trace.spanId, at + FRAME_BYTES, TRACE_BYTES, 'hex');
    }
    writeFrame(out.slab, at, type, flags, tag, handle, incarnation, epoch, offset, length);
    if (page !== NO_PAGE) putFramePage(out.slab, at, page);
    else {
      if (request.expected !== null) out.append(request.expected);
      if (request.buffer !== null && type !== FrameType.Read) out.append(request.buffer);
    }
    pending.seq = out.seq;
  }

  // ---- StreamSink

  buffer(): Buffer {
    return this.#receiver.buffer();
  }

  data(chunk: Buffer, length: number): void {
    this.#watch?.heard();
    this.#receiver.push(chunk, length);
  }

  closed(error: Error | null): void {
    const message = error === null ? 'the worker closed the link' : undefined;
    const fields = { link: this.#stream.remote };
    this.#end(
      linkErrors.make('LINK_LOST', {
        fields,
        ...(message === undefined ? {} : { message }),
        ...(error === null ? {} : { cause: error }),
      }),
    );
  }

  #segment(buffer: Buffer, at: number): void {
    if (this.#inPayload) {
      this.#inPayload = false;
      this.#receiver.want(FRAME_BYTES);
      this.#payload(buffer, at);
      return;
    }
    const reason = invalidFrameReason(buffer, at);
    if (reason !== null) return this.#protocolError(reason);
    this.#type = frameType(buffer, at);
    this.#tag = frameTag(buffer, at);
    this.#handle = frameHandle(buffer, at);
    this.#status = frameStatus(buffer, at);
    this.#length = frameLength(buffer, at);
    if (this.#type === FrameType.Credit) this.#credit(frameOffset(buffer, at), this.#length);
    if (this.#type !== FrameType.Reply) return this.#wantJson();
    const pending = this.#table[this.#tag];
    if (pending === null || pending === undefined) {
      return this.#protocolError(`a reply to tag ${this.#tag}, which is not in use`);
    }
    const isRead = pending.type === FrameType.Read && this.#status === FrameStatus.Ok;
    if (!isRead) return this.#wantJson();
    const expected = pending.page === NO_PAGE ? pending.length : 0;
    if (this.#length !== expected) {
      return this.#protocolError(`${this.#length} bytes for a read of ${pending.length}`);
    }
    if (expected === 0) return this.#wantJson();
    this.#inPayload = true;
    this.#receiver.want(this.#length, pending.buffer, 0);
  }

  #wantJson(): void {
    const length = this.#type === FrameType.Credit ? 0 : this.#length;
    if (length === 0) {
      this.#receiver.want(FRAME_BYTES);
      return this.#payload(NO_BYTES, 0);
    }
    if (length > JSON_BYTES_MAX) return this.#protocolError(`${length} bytes of text`);
    this.#inPayload = true;
    this.#receiver.want(length);
  }

  #payload(buffer: Buffer, at: number): void {
    switch (this.#type) {
      case FrameType.Reply:
        return this.#reply(this.#length === 0 ? NO_BYTES : buffer.subarray(at, at + this.#length));
      case FrameType.Lost:
        return this.#losePath(this.#handle, decodeError(buffer.subarray(at, at + this.#length)));
      case FrameType.Attention: {
        const attention = decodeAttention(buffer.subarray(at, at + this.#length));
        if (attention === null) return this.#protocolError('an attention is malformed');
        this.#attention.get(this.#handle)?.(attention);
        return;
      }
      case FrameType.Hello:
        return this.#helloReply(buffer.subarray(at, at + this.#length));
      case FrameType.Ping:
      case FrameType.Credit:
        return;
      default:
        return this.#protocolError(`frame type ${this.#type}`);
    }
  }

  #reply(payload: Buffer): void {
    const pending = this.#table[this.#tag]!;
    this.#table[this.#tag] = null;
    this.#freeTags.push(this.#tag);
    this.#creditRequests += 1;
    this.#creditBytes += pending.creditBytes;
    const good = this.#status === FrameStatus.Ok;
    const read = takePayload(this.#memory, pending, good);
    if (!good) this.#replyError(pending, decodeError(payload));
    else if (pending.type === FrameType.Extents || pending.type === FrameType.CompareWrite) {
      this.#replyValue(pending, payload);
    } else pending.resolve(read);
    while (this.#queue.length > 0 && this.#affordable(this.#queue.peek()!)) {
      this.#transmit(this.#queue.shift()!);
    }
  }

  #replyError(pending: Pending, error: OrionError): void {
    // The worker does not hold the path any more, and may have lost it before it knew that we care.
    if (error.code === 'LINK_NO_SLOT') this.#losePath(pending.handle, error);
    pending.reject(error);
  }

  #losePath(handle: number, cause: Error): void {
    const listener = this.#pathLost.get(handle);
    this.#pathLost.delete(handle);
    this.#attention.delete(handle);
    listener?.(cause);
  }

  #replyValue(pending: Pending, payload: Buffer): void {
    try {
      pending.resolve(JSON.parse(payload.toString('utf8')) as Extent[] | number);
    } catch (cause) {
      pending.reject(linkErrors.make('LINK_PROTOCOL', { cause }));
    }
  }

  #helloReply(payload: Buffer): void {
    const reply = decodeHelloReply(payload);
    if (reply === null) return this.#protocolError('its HELLO is malformed');
    this.#peer = reply;
    if (reply.shares === true) this.#memory?.settle();
    else this.#dropMemory();
    this.#credit(reply.requests, reply.bytes);
    this.#greeted?.(null);
    this.#greeted = null;
  }

  #credit(requests: number, bytes: number): void {
    this.#creditRequests += requests;
    this.#creditBytes += Math.max(bytes, LINK_PAYLOAD_BYTES_MAX);
  }

  #ping(): void {
    const at = this.#out.reserve(FRAME_BYTES);
    writeFrame(this.#out.slab, at, FrameType.Ping, 0, 0, 0, 0, 0, 0, 0);
  }

  #onSilent(silentMs: number): void {
    const fields = { link: this.#stream.remote, silentMs: Math.round(silentMs) };
    const error = linkErrors.make('LINK_SILENT', { fields });
    this.#end(error);
    this.#stream.destroy(error);
  }

  #dropMemory(): void {
    this.#memory?.release();
    this.#memory = null;
  }

  #protocolError(reason: string): void {
    const fields = { link: this.#stream.remote };
    const message = `the worker broke the link protocol: ${reason}`;
    const error = linkErrors.make('LINK_PROTOCOL', { message, fields });
    this.#end(error);
    this.#stream.destroy(error);
  }

  /** First cause wins; everything outstanding settles, nothing is received into a caller's buffer any more. */
  #end(cause: OrionError): void {
    if (this.#lost !== null) return;
    this.#lost = cause;
    this.#watch?.stop();
    this.#receiver.stop();
    const handedSeq = this.#out === undefined ? 0 : this.#out.handedSeq;
    this.#out?.close();
    this.#dropMemory();
    this.#greeted?.(cause);
    const pending = this.#table;
    this.#table = [];
    for (const request of pending) {
      if (request === null) continue;
      dropPayload(request);
      // A batch that was never handed to the socket has certainly not been seen by the worker.
      const code = request.seq > handedSeq ? 'LINK_NOT_SENT' : 'LINK_LOST';
      request.reject(linkErrors.make(code, { cause, message: cause.message }));
    }
    for (const request of this.#queue.drain()) {
      request.reject(linkErrors.make('LINK_NOT_SENT', { cause }));
    }
    // First that this worker does not answer, then that its paths are gone: who looks for another place for a path must
    // not think of this one.
    for (const listener of this.#lostListeners) listener(cause);
    this.#lostListeners.clear();
    for (const listener of this.#pathLost.values()) listener(cause);
    this.#pathLost.clear();
  }
}
