import type { ErrorFields, OrionError } from '../core/errors.ts';
import type { ControlChannel } from './control-channel.ts';
import { ControlRequest } from './control-request.ts';
import { iscsiErrors } from './errors.ts';
import { NO_LUN } from './pdu/bhs.ts';
import { nameOf, Opcode, RESERVED_TAG, TaskFunction, TmfResponse } from './pdu/opcodes.ts';
import { taskManagementResponse } from './pdu/task-management-response.ts';

/** The level of §7.1.1 of RFC 7144 that has the functions from QUERY TASK on. */
const LEVEL_OF_QUERIES = 2;

export interface TmfOptions {
  readonly timeoutMs: number;
  /** ABORT TASK, QUERY TASK and TASK REASSIGN: the task that it is about. */
  readonly referencedTag?: number;
  /** ABORT TASK and QUERY TASK: the CmdSN of that task; left out for one that was sent as immediate (§11.5.5). */
  readonly refCmdSn?: number;
  /** TASK REASSIGN of a command that reads: the first DataSN that was not acknowledged (§11.5.6). */
  readonly expDataSn?: number;
}

export interface TmfAnswer {
  /** One of `TmfResponse`. */
  readonly response: number;
  /** Additional response information of a query (RFC 7144 §6.4.1); 0 for other functions. */
  readonly info: number;
}

interface FunctionRule {
  /** It addresses a logical unit (§11.5.3); else the LUN is reserved. */
  readonly lun?: true;
  /** It names a task (§11.5.4); else the tag is reserved. */
  readonly task?: true;
  /** It gives the CmdSN of that task (§11.5.5). */
  readonly refCmdSn?: true;
  /** It may end commands without an answer of their own (§4.2.3.2): those of the LUN, or all. */
  readonly ends?: 'unit' | 'target';
  readonly level2?: true;
}

/** What each function carries: RFC 7143 §11.5, RFC 7144 §6.3. */
export const functionRules: { readonly [F in TaskFunction]: FunctionRule } = {
  [TaskFunction.AbortTask]: { lun: true, task: true, refCmdSn: true },
  [TaskFunction.AbortTaskSet]: { lun: true, ends: 'unit' },
  [TaskFunction.ClearAca]: { lun: true },
  [TaskFunction.ClearTaskSet]: { lun: true, ends: 'unit' },
  [TaskFunction.LogicalUnitReset]: { lun: true, ends: 'unit' },
  [TaskFunction.TargetWarmReset]: { ends: 'target' },
  [TaskFunction.TargetColdReset]: { ends: 'target' },
  [TaskFunction.TaskReassign]: { task: true },
  [TaskFunction.QueryTask]: { lun: true, task: true, refCmdSn: true, level2: true },
  [TaskFunction.QueryTaskSet]: { lun: true, level2: true },
  [TaskFunction.ItNexusReset]: { ends: 'target', level2: true },
  [TaskFunction.QueryAsyncEvent]: { lun: true, level2: true },
};

/** Refuses a function that the session has no right to (RFC 7144 §6.3). */
export function checkFunction(fn: TaskFunction, protocolLevel: number): void {
  if (functionRules[fn].level2 !== true || protocolLevel >= LEVEL_OF_QUERIES) return;
  throw iscsiErrors.make('ISCSI_TMF_FAILED', {
    message: `${nameOf(TaskFunction, fn)} needs iSCSIProtocolLevel ${LEVEL_OF_QUERIES}, the target has ${protocolLevel}`,
    outcome: 'not-executed',
  });
}

/** Sends a task management function on one connection. Rejects when there is no answer in time. */
export async function manageTasks(
  channel: ControlChannel,
  fn: TaskFunction,
  lun: Buffer,
  options: TmfOptions,
): Promise<TmfAnswer> {
  const rule = functionRules[fn];
  const send = (itt: number): void => {
    const { cmdSn, expStatSn } = channel.numbers;
    channel.connection.send({
      opcode: Opcode.TaskManagementRequest,
      dataSegmentLength: 0,
      // §11.5.1: a must for TASK REASSIGN; and the others shall not wait for the command window either.
      immediate: true,
      function: fn,
      lun: rule.lun === true ? lun : NO_LUN,
      itt,
      referencedTag: rule.task === true ? (options.referencedTag ?? RESERVED_TAG) : RESERVED_TAG,
      cmdSn,
      expStatSn,
      // That of the request itself for a task that was immediate (§11.5.5).
      refCmdSn: rule.refCmdSn === true ? (options.refCmdSn ?? cmdSn) : 0,
      expDataSn: fn === TaskFunction.TaskReassign ? (options.expDataSn ?? 0) : 0,
    });
  };
  const late = (): OrionError =>
    iscsiErrors.make('ISCSI_TMF_FAILED', {
      message: `${nameOf(TaskFunction, fn)} was not answered within ${options.timeoutMs} ms`,
    });
  const request = new ControlRequest(Opcode.TaskManagementResponse, send);
  const { timeoutMs } = options;
  const urgent = rule.ends !== undefined;
  const { header } = await channel.ask(request, { timeoutMs, late, urgent });
  const { response, info } = taskManagementResponse.decode(header, 0);
  return { response, info };
}

/** The error of a function that the target did not carry out, with the name of what it answered (§11.6.1). */
export function tmfError(fn: TaskFunction, response: number, fields: ErrorFields): OrionError {
  const answer = nameOf(TmfResponse, response);
  return iscsiErrors.make('ISCSI_TMF_FAILED', {
    message: `the target answers ${nameOf(TaskFunction, fn)} with ${answer}`,
    fields: { ...fields, response },
  });
}
