import {
  At,
  Bit,
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

/** Key=value text in full feature phase: SendTargets (RFC 7143 §11.10). */
export interface TextRequest extends PduHeader {
  opcode: typeof Opcode.TextRequest;
  immediate: boolean;
  final: boolean;
  continue: boolean;
  lun: Buffer;
  itt: number;
  ttt: number;
  cmdSn: number;
  expStatSn: number;
}

export const textRequest = {
  opcode: Opcode.TextRequest,
  encode(pdu, into, at) {
    const flags = (pdu.final ? Bit.final : 0) | (pdu.continue ? Bit.continue : 0);
    const first = opcodeByte(Opcode.TextRequest, pdu.immediate);
    putCommon(into, at, first, flags, pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.ttt);
    putU32(into, at + At.cmdSn, pdu.cmdSn);
    putU32(into, at + At.expStatSn, pdu.expStatSn);
  },
  decode(from, at) {
    const flags = from[at + At.flags]!;
    return {
      opcode: Opcode.TextRequest,
      immediate: immediateOf(from, at),
      final: (flags & Bit.final) !== 0,
      continue: (flags & Bit.continue) !== 0,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      itt: u32(from, at + At.itt),
      ttt: u32(from, at + At.ttt),
      cmdSn: u32(from, at + At.cmdSn),
      expStatSn: u32(from, at + At.expStatSn),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'a text request needs a task tag (§11.10)';
    if (pdu.continue && pdu.final) return 'C and F may not both be 1 (§11.10.2)';
    return null;
  },
} as const satisfies PduCodec<TextRequest>;
