import {
  At,
  lunOf,
  type PduCodec,
  type PduHeader,
  putCommon,
  putLun,
  putU16,
  putU32,
  u16,
  u24,
  u32,
} from './bhs.ts';
import { Opcode, RESERVED_TAG } from './opcodes.ts';

const AT_EVENT = 36;
const AT_VENDOR_CODE = 37;
const AT_PARAMETER1 = 38;
const AT_PARAMETER2 = 40;
const AT_PARAMETER3 = 42;

/** The target says something on its own account (RFC 7143 §11.9). */
export interface AsyncMessage extends PduHeader {
  opcode: typeof Opcode.AsyncMessage;
  lun: Buffer;
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
  event: number;
  vendorCode: number;
  parameter1: number;
  parameter2: number;
  parameter3: number;
}

export const asyncMessage = {
  opcode: Opcode.AsyncMessage,
  encode(pdu, into, at) {
    putCommon(into, at, Opcode.AsyncMessage, 0x80, pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, RESERVED_TAG);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
    into[at + AT_EVENT] = pdu.event;
    into[at + AT_VENDOR_CODE] = pdu.vendorCode;
    putU16(into, at + AT_PARAMETER1, pdu.parameter1);
    putU16(into, at + AT_PARAMETER2, pdu.parameter2);
    putU16(into, at + AT_PARAMETER3, pdu.parameter3);
  },
  decode(from, at) {
    return {
      opcode: Opcode.AsyncMessage,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      statSn: u32(from, at + At.statSn),
      expCmdSn: u32(from, at + At.expCmdSn),
      maxCmdSn: u32(from, at + At.maxCmdSn),
      event: from[at + AT_EVENT]!,
      vendorCode: from[at + AT_VENDOR_CODE]!,
      parameter1: u16(from, at + AT_PARAMETER1),
      parameter2: u16(from, at + AT_PARAMETER2),
      parameter3: u16(from, at + AT_PARAMETER3),
    };
  },
  invalidReason: () => null, // unknown events are logged, not refused (§11.9.1)
} as const satisfies PduCodec<AsyncMessage>;
