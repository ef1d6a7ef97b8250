import {
  At,
  immediateOf,
  lunOf,
  opcodeByte,
  type PduCodec,
  type PduHeader,
  putCommon,
  putLun,
  putU32,
  u24,
  u32,
} from './bhs.ts';
import { Opcode, RESERVED_TAG } from './opcodes.ts';

/** A ping, or the answer to the target's ping (RFC 7143 §11.18). */
export interface NopOut extends PduHeader {
  opcode: typeof Opcode.NopOut;
  immediate: boolean;
  lun: Buffer;
  itt: number;
  ttt: number;
  cmdSn: number;
  expStatSn: number;
}

export const nopOut = {
  opcode: Opcode.NopOut,
  encode(pdu, into, at) {
    putCommon(into, at, opcodeByte(Opcode.NopOut, pdu.immediate), 0x80, pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.ttt);
    putU32(into, at + At.cmdSn, pdu.cmdSn);
    putU32(into, at + At.expStatSn, pdu.expStatSn);
  },
  decode(from, at) {
    return {
      opcode: Opcode.NopOut,
      immediate: immediateOf(from, at),
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      itt: u32(from, at + At.itt),
      ttt: u32(from, at + At.ttt),
      cmdSn: u32(from, at + At.cmdSn),
      expStatSn: u32(from, at + At.expStatSn),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG && !pdu.immediate) {
      return 'a NOP-Out without a task tag must be immediate (§11.18.1)';
    }
    return null;
  },
} as const satisfies PduCodec<NopOut>;
