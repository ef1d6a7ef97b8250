import {
  At,
  immediateOf,
  opcodeByte,
  type PduCodec,
  type PduHeader,
  putCommon,
  putU16,
  putU32,
  u16,
  u24,
  u32,
} from './bhs.ts';
import { LogoutReason, Opcode, RESERVED_TAG } from './opcodes.ts';

const REASON_MASK = 0x7f;
const AT_CID = 20;

/** RFC 7143 §11.14. */
export interface LogoutRequest extends PduHeader {
  opcode: typeof Opcode.LogoutRequest;
  immediate: boolean;
  reason: number;
  itt: number;
  /** Which connection; for a reason other than closing the session. */
  cid: number;
  cmdSn: number;
  expStatSn: number;
}

export const logoutRequest = {
  opcode: Opcode.LogoutRequest,
  encode(pdu, into, at) {
    const first = opcodeByte(Opcode.LogoutRequest, pdu.immediate);
    putCommon(into, at, first, 0x80 | (pdu.reason & REASON_MASK), pdu.dataSegmentLength);
    putU32(into, at + At.itt, pdu.itt);
    putU16(into, at + AT_CID, pdu.cid);
    putU32(into, at + At.cmdSn, pdu.cmdSn);
    putU32(into, at + At.expStatSn, pdu.expStatSn);
  },
  decode(from, at) {
    return {
      opcode: Opcode.LogoutRequest,
      immediate: immediateOf(from, at),
      reason: from[at + At.flags]! & REASON_MASK,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      itt: u32(from, at + At.itt),
      cid: u16(from, at + AT_CID),
      cmdSn: u32(from, at + At.cmdSn),
      expStatSn: u32(from, at + At.expStatSn),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'a logout needs a task tag (§11.14)';
    if (pdu.reason > LogoutReason.RemoveForRecovery) return 'a reserved reason (§11.14.1)';
    if (pdu.dataSegmentLength !== 0) return 'a logout has no data (§11.14)';
    return null;
  },
} as const satisfies PduCodec<LogoutRequest>;
