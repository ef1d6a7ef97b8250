import { sleep } from '../core/clock.ts';
import type { OrionError } from '../core/errors.ts';
import { isWaitingForConnection } from './command-time.ts';
import { iscsiErrors } from './errors.ts';
import { NO_LUN, putU32 } from './pdu/bhs.ts';
import { TaskFunction, TmfResponse } from './pdu/opcodes.ts';
import { bytesSent, ResetMark } from './reset-mark.ts';
import type { SessionControl } from './session-control.ts';
import { commandTimeout } from './session-errors.ts';
import type { Task } from './task-table.ts';

/** After "task does not exist" the answer to the task may just be on its way; it has this long to come. */
const RACE_MS = 200;

/** Times that a command goes on which the target says it does not know, and asks for data of. */
const SPARED_MAX = 16;

/**
 * What is done about a command that makes no progress: ABORT TASK, then LOGICAL UNIT RESET, then TARGET WARM RESET, each
 * where its timeout allows it, and in the end the session is given up. The command counts as terminated only after an answer
 * that the RFC has mean that it cannot execute any more; then its memory is free as soon as no socket holds it (I4 of
 * failover.md). Without such an answer its memory stays, and the outcome is unknown until somebody fences the session.
 */
export class AbortLadder {
  readonly #control: SessionControl;
  /** Resets that are on their way: several commands of one unit share one. */
  readonly #resets = new Map<string, Promise<void>>();
  /** Tags of commands that something is being done about. */
  readonly #climbing = new Set<number>();

  constructor(control: SessionControl) {
    this.#control = control;
  }

  /** A command made no progress for as long as it may. */
  expired(task: Task): void {
    const cause = commandTimeout(this.#control.session, task.timeoutMs);
    if (!task.isOut) {
      // It waits for a command window that does not open: nothing is with the target that could be aborted.
      this.#control.session.destroy(cause);
      return;
    }
    const error = iscsiErrors.make('ISCSI_COMMAND_ABORTED', { fields: cause.fields });
    this.#start(task, error, cause);
  }

  /** The target says that it has ended this command, or one that it took for it (§11.9.1, event 5). */
  ended(task: Task): void {
    const error = iscsiErrors.make('ISCSI_COMMAND_ABORTED', {
      message: 'the target ended the command for the sake of another initiator (§11.9.1)',
    });
    const cause = commandTimeout(this.#control.session, this.#control.session.timeouts.abortMs);
    this.#start(task, error, cause);
  }

  #start(task: Task, error: OrionError, cause: OrionError): void {
    const { session } = this.#control;
    if (this.#climbing.has(task.itt)) return;
    this.#climbing.add(task.itt);
    const { itt } = task;
    const over = (done: boolean): void => {
      this.#climbing.delete(itt);
      if (!done) session.destroy(cause);
    };
    this.#climb(task, error).then(over, () => over(false));
  }

  /** True when the command is settled one way or the other. */
  async #climb(task: Task, error: OrionError): Promise<boolean> {
    const { itt, connection } = task;
    const { session } = this.#control;
    const settled = (): boolean => {
      // Answered meanwhile, or given up, or lost with the session.
      if (task.itt !== itt || !task.isOut) return true;
      // Its connection was lost, and what was asked with it: it goes on over another one.
      const moves = task.connection !== connection || isWaitingForConnection(session, task);
      if (moves) session.rearm(task);
      return moves;
    };
    if (settled()) return true;
    const goesOn = await this.#abort(task, error, settled);
    if (goesOn || settled()) return true;
    const { lunResetMs, targetResetMs } = session.timeouts;
    if (lunResetMs > 0) {
      await this.#reset(TaskFunction.LogicalUnitReset, lunOf(task), lunResetMs);
      if (settled()) return true;
    }
    if (targetResetMs > 0) {
      await this.#reset(TaskFunction.TargetWarmReset, NO_LUN, targetResetMs);
      if (settled()) return true;
    }
    return false;
  }

  /** True when the command turns out to be on its way. */
  async #abort(task: Task, error: OrionError, settled: () => boolean): Promise<boolean> {
    const { session } = this.#control;
    const { abortMs } = session.timeouts;
    if (abortMs === 0) return false;
    const sentBefore = bytesSent(task);
    const answer = await this.#ask(TaskFunction.AbortTask, lunOf(task), abortMs, task);
    if (settled()) return false;
    if (answer === TmfResponse.TaskDoesNotExist) {
      // §11.6.1: it is with the target no more, and as much as "complete". An answer to it was sent before (§11.5.1), but
      // targets that look for the task while it ends let that answer come behind.
      await sleep(session.clock, Math.min(RACE_MS, abortMs));
      if (settled()) return false;
      if (bytesSent(task) !== sentBefore) {
        // tgt knows no task that waits for data, and executes it when they are there: it is anything but gone.
        if (task.spared === SPARED_MAX) return false;
        task.spared += 1;
        session.rearm(task);
        return true;
      }
    } else if (answer !== TmfResponse.FunctionComplete) return false;
    session.abandon(task, error);
    return false;
  }

  /** One reset for all that wait for it. */
  #reset(fn: TaskFunction, lun: Buffer, timeoutMs: number): Promise<void> {
    const key = `${fn} ${lun.toString('hex')}`;
    let running = this.#resets.get(key);
    if (running === undefined) {
      running = this.#resetNow(fn, lun, timeoutMs).finally(() => this.#resets.delete(key));
      this.#resets.set(key, running);
    }
    return running;
  }

  async #resetNow(fn: TaskFunction, lun: Buffer, timeoutMs: number): Promise<void> {
    const { session } = this.#control;
    const units = fn === TaskFunction.TargetWarmReset ? null : lun;
    const mark = new ResetMark(session, units);
    const answer = await this.#ask(fn, lun, timeoutMs, null);
    if (answer !== TmfResponse.FunctionComplete) return;
    for (const task of session.commandsOf(units)) {
      if (mark.hasEnded(task)) session.abandon(task, iscsiErrors.make('ISCSI_LUN_RESET'));
    }
  }

  /** The response of a function; null when none came. */
  async #ask(
    fn: TaskFunction,
    lun: Buffer,
    timeoutMs: number,
    task: Task | null,
  ): Promise<number | null> {
    try {
      const about =
        task === null ? {} : { referencedTag: task.itt >>> 0, refCmdSn: task.cmdSn >>> 0 };
      const { response } = await this.#control.manageTasks(fn, lun, { timeoutMs, ...about });
      return response;
    } catch {
      return null; // no answer in time, or the session is over: the next step tells
    }
  }
}

function lunOf(task: Task): Buffer {
  const lun = Buffer.alloc(8);
  putU32(lun, 0, task.lunHigh);
  putU32(lun, 4, task.lunLow);
  return lun;
}
