import type { IscsiSession } from './session.ts';
import type { Task } from './task-table.ts';

/**
 * A command has its time again when it has moved one of so many parts of its data meanwhile, or all that was left. So it has
 * about so many times at most, however slowly a target lets its data drip.
 */
const PARTS = 16;

/** Whether a command whose time is up gets it again. */
export function getsMoreTime(session: IscsiSession, task: Task): boolean {
  if (isWaitingForConnection(session, task)) return true;
  const whole = task.edtl + (task.extended?.send?.length ?? 0);
  const least = Math.min(Math.ceil(whole / PARTS), whole - task.movedAtTimer);
  return least > 0 && bytesMoved(task) - task.movedAtTimer >= least;
}

/** It goes on over another connection (§7.2.2), and nothing can be asked about it before. The recovery has a time of its own. */
export function isWaitingForConnection(session: IscsiSession, { connection }: Task): boolean {
  return session.recovering && (connection === null || connection.dead);
}

/** In both directions. Of a bidirectional command `moved` counts what it reads. */
export function bytesMoved({ moved, extended }: Task): number {
  return extended === null || extended.send === null ? moved : moved + extended.sent;
}
