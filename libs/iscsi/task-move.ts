import type { OrionError } from '../core/errors.ts';
import type { Connection } from './connection.ts';
import { DataRecovery } from './data-recovery.ts';
import { iscsiErrors } from './errors.ts';
import { NO_LUN } from './pdu/bhs.ts';
import { nameOf, TaskFunction, TmfResponse } from './pdu/opcodes.ts';
import type { IscsiSession } from './session.ts';
import { Hopeless } from './session-errors.ts';
import { manageTasks } from './task-management.ts';
import { Direction, type Task, TaskState } from './task-table.ts';

/** Reassignments on their way at a time: they are immediate, and a target takes few of those (§4.2.2.1). */
const REASSIGNS_MAX = 4;

/** Longest time without an answer to one. */
const ANSWER_MS = 10_000;

/** What becomes of the commands of connections that the target has logged out. */
export class TaskMove {
  readonly #session: IscsiSession;

  constructor(session: IscsiSession) {
    this.#session = session;
  }

  /**
   * Deals with every command whose connection is gone. What the target does not acknowledge it threw away with the
   * logout (§11.14): that goes out again under its number, and closes the gap (§7.2.1). The rest has ended (level 1), or is
   * reassigned (level 2).
   */
  async all(level: number): Promise<void> {
    const session = this.#session;
    const stranded = session.tasks.table
      .active()
      .filter((task) => task.connection?.dead === true && task.state !== TaskState.Answered)
      .sort((a, b) => (a.cmdSn - b.cmdSn) | 0);
    const acknowledged: Task[] = [];
    for (const task of stranded) {
      if (task.immediate || session.window.isAcknowledged(task.cmdSn)) acknowledged.push(task);
      else this.#resend(task);
    }
    for (const task of acknowledged) {
      if (task.state === TaskState.Abandoned) session.tasks.table.releaseAbandoned(task);
      else if (level < 2) session.tasks.lose(task, this.#ended(task));
    }
    const moving = acknowledged.filter((task) => task.state === TaskState.Sent);
    for (let at = 0; at < moving.length; at += REASSIGNS_MAX) {
      const some = moving.slice(at, at + REASSIGNS_MAX);
      await Promise.all(some.map((task) => this.#reassign(task)));
    }
  }

  #ended(task: Task): OrionError {
    const { targetName: target } = this.#session;
    return iscsiErrors.make('ISCSI_CONNECTION_ENDED', {
      fields: { target, portal: task.connection!.remote },
    });
  }

  #resend(task: Task): void {
    if (task.state === TaskState.Abandoned) {
      // Its data are not ours any more, and its number has to be filled.
      throw new Hopeless(`command ${task.cmdSn >>> 0} cannot be sent again: it was given up`);
    }
    const connection = this.#helper();
    task.recovery = null;
    task.nextSn = 0;
    this.#session.tasks.reassign(task, connection);
    this.#session.sendAgain(task, connection);
  }

  #helper(): Connection {
    const { members } = this.#session;
    if (members.live.length === 0) throw iscsiErrors.make('ISCSI_CONNECTION_LOST');
    return members.pick();
  }

  /** §11.5.1, TASK REASSIGN: the command goes on over `connection`, from the first data that did not come. */
  async #reassign(task: Task): Promise<void> {
    const session = this.#session;
    const connection = this.#helper();
    const expDataSn = this.#prepare(task);
    // Before the answer: what comes right behind it counts already.
    session.tasks.reassign(task, connection);
    task.firstSeq = -1;
    task.outSeq = 0;
    const { itt } = task;
    const { response } = await manageTasks(
      session.channel(connection),
      TaskFunction.TaskReassign,
      NO_LUN,
      { timeoutMs: ANSWER_MS, referencedTag: itt >>> 0, expDataSn: expDataSn >>> 0 },
    );
    if (response === TmfResponse.FunctionComplete) return;
    // Its status may have come over the new connection, or its owner may have let it go.
    if (task.itt !== itt || task.state !== TaskState.Sent) return;
    throw new Hopeless(`the target answers TaskReassign with ${nameOf(TmfResponse, response)}`);
  }

  /** Forgets what is not acknowledged by the number that goes with the request (§11.5.6). Returns that number. */
  #prepare(task: Task): number {
    task.recovery ??= new DataRecovery(task);
    const { recovery } = task;
    recovery.reassigned = true;
    if (task.direction !== Direction.Read) {
      recovery.restart();
      return 0;
    }
    if (this.#session.params.readsInOrder) recovery.restart();
    else {
      if (recovery.ackedBytes > 0)
        throw new Hopeless('what came of a read in any order is not known');
      task.ranges = null;
      recovery.restartFromAck(0);
    }
    return task.nextSn;
  }
}
