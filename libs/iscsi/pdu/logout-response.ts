import {
  At,
  type PduCodec,
  type PduHeader,
  putCommon,
  putU16,
  putU32,
  u16,
  u24,
  u32,
} from './bhs.ts';
import { LogoutAnswer, Opcode, RESERVED_TAG } from './opcodes.ts';

const AT_TIME2WAIT = 40;
const AT_TIME2RETAIN = 42;

/** RFC 7143 §11.15. */
export interface LogoutResponse extends PduHeader {
  opcode: typeof Opcode.LogoutResponse;
  response: number;
  itt: number;
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
  /** Seconds. */
  time2Wait: number;
  time2Retain: number;
}

export const logoutResponse = {
  opcode: Opcode.LogoutResponse,
  encode(pdu, into, at) {
    putCommon(into, at, Opcode.LogoutResponse, 0x80, pdu.dataSegmentLength);
    into[at + At.response] = pdu.response;
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
    putU16(into, at + AT_TIME2WAIT, pdu.time2Wait);
    putU16(into, at + AT_TIME2RETAIN, pdu.time2Retain);
  },
  decode(from, at) {
    return {
      opcode: Opcode.LogoutResponse,
      response: from[at + At.response]!,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      itt: u32(from, at + At.itt),
      statSn: u32(from, at + At.statSn),
      expCmdSn: u32(from, at + At.expCmdSn),
      maxCmdSn: u32(from, at + At.maxCmdSn),
      time2Wait: u16(from, at + AT_TIME2WAIT),
      time2Retain: u16(from, at + AT_TIME2RETAIN),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'a logout response needs a task tag (§11.15)';
    if (pdu.response > LogoutAnswer.CleanupFailed) return 'a reserved response (§11.15.1)';
    return null;
  },
} as const satisfies PduCodec<LogoutResponse>;
