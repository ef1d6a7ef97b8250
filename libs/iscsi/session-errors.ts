import { errorText, OrionError } from '../core/errors.ts';
import { iscsiErrors } from './errors.ts';
import type { Task } from './task-table.ts';

/** What the errors of a session say about where it was. */
interface Place {
  readonly targetName: string;
  readonly portal: string;
}

/** A session cannot be continued without a connection that it lost; another attempt would not help. */
export class Hopeless extends Error {}

/** The same error, saying where it happened; what it says of that itself counts. */
export function placed(error: OrionError, place: { target?: string; portal: string }): OrionError {
  const { code, message, outcome, errno, hint, cause } = error;
  const fields = { ...place, ...error.fields };
  return new OrionError({ code, message, outcome, errno, hint, cause, fields });
}

/** The error of a command that its session took with it. */
export function lossError(place: Place, task: Task, sent: boolean, cause: Error): OrionError {
  if (task.pendingLoss !== null) return task.pendingLoss;
  if (!sent) return iscsiErrors.make('ISCSI_SESSION_CLOSED', { cause });
  return iscsiErrors.make('ISCSI_SESSION_LOST', {
    message: `the session was lost while the command was on its way: ${errorText(cause)}`,
    fields: { target: place.targetName, portal: place.portal },
    cause,
  });
}

/** The cause of a session whose connection ended or broke. */
export function connectionLost(place: Place, partial: boolean, error: Error | null): OrionError {
  const message =
    error === null
      ? `the target closed the connection${partial ? ' in the middle of a PDU' : ''}`
      : `the connection broke: ${error.message}`;
  return iscsiErrors.make('ISCSI_CONNECTION_LOST', {
    message,
    fields: { target: place.targetName, portal: place.portal },
    cause: error ?? undefined,
  });
}

export function commandTimeout(place: Place, timeoutMs: number): OrionError {
  return iscsiErrors.make('ISCSI_COMMAND_TIMEOUT', {
    fields: { target: place.targetName, portal: place.portal, timeoutMs },
  });
}
