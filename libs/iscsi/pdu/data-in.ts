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

/** Read data, the last of it maybe with the status (RFC 7143 §11.7). */
export interface DataIn extends PduHeader {
  opcode: typeof Opcode.DataIn;
  final: boolean;
  acknowledge: boolean;
  overflow: boolean;
  underflow: boolean;
  statusPresent: boolean;
  status: number;
  lun: Buffer;
  itt: number;
  ttt: number;
  /** Means something with `statusPresent` only. */
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
  dataSn: number;
  bufferOffset: number;
  residual: number;
}

export const dataIn = {
  opcode: Opcode.DataIn,
  encode(pdu, into, at) {
    const flags =
      (pdu.final ? Bit.final : 0) |
      (pdu.acknowledge ? Bit.acknowledge : 0) |
      (pdu.overflow ? Bit.overflow : 0) |
      (pdu.underflow ? Bit.underflow : 0) |
      (pdu.statusPresent ? Bit.statusPresent : 0);
    putCommon(into, at, Opcode.DataIn, flags, pdu.dataSegmentLength);
    into[at + At.status] = pdu.status;
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.ttt);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
    putU32(into, at + At.dataSn, pdu.dataSn);
    putU32(into, at + At.bufferOffset, pdu.bufferOffset);
    putU32(into, at + At.residual, pdu.residual);
  },
  decode(from, at) {
    const flags = from[at + At.flags]!;
    return {
      opcode: Opcode.DataIn,
      final: (flags & Bit.final) !== 0,
      acknowledge: (flags & Bit.acknowledge) !== 0,
      overflow: (flags & Bit.overflow) !== 0,
      underflow: (flags & Bit.underflow) !== 0,
      statusPresent: (flags & Bit.statusPresent) !== 0,
      status: from[at + At.status]!,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      itt: u32(from, at + At.itt),
      ttt: u32(from, at + At.ttt),
      statSn: u32(from, at + At.statSn),
      expCmdSn: u32(from, at + At.expCmdSn),
      maxCmdSn: u32(from, at + At.maxCmdSn),
      dataSn: u32(from, at + At.dataSn),
      bufferOffset: u32(from, at + At.bufferOffset),
      residual: u32(from, at + At.residual),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'Data-In needs a task tag (§11.7)';
    if (pdu.statusPresent && !pdu.final) return 'S without F (§11.7.3)';
    if (pdu.overflow && pdu.underflow) return 'O and U may not both be 1 (§11.4.1)';
    if ((pdu.overflow || pdu.underflow) && !pdu.statusPresent) {
      return 'a residual without a status (§11.7.3)';
    }
    return null;
  },
} as const satisfies PduCodec<DataIn>;
