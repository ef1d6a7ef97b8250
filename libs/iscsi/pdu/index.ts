import { assert } from '../../core/assert.ts';
import { type AsyncMessage, asyncMessage } from './async-message.ts';
import { At, BHS_BYTES, Bit, type PduCodec, padOf, u24 } from './bhs.ts';
import { type DataIn, dataIn } from './data-in.ts';
import { type DataOut, dataOut } from './data-out.ts';
import { type LoginRequest, loginRequest } from './login-request.ts';
import { type LoginResponse, loginResponse } from './login-response.ts';
import { type LogoutRequest, logoutRequest } from './logout-request.ts';
import { type LogoutResponse, logoutResponse } from './logout-response.ts';
import { type NopIn, nopIn } from './nop-in.ts';
import { type NopOut, nopOut } from './nop-out.ts';
import { Opcode } from './opcodes.ts';
import { type R2t, r2t } from './r2t.ts';
import { type Reject, reject } from './reject.ts';
import { type ScsiCommand, scsiCommand } from './scsi-command.ts';
import { type ScsiResponse, scsiResponse } from './scsi-response.ts';
import { type SnackRequest, snackRequest } from './snack-request.ts';
import { type TaskManagementRequest, taskManagementRequest } from './task-management-request.ts';
import { type TaskManagementResponse, taskManagementResponse } from './task-management-response.ts';
import { type TextRequest, textRequest } from './text-request.ts';
import { type TextResponse, textResponse } from './text-response.ts';

export type {
  AsyncMessage,
  DataIn,
  DataOut,
  LoginRequest,
  LoginResponse,
  LogoutRequest,
  LogoutResponse,
  NopIn,
  NopOut,
  R2t,
  Reject,
  ScsiCommand,
  ScsiResponse,
  SnackRequest,
  TaskManagementRequest,
  TaskManagementResponse,
  TextRequest,
  TextResponse,
};

/** What an initiator sends. */
export type RequestPdu =
  | NopOut
  | ScsiCommand
  | TaskManagementRequest
  | LoginRequest
  | TextRequest
  | DataOut
  | LogoutRequest
  | SnackRequest;

/** What a target sends. */
export type ResponsePdu =
  | NopIn
  | ScsiResponse
  | TaskManagementResponse
  | LoginResponse
  | TextResponse
  | DataIn
  | LogoutResponse
  | R2t
  | AsyncMessage
  | Reject;

export type Pdu = RequestPdu | ResponsePdu;

type CodecOf<O extends Opcode> = PduCodec<Extract<Pdu, { opcode: O }>>;

/** Every PDU type by opcode. */
export const codecs: { readonly [O in Opcode]: CodecOf<O> } = {
  [Opcode.NopOut]: nopOut,
  [Opcode.ScsiCommand]: scsiCommand,
  [Opcode.TaskManagementRequest]: taskManagementRequest,
  [Opcode.LoginRequest]: loginRequest,
  [Opcode.TextRequest]: textRequest,
  [Opcode.DataOut]: dataOut,
  [Opcode.LogoutRequest]: logoutRequest,
  [Opcode.SnackRequest]: snackRequest,
  [Opcode.NopIn]: nopIn,
  [Opcode.ScsiResponse]: scsiResponse,
  [Opcode.TaskManagementResponse]: taskManagementResponse,
  [Opcode.LoginResponse]: loginResponse,
  [Opcode.TextResponse]: textResponse,
  [Opcode.DataIn]: dataIn,
  [Opcode.LogoutResponse]: logoutResponse,
  [Opcode.R2t]: r2t,
  [Opcode.AsyncMessage]: asyncMessage,
  [Opcode.Reject]: reject,
};

/** The opcode of a header, without the immediate bit; not necessarily one that exists. */
export function opcodeOf(header: Buffer, at = 0): number {
  return header[at]! & Bit.opcodeMask;
}

export function isOpcode(value: number): value is Opcode {
  return Object.hasOwn(codecs, value);
}

/** Decodes a header; null when its opcode does not exist. */
export function decodeHeader(header: Buffer, at = 0): Pdu | null {
  const opcode = opcodeOf(header, at);
  return isOpcode(opcode) ? codecs[opcode].decode(header, at) : null;
}

/** The clause that a decoded PDU breaks, or null. */
export function invalidReason(pdu: Pdu): string | null {
  return (codecs[pdu.opcode] as PduCodec<Pdu>).invalidReason(pdu);
}

/** Writes the 48 bytes of the header at `at`. */
export function encodeHeader(pdu: Pdu, into: Buffer, at = 0): void {
  (codecs[pdu.opcode] as PduCodec<Pdu>).encode(pdu, into, at);
}

/** A whole PDU: header, data segment, padding. `dataSegmentLength` is taken from `data`. */
export function encodePdu(pdu: Pdu, data: Uint8Array = Buffer.alloc(0)): Buffer {
  assert(data.length < 1 << 24, 'a data segment has a 24-bit length');
  const into = Buffer.alloc(BHS_BYTES + data.length + padOf(data.length));
  encodeHeader({ ...pdu, dataSegmentLength: data.length }, into, 0);
  into.set(data, BHS_BYTES);
  return into;
}

/** The parts of a PDU without digests; `ahs` and `data` are views into the given bytes. */
export interface WholePdu {
  readonly pdu: Pdu;
  readonly ahs: Buffer;
  readonly data: Buffer;
  /** Bytes that the PDU takes, with padding. */
  readonly bytes: number;
}

/** Bytes of the PDU whose header starts at `at`, without digests. */
export function wholeBytes(header: Buffer, at = 0): number {
  const dataLength = u24(header, at + At.dataSegmentLength);
  return BHS_BYTES + header[at + At.totalAhsLength]! * 4 + dataLength + padOf(dataLength);
}

/** Decodes the PDU at the start of `bytes`: null when more bytes are needed, a text when there is no such PDU. */
export function decodePdu(bytes: Buffer): WholePdu | string | null {
  if (bytes.length < BHS_BYTES) return null;
  const pdu = decodeHeader(bytes, 0);
  if (pdu === null) return `no PDU has opcode 0x${opcodeOf(bytes).toString(16)} (§11.2.1.2)`;
  const total = wholeBytes(bytes);
  if (bytes.length < total) return null;
  const dataAt = BHS_BYTES + bytes[At.totalAhsLength]! * 4;
  const ahs = bytes.subarray(BHS_BYTES, dataAt);
  const data = bytes.subarray(dataAt, dataAt + pdu.dataSegmentLength);
  return { pdu, ahs, data, bytes: total };
}
