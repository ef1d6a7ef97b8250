/**
 * Every number of the NBD protocol that we know, once. Values and names as in proto.md "Values"; names for logs are
 * derived with `nameOf`.
 */

/** "unknown (0x2f)" for what the table does not have. */
export function nameOf(table: Readonly<Record<string, number>>, value: number): string {
  for (const [name, known] of Object.entries(table)) if (known === value) return name;
  return `unknown (0x${value.toString(16)})`;
}

/** "A|B" for the bits that are set in `value`; bits without a name in hex. */
export function flagNames(table: Readonly<Record<string, number>>, value: number): string {
  const names: string[] = [];
  let rest = value;
  for (const [name, bit] of Object.entries(table)) {
    if ((value & bit) === 0) continue;
    names.push(name);
    rest &= ~bit;
  }
  if (rest !== 0) names.push(`0x${(rest >>> 0).toString(16)}`);
  return names.join('|');
}

/** Handshake magics, 64 bits each. */
export const HandshakeMagic = {
  Init: 0x4e42444d41474943n, // "NBDMAGIC"
  Option: 0x49484156454f5054n, // "IHAVEOPT"
  OptionReply: 0x3e889045565a9n,
} as const;

/** Transmission magics, 32 bits each. */
export const Magic = {
  Request: 0x25609513,
  SimpleReply: 0x67446698,
  StructuredReply: 0x668e33ef,
  ExtendedRequest: 0x21e41c71,
  ExtendedReply: 0x6e8a278c,
} as const;

export const HandshakeFlag = { FixedNewstyle: 1 << 0, NoZeroes: 1 << 1 } as const;

export const ClientFlag = { FixedNewstyle: 1 << 0, NoZeroes: 1 << 1 } as const;

export const NbdOpt = {
  ExportName: 1,
  Abort: 2,
  List: 3,
  PeekExport: 4,
  StartTls: 5,
  Info: 6,
  Go: 7,
  StructuredReply: 8,
  ListMetaContext: 9,
  SetMetaContext: 10,
  ExtendedHeaders: 11,
} as const;
export type NbdOpt = (typeof NbdOpt)[keyof typeof NbdOpt];

/** Set in every reply type that is an error. */
export const REP_ERROR_BIT = 0x80000000;

export const NbdRep = {
  Ack: 1,
  Server: 2,
  Info: 3,
  MetaContext: 4,
  ErrUnsup: REP_ERROR_BIT + 1,
  ErrPolicy: REP_ERROR_BIT + 2,
  ErrInvalid: REP_ERROR_BIT + 3,
  ErrPlatform: REP_ERROR_BIT + 4,
  ErrTlsReqd: REP_ERROR_BIT + 5,
  ErrUnknown: REP_ERROR_BIT + 6,
  ErrShutdown: REP_ERROR_BIT + 7,
  ErrBlockSizeReqd: REP_ERROR_BIT + 8,
  ErrTooBig: REP_ERROR_BIT + 9,
  ErrExtHeaderReqd: REP_ERROR_BIT + 10,
} as const;
export type NbdRep = (typeof NbdRep)[keyof typeof NbdRep];

export const NbdInfo = { Export: 0, Name: 1, Description: 2, BlockSize: 3 } as const;
export type NbdInfo = (typeof NbdInfo)[keyof typeof NbdInfo];

export const TransmissionFlag = {
  HasFlags: 1 << 0,
  ReadOnly: 1 << 1,
  SendFlush: 1 << 2,
  SendFua: 1 << 3,
  Rotational: 1 << 4,
  SendTrim: 1 << 5,
  SendWriteZeroes: 1 << 6,
  SendDf: 1 << 7,
  CanMultiConn: 1 << 8,
  SendResize: 1 << 9,
  SendCache: 1 << 10,
  SendFastZero: 1 << 11,
  BlockStatusPayload: 1 << 12,
} as const;

export const NbdCmd = {
  Read: 0,
  Write: 1,
  Disc: 2,
  Flush: 3,
  Trim: 4,
  Cache: 5,
  WriteZeroes: 6,
  BlockStatus: 7,
  Resize: 8,
} as const;
export type NbdCmd = (typeof NbdCmd)[keyof typeof NbdCmd];

export const CmdFlag = {
  Fua: 1 << 0,
  NoHole: 1 << 1,
  Df: 1 << 2,
  ReqOne: 1 << 3,
  FastZero: 1 << 4,
  PayloadLen: 1 << 5,
} as const;

/** Error values of a reply; the keys are those of `BlockErrno`. */
export const NbdErr = {
  OK: 0,
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;
export type NbdErr = (typeof NbdErr)[keyof typeof NbdErr];

/** Fixed lengths of messages. */
export const GREETING_BYTES = 18;
export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
export const EXPORT_NAME_REPLY_BYTES = 10;
export const EXPORT_NAME_PADDING_BYTES = 124;
export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;

/** Longest string on the wire (proto.md "Conventions"). */
export const STRING_BYTES_MAX = 4096;

/** Largest minimum block size that may be advertised (proto.md "Size constraints"). */
export const MIN_BLOCK_BYTES_MAX = 65536;

/** Port of the IANA. */
export const NBD_PORT = 10809;
