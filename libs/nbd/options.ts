import { isUtf8 } from 'node:buffer';
import {
  EXPORT_NAME_PADDING_BYTES,
  EXPORT_NAME_REPLY_BYTES,
  GREETING_BYTES,
  HandshakeMagic,
  NbdInfo,
  type NbdRep,
  OPTION_HEADER_BYTES,
  OPTION_REPLY_HEADER_BYTES,
  STRING_BYTES_MAX,
} from './constants.ts';

/** Codecs of the option haggling phase (proto.md "Handshake"). Bytes in, values out; no socket. */

/** Why a peer's bytes are not what they should be, for a message to that peer. */
export interface Invalid {
  readonly invalid: string;
}

export function isInvalid<T extends object>(value: T | Invalid): value is Invalid {
  return 'invalid' in value;
}

export interface OptionHeader {
  readonly option: number;
  readonly length: number;
}

/** Null when the magic is wrong: the stream cannot be trusted any more. */
export function decodeOptionHeader(bytes: Buffer, at: number): OptionHeader | null {
  if (bytes.readBigUInt64BE(at) !== HandshakeMagic.Option) return null;
  return { option: bytes.readUInt32BE(at + 8), length: bytes.readUInt32BE(at + 12) };
}

export function encodeOption(option: number, data: Buffer): Buffer {
  const bytes = Buffer.alloc(OPTION_HEADER_BYTES + data.length);
  bytes.writeBigUInt64BE(HandshakeMagic.Option, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.length, 12);
  data.copy(bytes, OPTION_HEADER_BYTES);
  return bytes;
}

/** A string of the wire, or why it is none (proto.md "Conventions": UTF-8, no NUL, at most 4096 bytes). */
export function decodeString(bytes: Buffer): { readonly text: string } | Invalid {
  if (bytes.length > STRING_BYTES_MAX) {
    return { invalid: `a string of ${bytes.length} bytes is longer than ${STRING_BYTES_MAX}` };
  }
  if (bytes.includes(0)) return { invalid: 'a string may not contain NUL' };
  if (!isUtf8(bytes)) return { invalid: 'a string must be UTF-8' };
  return { text: bytes.toString('utf8') };
}

export interface InfoRequest {
  readonly name: string;
  readonly infos: readonly number[];
}

/** Data of NBD_OPT_INFO and NBD_OPT_GO. */
export function decodeInfoRequest(data: Buffer): InfoRequest | Invalid {
  if (data.length < 6) return { invalid: 'the option data is too short for a name and a count' };
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 6) return { invalid: 'the name is longer than the option data' };
  const count = data.readUInt16BE(4 + nameBytes);
  if (data.length !== 6 + nameBytes + 2 * count) {
    return { invalid: 'the option length does not match the name and the information requests' };
  }
  const name = decodeString(data.subarray(4, 4 + nameBytes));
  if (isInvalid(name)) return name;
  const infos: number[] = [];
  for (let i = 0; i < count; i++) infos.push(data.readUInt16BE(6 + nameBytes + 2 * i));
  return { name: name.text, infos };
}

export function encodeInfoRequest(request: InfoRequest): Buffer {
  const name = Buffer.from(request.name, 'utf8');
  const bytes = Buffer.alloc(6 + name.length + 2 * request.infos.length);
  bytes.writeUInt32BE(name.length, 0);
  name.copy(bytes, 4);
  bytes.writeUInt16BE(request.infos.length, 4 + name.length);
  request.infos.forEach((info, i) => {
    bytes.writeUInt16BE(info, 6 + name.length + 2 * i);
  });
  return bytes;
}

export interface OptionReplyHeader {
  readonly option: number;
  readonly type: number;
  readonly length: number;
}

export function decodeOptionReplyHeader(bytes: Buffer, at: number): OptionReplyHeader | null {
  if (bytes.readBigUInt64BE(at) !== HandshakeMagic.OptionReply) return null;
  return {
    option: bytes.readUInt32BE(at + 8),
    type: bytes.readUInt32BE(at + 12),
    length: bytes.readUInt32BE(at + 16),
  };
}

const NO_DATA = Buffer.alloc(0);

export function encodeOptionReply(option: number, type: number, data: Buffer = NO_DATA): Buffer {
  const bytes = Buffer.alloc(OPTION_REPLY_HEADER_BYTES + data.length);
  bytes.writeBigUInt64BE(HandshakeMagic.OptionReply, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(data.length, 16);
  data.copy(bytes, OPTION_REPLY_HEADER_BYTES);
  return bytes;
}

/** Data of NBD_REP_SERVER. */
export function encodeServer(name: string, description: string): Buffer {
  const nameBytes = Buffer.from(name, 'utf8');
  const length = Buffer.alloc(4);
  length.writeUInt32BE(nameBytes.length, 0);
  return Buffer.concat([length, nameBytes, Buffer.from(description, 'utf8')]);
}

export function decodeServer(
  data: Buffer,
): { readonly name: string; readonly description: string } | Invalid {
  if (data.length < 4) return { invalid: 'a server reply is too short' };
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 4) return { invalid: 'a server reply is too short for its name' };
  return {
    name: data.toString('utf8', 4, 4 + nameBytes),
    description: data.toString('utf8', 4 + nameBytes),
  };
}

export interface BlockSizes {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximum: number;
}

/** Data of NBD_REP_INFO, by information type. */
export const encodeInfo = {
  export(sizeBytes: number, flags: number): Buffer {
    const bytes = Buffer.alloc(12);
    bytes.writeUInt16BE(NbdInfo.Export, 0);
    bytes.writeBigUInt64BE(BigInt(sizeBytes), 2);
    bytes.writeUInt16BE(flags, 10);
    return bytes;
  },
  text(type: typeof NbdInfo.Name | typeof NbdInfo.Description, text: string): Buffer {
    const bytes = Buffer.alloc(2 + Buffer.byteLength(text));
    bytes.writeUInt16BE(type, 0);
    bytes.write(text, 2, 'utf8');
    return bytes;
  },
  blockSizes(sizes: BlockSizes): Buffer {
    const bytes = Buffer.alloc(14);
    bytes.writeUInt16BE(NbdInfo.BlockSize, 0);
    bytes.writeUInt32BE(sizes.minimum, 2);
    bytes.writeUInt32BE(sizes.preferred, 6);
    bytes.writeUInt32BE(sizes.maximum, 10);
    return bytes;
  },
} as const;

/** What the server says to NBD_OPT_EXPORT_NAME: no reply header, padding unless both sides dropped it. */
export function encodeExportNameReply(
  sizeBytes: number,
  flags: number,
  withPadding: boolean,
): Buffer {
  const padding = withPadding ? EXPORT_NAME_PADDING_BYTES : 0;
  const bytes = Buffer.alloc(EXPORT_NAME_REPLY_BYTES + padding);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0);
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}

export function encodeGreeting(flags: number): Buffer {
  const bytes = Buffer.alloc(GREETING_BYTES);
  bytes.writeBigUInt64BE(HandshakeMagic.Init, 0);
  bytes.writeBigUInt64BE(HandshakeMagic.Option, 8);
  bytes.writeUInt16BE(flags, 16);
  return bytes;
}

/** An error reply with a text for people (proto.md "Option reply types"). */
export function encodeOptionError(option: number, type: NbdRep, text: string): Buffer {
  return encodeOptionReply(option, type, Buffer.from(text.slice(0, STRING_BYTES_MAX / 4), 'utf8'));
}
