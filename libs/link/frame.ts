/**
 * Frame of the data streams between processes. 32 bytes, little endian, then `length` bytes of payload:
 *
 *   0 magic u16 | 2 version u8 | 3 type u8 | 4 flags u16 | 6 status u16 | 8 tag u32 | 12 handle u16 |
 *   14 incarnation u16 (low bits) | 16 epoch u32 | 20 offset u64 | 28 length u32
 *
 * For READ, TRIM, ZERO and EXTENTS `length` is that of the range and no payload follows; COMPARE_WRITE carries the
 * expected bytes, then the replacement, `length` bytes together. A REPLY carries what was read, extents or an error.
 * Where the two ends share memory the payload of READ and WRITE may stand there; then none follows, neither way.
 */
export const FRAME_BYTES = 32;
export const FRAME_MAGIC = 0x494f;
export const LINK_VERSION = 1;

export const FrameType = {
  Hello: 1,
  Read: 2,
  Write: 3,
  Flush: 4,
  Trim: 5,
  Zero: 6,
  CompareWrite: 7,
  Extents: 8,
  Probe: 9,
  /** Only tells the worker that this gateway wants to hear of the path. */
  Watch: 10,
  Reply: 16,
  /** Worker to gateway: the path behind `handle` is lost; payload says why. */
  Lost: 17,
  /** Worker to gateway: requests (offset) and bytes (length) that may be in flight from now on. */
  Credit: 18,
  Ping: 19,
  /** Worker to gateway: the logical unit behind `handle` reported a unit attention; payload names it. */
  Attention: 20,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

/** In `flags`: 24 bytes of trace context (trace id 16, span id 8) stand between header and payload. */
export const FLAG_TRACED = 0x8000;
export const TRACE_BYTES = 24;

/** In `flags` of READ and WRITE: the payload is in shared memory, from the page on whose number stands in `status`. */
export const FLAG_SHARED = 0x4000;

/** `status` of a REPLY. */
export const FrameStatus = { Ok: 0, Error: 1 } as const;

/** Payload of HELLO, LOST, error replies and extents: JSON of at most this many bytes. */
export const JSON_BYTES_MAX = 64 * 1024;

const TWO_32 = 2 ** 32;

export function writeFrame(
  into: Buffer,
  at: number,
  type: FrameType,
  flagsOrStatus: number,
  tag: number,
  handle: number,
  incarnation: number,
  epoch: number,
  offset: number,
  length: number,
): void {
  into.writeUInt16LE(FRAME_MAGIC, at);
  into[at + 2] = LINK_VERSION;
  into[at + 3] = type;
  into.writeUInt16LE(type === FrameType.Reply ? 0 : flagsOrStatus, at + 4);
  into.writeUInt16LE(type === FrameType.Reply ? flagsOrStatus : 0, at + 6);
  into.writeUInt32LE(tag, at + 8);
  into.writeUInt16LE(handle, at + 12);
  into.writeUInt16LE(incarnation & 0xffff, at + 14);
  into.writeUInt32LE(epoch, at + 16);
  into.writeUInt32LE(offset % TWO_32, at + 20);
  into.writeUInt32LE(Math.floor(offset / TWO_32), at + 24);
  into.writeUInt32LE(length, at + 28);
}

export function putFramePage(into: Buffer, at: number, page: number): void {
  into.writeUInt16LE(page, at + 6);
}

/** Field readers: in place, no object per frame. */
export const frameType = (b: Buffer, at: number): number => b[at + 3]!;
export const frameFlags = (b: Buffer, at: number): number => b.readUInt16LE(at + 4);
export const frameStatus = (b: Buffer, at: number): number => b.readUInt16LE(at + 6);
export const framePage = (b: Buffer, at: number): number => b.readUInt16LE(at + 6);
export const frameTag = (b: Buffer, at: number): number => b.readUInt32LE(at + 8);
export const frameHandle = (b: Buffer, at: number): number => b.readUInt16LE(at + 12);
export const frameIncarnation = (b: Buffer, at: number): number => b.readUInt16LE(at + 14);
export const frameEpoch = (b: Buffer, at: number): number => b.readUInt32LE(at + 16);
export const frameOffset = (b: Buffer, at: number): number =>
  b.readUInt32LE(at + 20) + b.readUInt32LE(at + 24) * TWO_32;
export const frameLength = (b: Buffer, at: number): number => b.readUInt32LE(at + 28);

/** Why a header cannot be one of ours; null when it can. */
export function invalidFrameReason(b: Buffer, at: number): string | null {
  const magic = b.readUInt16LE(at);
  if (magic !== FRAME_MAGIC) return `magic 0x${magic.toString(16)} is not that of a link frame`;
  if (b[at + 2] !== LINK_VERSION) return `version ${b[at + 2]} is not ${LINK_VERSION}`;
  if (!Number.isSafeInteger(frameOffset(b, at))) return 'offset is beyond 2^53';
  return null;
}
