import type { LogoutRequest } from '../iscsi/pdu/logout-request.ts';
import { LogoutAnswer, LogoutReason, Opcode } from '../iscsi/pdu/opcodes.ts';
import type { Connection } from './connection.ts';
import type { Session } from './session.ts';

/** Carries out a logout and answers it (RFC 7143 §11.14, §11.15). */
export function logOut(connection: Connection, session: Session, request: LogoutRequest): void {
  const { engine } = connection;
  const scripted = engine.faults.onLogout(connection, request.reason);
  const { time2Wait, time2Retain } = { ...session.params, ...scripted };
  const response = scripted?.response ?? carryOut(connection, session, request);
  connection.sender.send(
    { opcode: Opcode.LogoutResponse, response, itt: request.itt, time2Wait, time2Retain },
    session,
    true,
  );
  if (response !== LogoutAnswer.Closed) return;
  if (request.reason === LogoutReason.CloseSession) {
    for (const each of [...session.connections.values()]) close(each);
    session.recovery.discard();
  } else if (request.cid === connection.cid) {
    if (request.reason === LogoutReason.CloseConnection) connection.isClosing = true;
    connection.end();
    session.recovery.logOut(request.cid);
  }
}

function close(connection: Connection): void {
  connection.isClosing = true;
  connection.end();
}

/** Everything but the end of the connection that the request came over, which says its last word first. */
function carryOut(connection: Connection, session: Session, request: LogoutRequest): LogoutAnswer {
  const { reason, cid } = request;
  const isRecovery = reason === LogoutReason.RemoveForRecovery;
  if (isRecovery && session.params.errorRecoveryLevel < 2) return LogoutAnswer.RecoveryNotSupported;
  if (reason === LogoutReason.CloseSession) {
    abortTasks(session, connection, () => true);
    return LogoutAnswer.Closed;
  }
  const named = session.connections.get(cid);
  if (named !== undefined && !isRecovery) {
    abortTasks(session, connection, (owner) => owner === named);
  }
  if (named !== undefined && named !== connection) {
    if (isRecovery) named.drop('removed for recovery');
    else close(named);
  }
  const { recovery } = session;
  const isLost = isRecovery ? recovery.logOut(cid) : recovery.close(cid);
  return isLost || named !== undefined ? LogoutAnswer.Closed : LogoutAnswer.CidNotFound;
}

/** §11.14: the tasks are terminated; a target like tgt lets run what runs. */
function abortTasks(
  session: Session,
  { engine }: Connection,
  isOf: (owner: Connection | null) => boolean,
): void {
  if (!engine.abortsOnReinstatement) return;
  for (const task of [...session.tasks.values()]) if (isOf(task.connection)) engine.abort(task);
}
