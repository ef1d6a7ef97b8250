import { Opcode, RESERVED_TAG, TaskFunction, TmfResponse } from '../iscsi/pdu/opcodes.ts';
import { snDiff } from '../iscsi/pdu/sn.ts';
import type { TaskManagementRequest } from '../iscsi/pdu/task-management-request.ts';
import { decodeLun } from './commands/unit-info.ts';
import type { Connection } from './connection.ts';
import { reassign } from './recovery.ts';
import { Sense } from './scsi-codes.ts';
import type { Session } from './session.ts';
import type { Task } from './task.ts';

/** Carries out a task management function and answers it when its tasks are over (§11.5, §11.6). */
export function manageTasks(
  connection: Connection,
  session: Session,
  request: TaskManagementRequest,
): void {
  const answer = (response: TmfResponse): void => {
    if (connection.over) return;
    const body = { opcode: Opcode.TaskManagementResponse, response, itt: request.itt } as const;
    connection.sender.send(body, session, true);
  };
  const { engine } = connection;
  const scripted = engine.faults.onTaskFunction(connection, request.function);
  if (scripted === 'silence') return;
  if (scripted !== null) return answer(scripted as TmfResponse);
  const lun = decodeLun(request.lun, 0);
  const isKnownLun = engine.device.units.has(lun);
  // §11.5.1: tasks of the same session that come after the request are not its business.
  const isBefore = (task: Task): boolean =>
    task.session !== session || snDiff(task.cmdSn, request.cmdSn) < 0 || task.immediate;
  const tasksOn = (match: (task: Task) => boolean): Task[] =>
    [...engine.tasks].filter((task) => match(task) && isBefore(task));
  const complete = (): void => answer(TmfResponse.FunctionComplete);

  switch (request.function) {
    case TaskFunction.AbortTask: {
      const task = session.tasks.get(request.referencedTag);
      if (task === undefined || request.referencedTag === RESERVED_TAG) {
        return answer(TmfResponse.TaskDoesNotExist);
      }
      return finishAll(connection, [task], false, complete);
    }
    case TaskFunction.AbortTaskSet:
      if (!isKnownLun) return answer(TmfResponse.LunDoesNotExist);
      return finishAll(
        connection,
        tasksOn((task) => task.lun === lun && task.session === session),
        true,
        complete,
      );
    case TaskFunction.ClearTaskSet: {
      if (!isKnownLun) return answer(TmfResponse.LunDoesNotExist);
      const tasks = tasksOn((task) => task.lun === lun);
      for (const nexus of new Set(tasks.map((task) => task.nexus))) {
        if (nexus !== session.nexus) nexus.attend(lun, Sense.commandsCleared);
      }
      return finishAll(connection, tasks, true, complete);
    }
    case TaskFunction.LogicalUnitReset:
      if (!isKnownLun) return answer(TmfResponse.LunDoesNotExist);
      return finishAll(
        connection,
        [...engine.tasks].filter((task) => task.lun === lun),
        false,
        () => {
          engine.attendAll(lun, Sense.deviceReset);
          complete();
        },
      );
    case TaskFunction.TargetWarmReset:
      return finishAll(connection, [...engine.tasks], false, () => {
        for (const each of engine.device.luns) engine.attendAll(each, Sense.busReset);
        complete();
      });
    case TaskFunction.TargetColdReset:
      // §11.5.1: a power-on event; the answer may not get through.
      return engine.powerOn();
    case TaskFunction.TaskReassign:
      return reassign(connection, session, request, answer);
    default:
      return answer(TmfResponse.FunctionNotSupported);
  }
}

/** Ends the tasks, and calls `done` when the last is over: aborted, or executed where the target waits for that. */
function finishAll(
  connection: Connection,
  tasks: readonly Task[],
  waitForBursts: boolean,
  done: () => void,
): void {
  const { engine } = connection;
  let left = 1;
  const oneEnded = (): void => {
    left -= 1;
    if (left === 0) done();
  };
  for (const task of tasks) {
    if (task.state === 'ended') continue;
    left += 1;
    task.whenEnded(oneEnded);
    if (task.state === 'running') {
      if (engine.abortsOnReset) engine.abort(task);
      continue;
    }
    // §11.5.1: ABORT TASK SET and CLEAR TASK SET wait for the answers to the R2Ts that are out.
    if (waitForBursts && task.bursts.length > 0 && task.connection !== null) task.aborting = true;
    else engine.abort(task);
  }
  oneEnded();
}
