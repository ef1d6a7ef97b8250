import type { IscsiSession } from './session.ts';
import type { Task } from './task-table.ts';

/** Whether a command whose time is up gets it again. */
export function getsMoreTime(session: IscsiSession, task: Task): boolean {
  return isWaitingForConnection(session, task) || task.moved !== task.movedAtTimer;
}

/** It goes on over another connection (§7.2.2), and nothing can be asked about it before. The recovery has a time of its own. */
export function isWaitingForConnection(session: IscsiSession, { connection }: Task): boolean {
  return session.recovering && (connection === null || connection.dead);
}
