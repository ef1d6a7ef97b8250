import type { Opcode } from './opcodes.ts';

/**
 * The basic header segment: 48 bytes, big endian (RFC 7143 §11.2.1), and where its fields stand.
 * The hot path reads and writes fields in place at these offsets; the codecs beside use the same ones.
 */
export const BHS_BYTES = 48;

/** Every segment is padded to a multiple of this with zeroes (§11.1). */
export const PAD_TO = 4;

/** Offsets that mean the same in every PDU that has the field. */
export const At = {
  opcode: 0,
  flags: 1,
  totalAhsLength: 4,
  dataSegmentLength: 5,
  lun: 8,
  itt: 16,
  ttt: 20,
  cmdSn: 24,
  expStatSn: 28,
  statSn: 24,
  expCmdSn: 28,
  maxCmdSn: 32,
  /** SCSI Command. */
  edtl: 20,
  cdb: 32,
  /** SCSI Response. */
  response: 2,
  status: 3,
  expDataSn: 36,
  bidiResidual: 40,
  residual: 44,
  /** Data-Out and Data-In. */
  dataSn: 36,
  bufferOffset: 40,
  /** R2T. */
  r2tSn: 36,
  desiredLength: 44,
} as const;

/** Bits of byte 0 and byte 1. */
export const Bit = {
  immediate: 0x40,
  opcodeMask: 0x3f,
  final: 0x80,
  /** Text and login. */
  continue: 0x40,
  transit: 0x80,
  /** SCSI Command. */
  read: 0x40,
  write: 0x20,
  attributeMask: 0x07,
  /** Data-In. */
  acknowledge: 0x40,
  statusPresent: 0x01,
  /** SCSI Response and Data-In. */
  bidiOverflow: 0x10,
  bidiUnderflow: 0x08,
  overflow: 0x04,
  underflow: 0x02,
} as const;

/** What every PDU value carries. Decoded values own their memory, except where a field says otherwise. */
export interface PduHeader {
  /** Length of the data segment without its padding; the bytes themselves travel beside the value. */
  dataSegmentLength: number;
}

/** One PDU type: bytes to a value and back. Knows no socket, timer or logger. */
export interface PduCodec<T extends { opcode: Opcode } & PduHeader> {
  readonly opcode: T['opcode'];
  /** The text names of fields are RFC words. Writes all 48 bytes at `at`; reserved ones as zero. */
  encode(pdu: T, into: Buffer, at: number): void;
  /** Reads 48 bytes at `at`. Never throws: what is wrong with the value is `invalidReason`'s to say. */
  decode(from: Buffer, at: number): T;
  /** The clause that the value breaks, or null. */
  invalidReason(pdu: T): string | null;
}

export function u16(from: Uint8Array, at: number): number {
  return (from[at]! << 8) | from[at + 1]!;
}

export function u24(from: Uint8Array, at: number): number {
  return (from[at]! << 16) | (from[at + 1]! << 8) | from[at + 2]!;
}

export function u32(from: Uint8Array, at: number): number {
  return i32(from, at) >>> 0;
}

/** A 32-bit field as a signed number: stays a small integer, and serial arithmetic works on it (`sn.ts`). */
export function i32(from: Uint8Array, at: number): number {
  return (from[at]! << 24) | (from[at + 1]! << 16) | (from[at + 2]! << 8) | from[at + 3]!;
}

export function putU16(into: Uint8Array, at: number, value: number): void {
  into[at] = value >>> 8;
  into[at + 1] = value;
}

export function putU24(into: Uint8Array, at: number, value: number): void {
  into[at] = value >>> 16;
  into[at + 1] = value >>> 8;
  into[at + 2] = value;
}

export function putU32(into: Uint8Array, at: number, value: number): void {
  into[at] = value >>> 24;
  into[at + 1] = value >>> 16;
  into[at + 2] = value >>> 8;
  into[at + 3] = value;
}

/** Zeroes the header and writes what all PDUs share. */
export function putCommon(
  into: Buffer,
  at: number,
  opcodeByte: number,
  flags: number,
  dataSegmentLength: number,
): void {
  into.fill(0, at, at + BHS_BYTES);
  into[at] = opcodeByte;
  into[at + At.flags] = flags;
  putU24(into, at + At.dataSegmentLength, dataSegmentLength);
}

/** The 8 bytes of a LUN, as a copy. */
export function lunOf(from: Buffer, at: number): Buffer {
  return Buffer.from(from.subarray(at + At.lun, at + At.lun + 8));
}

export function putLun(into: Buffer, at: number, lun: Uint8Array): void {
  into.set(lun, at + At.lun);
}

export function padOf(length: number): number {
  return -length & (PAD_TO - 1);
}

export function immediateOf(from: Buffer, at: number): boolean {
  return (from[at]! & Bit.immediate) !== 0;
}

export function opcodeByte(opcode: Opcode, immediate: boolean): number {
  return immediate ? opcode | Bit.immediate : opcode;
}

/** The LUN of PDUs that address none. */
export const NO_LUN: Buffer = Buffer.alloc(8);
