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

/** Write data, unsolicited or asked for by an R2T (RFC 7143 §11.7). */
export interface DataOut extends PduHeader {
  opcode: typeof Opcode.DataOut;
  /** The last one of its sequence. */
  final: boolean;
  lun: Buffer;
  itt: number;
  ttt: number;
  expStatSn: number;
  dataSn: number;
  bufferOffset: number;
}

export const dataOut = {
  opcode: Opcode.DataOut,
  encode(pdu, into, at) {
    putCommon(into, at, Opcode.DataOut, pdu.final ? Bit.final : 0, pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.ttt);
    putU32(into, at + At.expStatSn, pdu.expStatSn);
    putU32(into, at + At.dataSn, pdu.dataSn);
    putU32(into, at + At.bufferOffset, pdu.bufferOffset);
  },
  decode(from, at) {
    return {
      opcode: Opcode.DataOut,
      final: (from[at + At.flags]! & Bit.final) !== 0,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      itt: u32(from, at + At.itt),
      ttt: u32(from, at + At.ttt),
      expStatSn: u32(from, at + At.expStatSn),
      dataSn: u32(from, at + At.dataSn),
      bufferOffset: u32(from, at + At.bufferOffset),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'Data-Out needs a task tag (§11.7)';
    return null;
  },
} as const satisfies PduCodec<DataOut>;
