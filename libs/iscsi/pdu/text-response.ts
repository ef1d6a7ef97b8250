import {
  At,
  Bit,
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

/** RFC 7143 §11.11. */
export interface TextResponse extends PduHeader {
  opcode: typeof Opcode.TextResponse;
  final: boolean;
  continue: boolean;
  lun: Buffer;
  itt: number;
  ttt: number;
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
}

export const textResponse = {
  opcode: Opcode.TextResponse,
  encode(pdu, into, at) {
    const flags = (pdu.final ? Bit.final : 0) | (pdu.continue ? Bit.continue : 0);
    putCommon(into, at, Opcode.TextResponse, flags, pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.ttt);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
  },
  decode(from, at) {
    const flags = from[at + At.flags]!;
    return {
      opcode: Opcode.TextResponse,
      final: (flags & Bit.final) !== 0,
      continue: (flags & Bit.continue) !== 0,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      itt: u32(from, at + At.itt),
      ttt: u32(from, at + At.ttt),
      statSn: u32(from, at + At.statSn),
      expCmdSn: u32(from, at + At.expCmdSn),
      maxCmdSn: u32(from, at + At.maxCmdSn),
    };
  },
  invalidReason(pdu) {
    if (pdu.continue && pdu.final) return 'C and F may not both be 1 (§11.11.2)';
    // A target transfer tag in the last one is the target's mistake, and to be ignored (§11.10.4).
    if (!pdu.final && pdu.ttt === RESERVED_TAG) {
      return 'a text response that goes on needs a target transfer tag (§11.11.4)';
    }
    return null;
  },
} as const satisfies PduCodec<TextResponse>;
