import {
  At,
  lunOf,
  type PduCodec,
  type PduHeader,
  putCommon,
  putLun,
  putU32,
  u24,
  u32,
} from './bhs.ts';
import { Opcode, RESERVED_TAG } from './opcodes.ts';

/** Ready To Transfer: the target asks for a part of the write data (RFC 7143 §11.8). */
export interface R2t extends PduHeader {
  opcode: typeof Opcode.R2t;
  lun: Buffer;
  itt: number;
  ttt: number;
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
  r2tSn: number;
  bufferOffset: number;
  desiredLength: number;
}

export const r2t = {
  opcode: Opcode.R2t,
  encode(pdu, into, at) {
    putCommon(into, at, Opcode.R2t, 0x80, pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.ttt);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
    putU32(into, at + At.r2tSn, pdu.r2tSn);
    putU32(into, at + At.bufferOffset, pdu.bufferOffset);
    putU32(into, at + At.desiredLength, pdu.desiredLength);
  },
  decode(from, at) {
    return {
      opcode: Opcode.R2t,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      itt: u32(from, at + At.itt),
      ttt: u32(from, at + At.ttt),
      statSn: u32(from, at + At.statSn),
      expCmdSn: u32(from, at + At.expCmdSn),
      maxCmdSn: u32(from, at + At.maxCmdSn),
      r2tSn: u32(from, at + At.r2tSn),
      bufferOffset: u32(from, at + At.bufferOffset),
      desiredLength: u32(from, at + At.desiredLength),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'an R2T needs a task tag (§11.8)';
    if (pdu.ttt === RESERVED_TAG) return 'an R2T needs a target transfer tag (§11.8.5)';
    if (pdu.desiredLength === 0) return 'an R2T asks for at least one byte (§11.8.4)';
    if (pdu.dataSegmentLength !== 0) return 'an R2T has no data (§11.8)';
    return null;
  },
} as const satisfies PduCodec<R2t>;
