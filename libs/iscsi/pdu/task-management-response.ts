import { At, type PduCodec, type PduHeader, putCommon, putU24, putU32, u24, u32 } from './bhs.ts';
import { Opcode, RESERVED_TAG, TmfResponse } from './opcodes.ts';

const AT_INFO = 8;

/** RFC 7143 §11.6. */
export interface TaskManagementResponse extends PduHeader {
  opcode: typeof Opcode.TaskManagementResponse;
  response: number;
  /** Additional Response Information, three bytes (RFC 7144 §6.4.1); 0 where there is none. */
  info?: number;
  itt: number;
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
}

export const taskManagementResponse = {
  opcode: Opcode.TaskManagementResponse,
  encode(pdu, into, at) {
    putCommon(into, at, Opcode.TaskManagementResponse, 0x80, pdu.dataSegmentLength);
    into[at + At.response] = pdu.response;
    putU24(into, at + AT_INFO, pdu.info ?? 0);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
  },
  decode(from, at) {
    return {
      opcode: Opcode.TaskManagementResponse,
      response: from[at + At.response]!,
      info: u24(from, at + AT_INFO),
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      itt: u32(from, at + At.itt),
      statSn: u32(from, at + At.statSn),
      expCmdSn: u32(from, at + At.expCmdSn),
      maxCmdSn: u32(from, at + At.maxCmdSn),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'a task management response needs a task tag (§11.6)';
    if (
      pdu.response > TmfResponse.FunctionSucceeded &&
      pdu.response !== TmfResponse.FunctionRejected
    ) {
      return 'a reserved task management response (§11.6.1)';
    }
    if (pdu.dataSegmentLength !== 0) return 'a task management response has no data (§11.6)';
    return null;
  },
} as const satisfies PduCodec<TaskManagementResponse>;
