import { BHS_BYTES } from '../iscsi/pdu/bhs.ts';
import { RejectReason, SnackType } from '../iscsi/pdu/opcodes.ts';
import { type SnackRequest, snackRequest } from '../iscsi/pdu/snack-request.ts';
import type { Connection } from './connection.ts';
import type { Delivery } from './delivery.ts';
import type { Session } from './session.ts';
import type { Task } from './task.ts';

/** Serves a SNACK (RFC 7143 §11.16). One that cannot be served is rejected, and changes nothing. */
export function serveSnack(
  connection: Connection,
  session: Session,
  header: Buffer,
  at: number,
): void {
  const { sender, delivery } = connection;
  const request = snackRequest.decode(header, at);
  const copy = Buffer.from(header.subarray(at, at + BHS_BYTES));
  if (delivery === null || session.params.errorRecoveryLevel === 0) {
    return sender.reject(RejectReason.CommandNotSupported, copy, session);
  }
  if (snackRequest.invalidReason(request) !== null) {
    return sender.reject(RejectReason.InvalidPduField, copy, session);
  }
  const task = taskOf(connection, session, delivery, request.itt);
  const reason = serve(connection, delivery, request, task);
  // §11.17.2: the number that would come next.
  if (reason !== null) sender.reject(reason, copy, session, task?.sentPdus ?? 0);
}

function taskOf(
  connection: Connection,
  session: Session,
  delivery: Delivery,
  itt: number,
): Task | null {
  const task = session.tasks.get(itt) ?? delivery.retention.taskOf(itt);
  return task?.connection === connection ? task : null;
}

function serve(
  connection: Connection,
  delivery: Delivery,
  request: SnackRequest,
  task: Task | null,
): RejectReason | null {
  const { retention } = delivery;
  const { begRun, runLength } = request;
  switch (request.type) {
    case SnackType.Status: {
      const { statSn } = connection.sender;
      const outcome = retention.resendStatuses(begRun, runLength, statSn);
      if (outcome === 'done') return null;
      return outcome === 'gone' ? RejectReason.SnackReject : RejectReason.ProtocolError;
    }
    case SnackType.DataAck: {
      const acked = retention.takeAck(request.ttt);
      if (acked === null) return RejectReason.InvalidDataAck;
      if (begRun > acked.sentPdus || begRun < acked.ackedPdus) return RejectReason.InvalidDataAck;
      acked.ackedPdus = begRun;
      return null;
    }
    case SnackType.RData:
      if (task === null) return RejectReason.ProtocolError;
      // The status is not sent yet: it will carry the tag.
      if (task.statSn === null) task.snackTag = request.ttt;
      else delivery.resendAll(task, request.ttt);
      return null;
    default:
      return task === null ? RejectReason.ProtocolError : resendRun(connection, task, request);
  }
}

/** Data-In and R2T PDUs that were sent, from `begRun` on. */
function resendRun(
  { sender, delivery }: Connection,
  task: Task,
  { begRun, runLength }: SnackRequest,
): RejectReason | null {
  const isAll = begRun === 0 && runLength === 0;
  const first = isAll ? task.ackedPdus : begRun;
  const end = runLength === 0 ? task.sentPdus : begRun + runLength;
  if (first < task.ackedPdus || end > task.sentPdus || first > end) {
    return RejectReason.ProtocolError;
  }
  const isInRun = (sn: number): boolean => sn >= first && sn < end;
  const segments = task.segments.filter(({ dataSn }) => isInRun(dataSn));
  const bursts = task.bursts.filter(({ r2tSn }) => isInRun(r2tSn));
  // An R2T whose data has come is acknowledged by that.
  if (!isAll && segments.length + bursts.length === 0) return RejectReason.ProtocolError;
  for (const burst of bursts) sender.r2t(task, burst);
  delivery?.resendData(task, segments);
  return null;
}
