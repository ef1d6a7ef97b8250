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

/** The answer to a ping, the target's own ping, or a window update (RFC 7143 §11.19). */
export interface NopIn extends PduHeader {
  opcode: typeof Opcode.NopIn;
  lun: Buffer;
  itt: number;
  ttt: number;
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
}

export const nopIn = {
  opcode: Opcode.NopIn,
  encode(pdu, into, at) {
    putCommon(into, at, Opcode.NopIn, 0x80, pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.ttt);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
  },
  decode(from, at) {
    return {
      opcode: Opcode.NopIn,
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
    if (pdu.itt !== RESERVED_TAG && pdu.ttt !== RESERVED_TAG) {
      return 'a NOP-In is an answer or a ping, not both (§11.19.1)';
    }
    if (pdu.itt === RESERVED_TAG && pdu.ttt === RESERVED_TAG && pdu.dataSegmentLength !== 0) {
      return 'a NOP-In that asks and answers nothing has no data (§11.19)';
    }
    return null;
  },
} as const satisfies PduCodec<NopIn>;
