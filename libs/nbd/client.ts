import { WriteFlag } from '../block/device.ts';
import { type BlockErrno, isOrionError } from '../core/errors.ts';
import type { Address, ByteStream, Network, StreamSink } from '../wire/network.ts';
import { OutQueue } from '../wire/out-queue.ts';
import { Receiver } from '../wire/receiver.ts';
import { ClientHandshake, type NbdExportInfo } from './client-handshake.ts';
import {
  CmdFlag,
  Magic,
  NbdCmd,
  NbdErr,
  NbdOpt,
  nameOf,
  REQUEST_BYTES,
  SIMPLE_REPLY_BYTES,
} from './constants.ts';
import { nbdErrors } from './errors.ts';

export interface NbdClientOptions {
  readonly network: Network;
  readonly address: Address;
  readonly timeoutMs?: number;
}

export interface NbdConnectOptions extends NbdClientOptions {
  /** '' for the default export. */
  readonly exportName?: string;
}

const CONNECT_TIMEOUT_MS = 5_000;

interface Pending {
  readonly into: Buffer | null;
  resolve(): void;
  reject(error: unknown): void;
}

/** Bytes of a stream by promise, until the transmission takes over. */
class Wire implements StreamSink {
  readonly receiver: Receiver;
  #onSegment: (buffer: Buffer, at: number) => void;
  #taking: { bytes: number; resolve(b: Buffer): void; reject(e: unknown): void } | null = null;
  #closed: Error | null = null;
  onClosed: (error: Error) => void = () => {};

  constructor() {
    this.#onSegment = (buffer, at) => {
      const taking = this.#taking!;
      this.#taking = null;
      this.receiver.pause();
      taking.resolve(Buffer.from(buffer.subarray(at, at + taking.bytes)));
    };
    this.receiver = new Receiver((buffer, at) => this.#onSegment(buffer, at));
    this.receiver.pause();
  }

  take(bytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== null) return reject(this.#closed);
      this.#taking = { bytes, resolve, reject };
      this.receiver.want(bytes);
      this.receiver.resume();
    });
  }

  /** From here on segments go to `onSegment`, which has asked for the first one. */
  handOver(onSegment: (buffer: Buffer, at: number) => void): void {
    this.#onSegment = onSegment;
    this.receiver.resume();
  }

  buffer(): Buffer {
    return this.receiver.buffer();
  }

  data(chunk: Buffer, length: number): void {
    this.receiver.push(chunk, length);
  }

  closed(cause: Error | null): void {
    this.fail(
      nbdErrors.make('NBD_DISCONNECTED', {
        message: cause === null ? 'the server closed the connection' : cause.message,
        ...(cause === null ? {} : { cause }),
      }),
    );
  }

  fail(error: Error): void {
    if (this.#closed !== null) return;
    this.#closed = error;
    this.receiver.stop();
    this.#taking?.reject(error);
    this.#taking = null;
    this.onClosed(error);
  }
}

async function open(
  options: NbdClientOptions,
): Promise<{ wire: Wire; stream: ByteStream; handshake: ClientHandshake; out: OutQueue }> {
  const wire = new Wire();
  const stream = await options.network.connect(options.address, wire, {
    timeoutMs: options.timeoutMs ?? CONNECT_TIMEOUT_MS,
  });
  const out = new OutQueue(stream);
  const handshake = new ClientHandshake({
    take: (bytes) => wire.take(bytes),
    send: (bytes) => out.append(bytes),
  });
  try {
    await handshake.greet();
  } catch (error) {
    stream.destroy();
    throw error;
  }
  return { wire, stream, handshake, out };
}

/** The exports of a server, by name and description. */
export async function listExports(
  options: NbdClientOptions,
): Promise<{ name: string; description: string }[]> {
  const { stream, handshake } = await open(options);
  try {
    const exports = await handshake.list();
    await handshake.option(NbdOpt.Abort, Buffer.alloc(0));
    return exports;
  } finally {
    stream.destroy();
  }
}

/** A small NBD client: fixed newstyle, simple replies, any number of requests at a time. */
export class NbdClient {
  readonly info: NbdExportInfo;
  readonly #wire: Wire;
  readonly #stream: ByteStream;
  readonly #out: OutQueue;
  readonly #pending = new Map<number, Pending>();
  #nextCookie = 1;
  #payloadOf: Pending | null = null;
  #closed: Error | null = null;
  readonly #gone: Promise<void>;

  private constructor(wire: Wire, stream: ByteStream, out: OutQueue, info: NbdExportInfo) {
    this.info = info;
    this.#wire = wire;
    this.#stream = stream;
    this.#out = out;
    this.#gone = new Promise((resolve) => {
      wire.onClosed = (error) => {
        this.#closed = error;
        for (const pending of this.#pending.values()) pending.reject(error);
        this.#pending.clear();
        this.#payloadOf?.reject(error);
        this.#payloadOf = null;
        out.close();
        resolve();
      };
    });
    wire.receiver.want(SIMPLE_REPLY_BYTES);
    wire.handOver((buffer, at) => this.#segment(buffer, at));
  }

  static async connect(options: NbdConnectOptions): Promise<NbdClient> {
    const { wire, stream, handshake, out } = await open(options);
    try {
      const info = await handshake.info(NbdOpt.Go, options.exportName ?? '');
      return new NbdClient(wire, stream, out, info);
    } catch (error) {
      stream.destroy();
      throw error;
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const into = Buffer.alloc(length);
    await this.request(NbdCmd.Read, 0, offset, length, null, into);
    return into;
  }

  /** `flags` are those of `WriteFlag`. */
  write(offset: number, data: Buffer, flags = 0): Promise<void> {
    return this.request(NbdCmd.Write, commandFlags(flags), offset, data.length, data);
  }

  flush(): Promise<void> {
    return this.request(NbdCmd.Flush, 0, 0, 0);
  }

  trim(offset: number, length: number, flags = 0): Promise<void> {
    return this.request(NbdCmd.Trim, commandFlags(flags), offset, length);
  }

  writeZeroes(offset: number, length: number, flags = 0): Promise<void> {
    return this.request(NbdCmd.WriteZeroes, commandFlags(flags), offset, length);
  }

  cache(offset: number, length: number): Promise<void> {
    return this.request(NbdCmd.Cache, 0, offset, length);
  }

  /** Any request with any flags; `into` takes the payload of a successful reply. */
  request(
    command: number,
    flags: number,
    offset: number,
    length: number,
    payload: Buffer | null = null,
    into: Buffer | null = null,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== null) return reject(this.#closed);
      const cookie = this.#nextCookie;
      this.#nextCookie = cookie === 0xffffffff ? 1 : cookie + 1;
      this.#pending.set(cookie, { into, resolve, reject });
      this.#sendHeader(command, flags, cookie, offset, length);
      if (payload !== null) this.#out.append(payload);
    });
  }

  /** Says good-bye; resolves when the server has closed. */
  disconnect(): Promise<void> {
    if (this.#closed === null) this.#sendHeader(NbdCmd.Disc, 0, 0, 0, 0);
    return this.#gone;
  }

  /** Drops the connection. */
  destroy(): void {
    this.#stream.destroy();
  }

  #sendHeader(command: number, flags: number, cookie: number, offset: number, length: number) {
    const at = this.#out.reserve(REQUEST_BYTES);
    const { slab } = this.#out;
    slab.writeUInt32BE(Magic.Request, at);
    slab.writeUInt16BE(flags, at + 4);
    slab.writeUInt16BE(command, at + 6);
    slab.writeUInt32BE(0, at + 8);
    slab.writeUInt32BE(cookie, at + 12);
    slab.writeUInt32BE(Math.floor(offset / 2 ** 32), at + 16);
    slab.writeUInt32BE(offset % 2 ** 32, at + 20);
    slab.writeUInt32BE(length, at + 24);
  }

  #segment(buffer: Buffer, at: number): void {
    const { receiver } = this.#wire;
    const complete = this.#payloadOf;
    if (complete !== null) {
      this.#payloadOf = null;
      receiver.want(SIMPLE_REPLY_BYTES);
      return complete.resolve();
    }
    const cookie = buffer.readUInt32BE(at + 12);
    const pending = this.#pending.get(cookie);
    if (
      buffer.readUInt32BE(at) !== Magic.SimpleReply ||
      buffer.readUInt32BE(at + 8) !== 0 ||
      pending === undefined
    ) {
      const error = nbdErrors.make('NBD_PROTOCOL', {
        message: 'a reply has a wrong magic or a cookie that nobody waits for',
      });
      this.#wire.fail(error);
      return this.#stream.destroy(error);
    }
    this.#pending.delete(cookie);
    const errno = buffer.readUInt32BE(at + 4);
    if (errno === NbdErr.OK && pending.into !== null && pending.into.length > 0) {
      this.#payloadOf = pending;
      return receiver.want(pending.into.length, pending.into);
    }
    receiver.want(SIMPLE_REPLY_BYTES);
    if (errno === NbdErr.OK) pending.resolve();
    else pending.reject(requestError(errno));
  }
}

function requestError(errno: number): Error {
  const name = nameOf(NbdErr, errno);
  // proto.md "Error values": an unexpected one is to be treated as EINVAL.
  const known = (name in NbdErr ? name : 'EINVAL') as BlockErrno;
  return nbdErrors.make('NBD_REQUEST_FAILED', {
    message: `the server answered with ${name}`,
    errno: known,
    fields: { errno: name },
  });
}

/** The errno of a failed request, for callers that match on it. */
export function nbdErrno(error: unknown): BlockErrno | null {
  return isOrionError(error) && error.code === 'NBD_REQUEST_FAILED' ? error.errno : null;
}

function commandFlags(flags: number): number {
  return (
    ((flags & WriteFlag.Fua) !== 0 ? CmdFlag.Fua : 0) |
    ((flags & WriteFlag.NoHole) !== 0 ? CmdFlag.NoHole : 0) |
    ((flags & WriteFlag.FastOnly) !== 0 ? CmdFlag.FastZero : 0)
  );
}
