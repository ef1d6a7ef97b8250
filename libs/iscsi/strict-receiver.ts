import type { Connection, ConnectionHandler } from './connection.ts';
import { ControlRequest } from './control-request.ts';
import { protocolError } from './errors.ts';
import { At, Bit } from './pdu/bhs.ts';
import { Opcode } from './pdu/opcodes.ts';
import type { IscsiSession } from './session.ts';
import { type Task, TaskState } from './task-table.ts';
import {
  checkExpDataSn,
  isNumbered,
  readResponse,
  residualOf,
  takeDataIn,
  takeR2tSn,
} from './transfer.ts';

/**
 * Receives for a session at ErrorRecoveryLevel 0: everything comes whole, in the order of its numbers, or the session is
 * over (RFC 7143 §7.1.5). One for all connections.
 */
export class StrictReceiver implements ConnectionHandler {
  readonly #session: IscsiSession;

  constructor(session: IscsiSession) {
    this.#session = session;
  }

  dataInHeader(connection: Connection, header: Buffer, at: number, length: number): Task | null {
    if ((header[at + At.flags]! & Bit.statusPresent) !== 0) connection.takeStatSn(header, at);
    const task = this.#session.find(connection, header, at);
    this.#session.updateWindow(header, at);
    if (task.state === TaskState.Abandoned) {
      if ((header[at + At.flags]! & Bit.statusPresent) !== 0) {
        this.#session.tasks.table.releaseAbandoned(task);
      }
      return null;
    }
    takeDataIn(connection, task, header, at, length, this.#session.params.readsInOrder);
    return task;
  }

  dataIn(connection: Connection): void {
    const task = connection.rxTask;
    if (task === null) return;
    connection.rxTask = null;
    this.#session.stats.bytesRead += connection.rxLength;
    if ((connection.rxFlags & Bit.statusPresent) !== 0) {
      task.status = connection.rxStatus;
      task.residual = residualOf(connection.rxFlags, connection.rxResidual, task.edtl);
      this.#session.tasks.complete(task);
    } else if (task.pendingLoss !== null) this.#session.tasks.giveUp(task, task.pendingLoss);
  }

  pdu(connection: Connection, header: Buffer, at: number, data: Buffer): void {
    if (isNumbered(header, at)) connection.takeStatSn(header, at);
    const opcode = header[at]! & Bit.opcodeMask;
    if (opcode === Opcode.ScsiResponse) this.#onResponse(connection, header, at, data);
    else if (opcode === Opcode.R2t) this.#onR2t(connection, header, at);
    else this.#session.deliver(connection, header, at, data);
  }

  #onR2t(connection: Connection, header: Buffer, at: number): void {
    const task = this.#session.find(connection, header, at);
    this.#session.updateWindow(header, at);
    if (!task.isOut) return;
    takeR2tSn(task, header, at);
    this.#session.serveR2t(connection, task, header, at, true);
  }

  #onResponse(connection: Connection, header: Buffer, at: number, data: Buffer): void {
    const task = this.#session.find(connection, header, at);
    this.#session.updateWindow(header, at);
    if (task.state === TaskState.Abandoned) return this.#session.tasks.table.releaseAbandoned(task);
    if (task.owner instanceof ControlRequest) {
      throw protocolError('a SCSI Response to a request that is no SCSI command (§7.13)');
    }
    checkExpDataSn(task, header, at);
    readResponse(task, header, at, data);
    this.#session.tasks.complete(task);
  }

  lost(connection: Connection, error: Error | null): void {
    this.#session.lost(connection, error);
  }
}
