import { At, Bit, type PduCodec, type PduHeader, putCommon, putU32, u24, u32 } from './bhs.ts';
import { Opcode, RESERVED_TAG, ServiceResponse } from './opcodes.ts';

/** The end of a SCSI command; its data segment is a 2-byte SenseLength, sense, response data (RFC 7143 §11.4). */
export interface ScsiResponse extends PduHeader {
  opcode: typeof Opcode.ScsiResponse;
  bidiOverflow: boolean;
  bidiUnderflow: boolean;
  overflow: boolean;
  underflow: boolean;
  response: number;
  status: number;
  itt: number;
  snackTag: number;
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
  expDataSn: number;
  bidiResidual: number;
  residual: number;
}

export const scsiResponse = {
  opcode: Opcode.ScsiResponse,
  encode(pdu, into, at) {
    const flags =
      0x80 |
      (pdu.bidiOverflow ? Bit.bidiOverflow : 0) |
      (pdu.bidiUnderflow ? Bit.bidiUnderflow : 0) |
      (pdu.overflow ? Bit.overflow : 0) |
      (pdu.underflow ? Bit.underflow : 0);
    putCommon(into, at, Opcode.ScsiResponse, flags, pdu.dataSegmentLength);
    into[at + At.response] = pdu.response;
    into[at + At.status] = pdu.status;
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.snackTag);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
    putU32(into, at + At.expDataSn, pdu.expDataSn);
    putU32(into, at + At.bidiResidual, pdu.bidiResidual);
    putU32(into, at + At.residual, pdu.residual);
  },
  decode(from, at) {
    const flags = from[at + At.flags]!;
    return {
      opcode: Opcode.ScsiResponse,
      bidiOverflow: (flags & Bit.bidiOverflow) !== 0,
      bidiUnderflow: (flags & Bit.bidiUnderflow) !== 0,
      overflow: (flags & Bit.overflow) !== 0,
      underflow: (flags & Bit.underflow) !== 0,
      response: from[at + At.response]!,
      status: from[at + At.status]!,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      itt: u32(from, at + At.itt),
      snackTag: u32(from, at + At.ttt),
      statSn: u32(from, at + At.statSn),
      expCmdSn: u32(from, at + At.expCmdSn),
      maxCmdSn: u32(from, at + At.maxCmdSn),
      expDataSn: u32(from, at + At.expDataSn),
      bidiResidual: u32(from, at + At.bidiResidual),
      residual: u32(from, at + At.residual),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'a response needs a task tag (§11.4)';
    if (pdu.overflow && pdu.underflow) return 'O and U may not both be 1 (§11.4.1)';
    if (pdu.bidiOverflow && pdu.bidiUnderflow) return 'o and u may not both be 1 (§11.4.1)';
    if (pdu.response > ServiceResponse.TargetFailure && pdu.response < 0x80) {
      return 'a reserved response code (§11.4.3)';
    }
    return null;
  },
} as const satisfies PduCodec<ScsiResponse>;
