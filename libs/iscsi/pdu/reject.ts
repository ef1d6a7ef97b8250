import {
  At,
  BHS_BYTES,
  type PduCodec,
  type PduHeader,
  putCommon,
  putU32,
  u24,
  u32,
} from './bhs.ts';
import { Opcode, RESERVED_TAG } from './opcodes.ts';

/** The target could not take a PDU, whose header is the data segment (RFC 7143 §11.17). */
export interface Reject extends PduHeader {
  opcode: typeof Opcode.Reject;
  reason: number;
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
  dataSn: number;
}

export const reject = {
  opcode: Opcode.Reject,
  encode(pdu, into, at) {
    putCommon(into, at, Opcode.Reject, 0x80, pdu.dataSegmentLength);
    into[at + At.response] = pdu.reason;
    putU32(into, at + At.itt, RESERVED_TAG);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
    putU32(into, at + At.dataSn, pdu.dataSn);
  },
  decode(from, at) {
    return {
      opcode: Opcode.Reject,
      reason: from[at + At.response]!,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      statSn: u32(from, at + At.statSn),
      expCmdSn: u32(from, at + At.expCmdSn),
      maxCmdSn: u32(from, at + At.maxCmdSn),
      dataSn: u32(from, at + At.dataSn),
    };
  },
  invalidReason(pdu) {
    if (pdu.dataSegmentLength < BHS_BYTES) return 'a Reject carries the bad header (§11.17)';
    return null;
  },
} as const satisfies PduCodec<Reject>;
