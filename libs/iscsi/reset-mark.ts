import type { IscsiSession } from './session.ts';
import { Direction, type Task, TaskState } from './task-table.ts';

/**
 * Which commands a reset has ended, made when the reset is sent. Commands that come after it are none of its business. Nor can
 * those be called ended for which more data was sent since: a target has to wait for answers to its R2Ts before it answers
 * the reset (RFC 7143 §4.2.3.3), but tgt answers at once, and executes the command when the data are there.
 */
export class ResetMark {
  readonly #sent = new Map<Task, { readonly itt: number; readonly bytes: number }>();

  /** `lun`: null when all units are reset. */
  constructor(session: IscsiSession, lun: Buffer | null) {
    for (const task of session.commandsOf(lun)) {
      if (task.state !== TaskState.Sent) continue;
      this.#sent.set(task, { itt: task.itt, bytes: bytesSent(task) });
    }
  }

  /** After the target has said that the reset is carried out. */
  hasEnded(task: Task): boolean {
    const then = this.#sent.get(task);
    return then !== undefined && then.itt === task.itt && then.bytes === bytesSent(task);
  }
}

/** Bytes of the command's data that were sent so far; 0 for one that sends none. */
export function bytesSent(task: Task): number {
  if ((task.direction & Direction.Write) === 0) return 0;
  return task.extended === null ? task.moved : task.extended.sent;
}

/** What `bytesSent` comes to when all of the data were sent. */
export function bytesToSend(task: Task): number {
  if ((task.direction & Direction.Write) === 0) return 0;
  return task.extended?.send?.length ?? task.edtl;
}
