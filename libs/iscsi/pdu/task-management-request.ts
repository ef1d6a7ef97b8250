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
import { Opcode, RESERVED_TAG, TaskFunction } from './opcodes.ts';

const FUNCTION_MASK = 0x7f;
const AT_REF_CMD_SN = 32;

/** Abort, clear, reset, reassign (RFC 7143 §11.5). */
export interface TaskManagementRequest extends PduHeader {
  opcode: typeof Opcode.TaskManagementRequest;
  immediate: boolean;
  function: number;
  lun: Buffer;
  itt: number;
  /** Referenced Task Tag: the task that ABORT TASK or TASK REASSIGN is about, else 0xffffffff. */
  referencedTag: number;
  cmdSn: number;
  expStatSn: number;
  refCmdSn: number;
  expDataSn: number;
}

export const taskManagementRequest = {
  opcode: Opcode.TaskManagementRequest,
  encode(pdu, into, at) {
    const first = opcodeByte(Opcode.TaskManagementRequest, pdu.immediate);
    putCommon(into, at, first, 0x80 | (pdu.function & FUNCTION_MASK), pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.referencedTag);
    putU32(into, at + At.cmdSn, pdu.cmdSn);
    putU32(into, at + At.expStatSn, pdu.expStatSn);
    putU32(into, at + AT_REF_CMD_SN, pdu.refCmdSn);
    putU32(into, at + At.expDataSn, pdu.expDataSn);
  },
  decode(from, at) {
    return {
      opcode: Opcode.TaskManagementRequest,
      immediate: immediateOf(from, at),
      function: from[at + At.flags]! & FUNCTION_MASK,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      itt: u32(from, at + At.itt),
      referencedTag: u32(from, at + At.ttt),
      cmdSn: u32(from, at + At.cmdSn),
      expStatSn: u32(from, at + At.expStatSn),
      refCmdSn: u32(from, at + AT_REF_CMD_SN),
      expDataSn: u32(from, at + At.expDataSn),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'a task management request needs a task tag (§11.5)';
    if (pdu.function < TaskFunction.AbortTask || pdu.function > TaskFunction.QueryAsyncEvent) {
      return 'a reserved task management function (§11.5.1)';
    }
    if (pdu.dataSegmentLength !== 0) return 'a task management request has no data (§11.5)';
    return null;
  },
} as const satisfies PduCodec<TaskManagementRequest>;
