import { expect } from 'vitest';
import type { Address, ByteStream, StreamSink } from '../../wire/network.ts';
import { nodeNetwork } from '../../wire/node-network.ts';
import {
  GREETING_BYTES,
  Magic,
  NbdCmd,
  NbdInfo,
  NbdOpt,
  NbdRep,
  OPTION_REPLY_HEADER_BYTES,
  REP_ERROR_BIT,
  REQUEST_BYTES,
  SIMPLE_REPLY_BYTES,
} from '../constants.ts';
import { decodeOptionReplyHeader, encodeInfoRequest, encodeOption } from '../options.ts';

export interface RawReply {
  readonly type: number;
  readonly data: Buffer;
}

export interface RawRequest {
  readonly command: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number;
  readonly cookie?: bigint;
  readonly payload?: Buffer;
  readonly magic?: number;
}

export function rawRequest(request: RawRequest): Buffer {
  const header = Buffer.alloc(REQUEST_BYTES);
  header.writeUInt32BE(request.magic ?? Magic.Request, 0);
  header.writeUInt16BE(request.flags ?? 0, 4);
  header.writeUInt16BE(request.command, 6);
  header.writeBigUInt64BE(request.cookie ?? 1n, 8);
  header.writeBigUInt64BE(BigInt(request.offset ?? 0), 16);
  header.writeUInt32BE(request.length ?? request.payload?.length ?? 0, 24);
  return request.payload === undefined ? header : Buffer.concat([header, request.payload]);
}

/** A client that sends whatever bytes a test likes, and reads whatever comes back. */
export class RawPeer implements StreamSink {
  #chunks: Buffer[] = [];
  #have = 0;
  #waiter: { bytes: number; resolve(b: Buffer): void; reject(e: Error): void } | null = null;
  #onClosed: () => void = () => {};
  readonly #scratch = Buffer.alloc(64 * 1024);
  stream!: ByteStream;
  isClosed = false;
  /** Resolves when the server has closed, in whatever way. */
  readonly gone: Promise<void> = new Promise((resolve) => {
    this.#onClosed = resolve;
  });

  static async connect(address: Address): Promise<RawPeer> {
    const peer = new RawPeer();
    peer.stream = await nodeNetwork.connect(address, peer, { timeoutMs: 10_000 });
    return peer;
  }

  buffer(): Buffer {
    return this.#scratch;
  }

  data(chunk: Buffer, length: number): void {
    this.#chunks.push(Buffer.from(chunk.subarray(0, length)));
    this.#have += length;
    this.#serve();
  }

  closed(): void {
    this.isClosed = true;
    this.#waiter?.reject(new Error(`closed with ${this.#have} bytes unread`));
    this.#onClosed();
  }

  /** Bytes that arrived and were not taken. */
  get unread(): number {
    return this.#have;
  }

  take(bytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#waiter = { bytes, resolve, reject };
      this.#serve();
      if (this.isClosed) this.#waiter?.reject(new Error(`closed with ${this.#have} bytes unread`));
    });
  }

  #serve(): void {
    const waiter = this.#waiter;
    if (waiter === null || this.#have < waiter.bytes) return;
    this.#waiter = null;
    const first = this.#chunks[0];
    const whole = first !== undefined && first.length >= waiter.bytes;
    const all = whole ? first : Buffer.concat(this.#chunks);
    const rest = all.subarray(waiter.bytes);
    if (whole) this.#chunks[0] = rest;
    else this.#chunks = [rest];
    this.#have -= waiter.bytes;
    waiter.resolve(all.subarray(0, waiter.bytes));
  }

  send(...bytes: Buffer[]): void {
    this.stream.writev(bytes, () => {});
  }

  // ---- handshake

  /** Reads the greeting and answers with client flags. */
  async greet(clientFlags = 3): Promise<Buffer> {
    const greeting = await this.take(GREETING_BYTES);
    const flags = Buffer.alloc(4);
    flags.writeUInt32BE(clientFlags, 0);
    this.send(flags);
    return greeting;
  }

  /** All replies to the option that was sent last, up to the final one. */
  async replies(option: number): Promise<RawReply[]> {
    const found: RawReply[] = [];
    for (;;) {
      const header = decodeOptionReplyHeader(await this.take(OPTION_REPLY_HEADER_BYTES), 0);
      expect(header, 'magic of an option reply').not.toBeNull();
      expect(header!.option).toBe(option);
      const data = header!.length > 0 ? await this.take(header!.length) : Buffer.alloc(0);
      found.push({ type: header!.type, data });
      if (header!.type === NbdRep.Ack || header!.type >= REP_ERROR_BIT) return found;
    }
  }

  option(option: number, data: Buffer = Buffer.alloc(0)): Promise<RawReply[]> {
    this.send(encodeOption(option, data));
    return this.replies(option);
  }

  /** Type of the only, or last, reply. */
  async verdict(option: number, data?: Buffer): Promise<number> {
    return (await this.option(option, data)).at(-1)!.type;
  }

  info(option: number, name: string, infos: readonly number[] = []): Promise<RawReply[]> {
    return this.option(option, encodeInfoRequest({ name, infos }));
  }

  /** The stream is still in step: a LIST is answered as such. */
  async expectInStep(): Promise<void> {
    expect((await this.option(NbdOpt.List)).at(-1)!.type).toBe(NbdRep.Ack);
  }

  /** Straight into transmission, without negotiated block sizes unless `sizes`. Gives the transmission flags. */
  async go(name: string, sizes = false): Promise<number> {
    await this.greet();
    const replies = await this.info(NbdOpt.Go, name, sizes ? [NbdInfo.BlockSize] : []);
    expect(replies.at(-1)!.type).toBe(NbdRep.Ack);
    const info = replies.find(({ data }) => data.length === 12 && data.readUInt16BE(0) === 0);
    return info!.data.readUInt16BE(10);
  }

  // ---- transmission

  /** Sends a request and reads its simple reply; gives the error number. The payload of a READ is left. */
  async request(request: RawRequest): Promise<number> {
    this.send(rawRequest(request));
    const { error, cookie } = await this.reply();
    expect(cookie).toBe(request.cookie ?? 1n);
    return error;
  }

  async reply(): Promise<{ error: number; cookie: bigint }> {
    const header = await this.take(SIMPLE_REPLY_BYTES);
    expect(header.readUInt32BE(0)).toBe(Magic.SimpleReply);
    return { error: header.readUInt32BE(4), cookie: header.readBigUInt64BE(8) };
  }

  async read(offset: number, length: number): Promise<Buffer> {
    expect(await this.request({ command: NbdCmd.Read, offset, length })).toBe(0);
    return this.take(length);
  }

  /** A read of the first block works. */
  async expectAlive(): Promise<void> {
    await this.read(0, 512);
    expect(this.unread).toBe(0);
  }

  /** Closes without another word. */
  leave(): void {
    this.stream.destroy();
  }
}
