import {
  ClientFlag,
  EXPORT_NAME_PADDING_BYTES,
  EXPORT_NAME_REPLY_BYTES,
  GREETING_BYTES,
  HandshakeFlag,
  HandshakeMagic,
  NbdInfo,
  NbdOpt,
  NbdRep,
  nameOf,
  OPTION_REPLY_HEADER_BYTES,
  REP_ERROR_BIT,
} from './constants.ts';
import { nbdErrors } from './errors.ts';
import {
  type BlockSizes,
  decodeOptionReplyHeader,
  decodeServer,
  encodeInfoRequest,
  encodeOption,
  isInvalid,
} from './options.ts';

/** Longest option reply that a client takes. */
const REPLY_BYTES_MAX = 64 * 1024;

/** Replies to one option at most: a server cannot feed us for ever. */
const REPLIES_MAX = 100_000;

export interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

/** What a server says of an export. */
export interface NbdExportInfo {
  readonly sizeBytes: number;
  readonly flags: number;
  readonly name: string | null;
  readonly description: string | null;
  readonly blockSizes: BlockSizes | null;
}

/** The bytes that a client's handshake reads and writes. */
export interface HandshakeIo {
  /** The next `bytes` bytes, copied. Rejects when the connection ends first. */
  take(bytes: number): Promise<Buffer>;
  send(bytes: Buffer): void;
}

function protocolError(message: string): Error {
  return nbdErrors.make('NBD_PROTOCOL', { message, outcome: 'not-executed' });
}

/** The client's side of fixed newstyle negotiation (proto.md "Handshake"). */
export class ClientHandshake {
  readonly #io: HandshakeIo;
  #noZeroes = false;

  constructor(io: HandshakeIo) {
    this.#io = io;
  }

  /** Reads the greeting and answers with our flags. */
  async greet(): Promise<void> {
    const greeting = await this.#io.take(GREETING_BYTES);
    if (
      greeting.readBigUInt64BE(0) !== HandshakeMagic.Init ||
      greeting.readBigUInt64BE(8) !== HandshakeMagic.Option
    ) {
      throw protocolError('the server does not greet with the newstyle of NBD');
    }
    const flags = greeting.readUInt16BE(16);
    if ((flags & HandshakeFlag.FixedNewstyle) === 0) {
      throw protocolError('the server does not speak the fixed newstyle of NBD');
    }
    this.#noZeroes = (flags & HandshakeFlag.NoZeroes) !== 0;
    const answer = Buffer.alloc(4);
    answer.writeUInt32BE(ClientFlag.FixedNewstyle | (this.#noZeroes ? ClientFlag.NoZeroes : 0), 0);
    this.#io.send(answer);
  }

  /** Sends any option and collects its replies, the final one last. Error replies are returned, not thrown. */
  async option(option: number, data: Buffer): Promise<OptionReply[]> {
    this.#io.send(encodeOption(option, data));
    const replies: OptionReply[] = [];
    for (;;) {
      const header = decodeOptionReplyHeader(await this.#io.take(OPTION_REPLY_HEADER_BYTES), 0);
      if (header === null) throw protocolError('an option reply has a wrong magic');
      if (header.option !== option) {
        throw protocolError(`a reply to option ${header.option} came for option ${option}`);
      }
      if (header.length > REPLY_BYTES_MAX) throw protocolError('an option reply is too long');
      const body = header.length === 0 ? Buffer.alloc(0) : await this.#io.take(header.length);
      replies.push({ type: header.type, data: body });
      if (header.type === NbdRep.Ack || header.type >= REP_ERROR_BIT) return replies;
      if (replies.length >= REPLIES_MAX) throw protocolError('an option has no end of replies');
    }
  }

  async list(): Promise<{ name: string; description: string }[]> {
    const replies = await this.#accepted(NbdOpt.List, Buffer.alloc(0), 'LIST');
    return replies.map((reply) => {
      const server = decodeServer(reply.data);
      if (isInvalid(server)) throw protocolError(server.invalid);
      return { name: server.name, description: server.description };
    });
  }

  /** INFO or GO with everything asked for. After GO the transmission begins. */
  async info(
    option: typeof NbdOpt.Info | typeof NbdOpt.Go,
    name: string,
    infos: readonly number[] = [NbdInfo.Name, NbdInfo.Description, NbdInfo.BlockSize],
  ): Promise<NbdExportInfo> {
    const data = encodeInfoRequest({ name, infos });
    const replies = await this.#accepted(option, data, `export "${name}"`);
    return mergeInfos(replies);
  }

  /** The oldest way to choose an export: no errors, no block sizes. */
  async exportName(name: string): Promise<NbdExportInfo> {
    this.#io.send(encodeOption(NbdOpt.ExportName, Buffer.from(name, 'utf8')));
    const padding = this.#noZeroes ? 0 : EXPORT_NAME_PADDING_BYTES;
    const reply = await this.#io.take(EXPORT_NAME_REPLY_BYTES + padding);
    return {
      sizeBytes: safeSize(reply.readBigUInt64BE(0)),
      flags: reply.readUInt16BE(8),
      name: null,
      description: null,
      blockSizes: null,
    };
  }

  /** The replies before the final one; throws when that is an error. */
  async #accepted(option: NbdOpt, data: Buffer, what: string): Promise<OptionReply[]> {
    const replies = await this.option(option, data);
    const last = replies.pop()!;
    if (last.type === NbdRep.Ack) return replies;
    const text = last.data.length === 0 ? '' : `: ${last.data.toString('utf8')}`;
    throw nbdErrors.make('NBD_REFUSED', {
      message: `the server refused ${what} with ${nameOf(NbdRep, last.type)}${text}`,
      fields: { option: nameOf(NbdOpt, option), reply: nameOf(NbdRep, last.type) },
    });
  }
}

function safeSize(size: bigint): number {
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw protocolError(`an export of ${size} bytes`);
  return Number(size);
}

function mergeInfos(replies: readonly OptionReply[]): NbdExportInfo {
  let sizeBytes = -1;
  let flags = 0;
  let name: string | null = null;
  let description: string | null = null;
  let blockSizes: BlockSizes | null = null;
  for (const { type, data } of replies) {
    if (type !== NbdRep.Info || data.length < 2) continue;
    const info = data.readUInt16BE(0);
    if (info === NbdInfo.Export && data.length === 12) {
      sizeBytes = safeSize(data.readBigUInt64BE(2));
      flags = data.readUInt16BE(10);
    } else if (info === NbdInfo.Name) name = data.toString('utf8', 2);
    else if (info === NbdInfo.Description) description = data.toString('utf8', 2);
    else if (info === NbdInfo.BlockSize && data.length === 14) {
      blockSizes = {
        minimum: data.readUInt32BE(2),
        preferred: data.readUInt32BE(6),
        maximum: data.readUInt32BE(10),
      };
    }
  }
  if (sizeBytes < 0) throw protocolError('the server did not tell the size of the export');
  return { sizeBytes, flags, name, description, blockSizes };
}
