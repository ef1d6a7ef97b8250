import type { OrionError } from '../core/errors.ts';
import { ByteRanges } from './byte-ranges.ts';
import type { Connection, ConnectionHandler } from './connection.ts';
import { ControlRequest } from './control-request.ts';
import { DataRecovery } from './data-recovery.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import { At, BHS_BYTES, Bit, i32, lunOf, NO_LUN, u32 } from './pdu/bhs.ts';
import { Opcode, RESERVED_TAG, SnackType } from './pdu/opcodes.ts';
import { bytesSent } from './reset-mark.ts';
import type { IscsiSession } from './session.ts';
import { notResent, SnackRequests } from './snack-requests.ts';
import { Arrival, StatusLedger } from './status-ledger.ts';
import { Direction, type Task, TaskState } from './task-table.ts';
import { isNumbered, readDataIn, readResponse, residualOf } from './transfer.ts';

/** Tags of commands that were asked about and are done: what comes of them late is no surprise. */
const DONE_TAGS_MAX = 256;

/** How far the number of a Data-In or R2T may be ahead of the first that is missing. */
const SN_AHEAD_MAX = 4096;

/**
 * Receives for a session at ErrorRecoveryLevel 1 and above, one per connection: what is damaged or missing is asked for again
 * (RFC 7143 §7.8, §7.9, §11.16). No command comes back to its owner before all of its PDUs came whole, and no status is
 * acknowledged before that.
 */
export class Retransmission implements ConnectionHandler {
  readonly #session: IscsiSession;
  readonly #connection: Connection;
  readonly #ledger: StatusLedger;
  readonly #snacks: SnackRequests;
  readonly #doneTags: number[] = [];

  // The Data-In that is being received: its task (null: nobody waits for it), and whether its data are wanted.
  #task: Task | null = null;
  #wanted = false;
  /** Its status is. */
  #counted = false;
  #dataSn = 0;
  #statSn = 0;
  #flags = 0;
  #ttt = 0;
  #lun = NO_LUN;

  constructor(session: IscsiSession, connection: Connection) {
    this.#session = session;
    this.#connection = connection;
    this.#ledger = new StatusLedger(connection.expStatSn);
    this.#snacks = new SnackRequests(session, connection, this.#ledger);
  }

  dataInHeader(connection: Connection, header: Buffer, at: number, length: number): Task | null {
    this.#flags = header[at + At.flags]!;
    this.#statSn = i32(header, at + At.statSn);
    this.#dataSn = i32(header, at + At.dataSn);
    this.#wanted = false;
    this.#task = null;
    this.#counted = (this.#flags & Bit.statusPresent) !== 0;
    if (this.#counted && this.#isDuplicate(this.#statSn)) {
      // The status came by itself; the data with it may be missing still.
      this.#counted = false;
      if (this.#session.findTask(i32(header, at + At.itt)) === null) return null;
    }
    const task = this.#find(connection, header, at);
    if (task === null) return null;
    this.#session.updateWindow(header, at);
    this.#task = task;
    readDataIn(connection, task, header, at, length);
    if (task.state === TaskState.Abandoned || this.#has(task, this.#dataSn)) return null;
    this.#checkOffset(task, connection.rxAt, length);
    if ((this.#flags & Bit.acknowledge) !== 0) {
      this.#ttt = u32(header, at + At.ttt);
      this.#lun = lunOf(header, at);
      if (this.#ttt === RESERVED_TAG) throw protocolError('A without a tag (§11.7.4)');
    }
    this.#wanted = true;
    return task;
  }

  /** Bytes may not overwrite what came whole already. */
  #checkOffset(task: Task, offset: number, length: number): void {
    if (!this.#session.params.readsInOrder) {
      if (task.ranges?.overlaps(offset, length)) {
        throw protocolError(`Data-In at ${offset} brings bytes again (§11.7.6)`);
      }
      return;
    }
    const inRow = this.#dataSn === task.nextSn;
    if (length > 0 && (inRow ? offset !== task.moved : offset < task.moved)) {
      throw protocolError(`Data-In at ${offset}, expected ${task.moved} (§13.18)`);
    }
  }

  dataIn(connection: Connection): void {
    const task = this.#task;
    connection.rxTask = null;
    this.#task = null;
    if (task === null) return;
    if (this.#wanted) {
      this.#session.stats.bytesRead += connection.rxLength;
      this.#takeData(task, connection.rxAt, connection.rxLength);
      if ((this.#flags & Bit.acknowledge) !== 0) this.#wantAck(task);
    }
    if (this.#counted) {
      const status = connection.rxStatus;
      const residual = residualOf(connection.rxFlags, connection.rxResidual, task.edtl);
      if (this.#arrive(this.#statSn)) {
        this.#answered(task, this.#statSn, () => {
          task.status = status;
          task.residual = residual;
        });
      }
    } else if (task.pendingLoss !== null && task.state === TaskState.Sent) {
      this.#session.tasks.giveUp(task, task.pendingLoss);
    }
    this.#snacks.pursue(task.recovery);
  }

  #takeData(task: Task, offset: number, length: number): void {
    const { readsInOrder } = this.#session.params;
    if (!readsInOrder) {
      task.ranges ??= new ByteRanges();
      task.ranges.add(offset, length);
    }
    if (task.recovery === null && this.#dataSn === task.nextSn) {
      task.nextSn = (task.nextSn + 1) | 0;
      task.moved += length;
      return;
    }
    const recovery = this.#recoveryOf(task);
    recovery.accept(this.#dataSn, offset, length, readsInOrder);
    this.#afterAccept(recovery);
  }

  /** §11.16.2: once nothing before it is missing. */
  #wantAck(task: Task): void {
    const recovery = this.#recoveryOf(task);
    recovery.ack = { ttt: this.#ttt, lun: this.#lun, sn: (this.#dataSn + 1) | 0 };
    this.#afterAccept(recovery);
  }

  #afterAccept(recovery: DataRecovery): void {
    const { task, ack } = recovery;
    if (ack !== null && ((task.nextSn - ack.sn) | 0) >= 0) {
      recovery.ack = null;
      // Of no new data there is nothing that the target could let go of.
      if (task.moved > recovery.ackedBytes) {
        recovery.ackedSn = task.nextSn;
        recovery.ackedBytes = task.moved;
        this.#snacks.acknowledge(ack, task.nextSn);
      }
    }
    if (!recovery.complete) return;
    this.#snacks.drop(recovery);
    this.#answerHeld(recovery);
  }

  #answerHeld(recovery: DataRecovery): void {
    const { answer } = recovery;
    if (answer === null) return;
    recovery.answer = null;
    answer.complete();
  }

  /** The status of a command is here: it goes back when all of its data are. */
  #answered(task: Task, statSn: number, read: () => void): void {
    if (task.state === TaskState.Abandoned) {
      this.#settle(statSn);
      this.#forget(task);
      this.#session.tasks.table.releaseAbandoned(task);
      return;
    }
    const { recovery } = task;
    const complete = (): void => {
      this.#settle(statSn);
      this.#forget(task);
      if (recovery !== null && !recovery.complete) {
        this.#session.tasks.lose(task, iscsiErrors.make('ISCSI_NOT_RESENT'));
        return;
      }
      read();
      this.#session.tasks.complete(task);
    };
    if (recovery === null || recovery.complete || recovery.rejected) complete();
    else recovery.answer = { statSn, complete };
  }

  /** Nothing is asked for any more on behalf of this command. */
  #forget(task: Task): void {
    const { recovery } = task;
    if (recovery === null) return;
    this.#snacks.drop(recovery);
    if (recovery.snacks === 0) return;
    this.#doneTags.push(task.itt);
    if (this.#doneTags.length > DONE_TAGS_MAX) this.#doneTags.shift();
  }

  pdu(connection: Connection, header: Buffer, at: number, data: Buffer): void {
    const opcode = header[at]! & Bit.opcodeMask;
    const statSn = i32(header, at + At.statSn);
    if (isNumbered(header, at)) {
      if (opcode === Opcode.ScsiResponse) this.#onResponse(connection, header, at, data);
      else if (this.#arrive(statSn)) {
        this.#settle(statSn);
        if (opcode !== Opcode.Reject || !this.#onReject(header, at, data)) {
          this.#session.deliver(connection, header, at, data);
        }
      }
    } else {
      // It says which status comes next: the last one may be missing.
      if (opcode === Opcode.R2t || opcode === Opcode.NopIn) this.#exists((statSn - 1) | 0);
      if (opcode === Opcode.R2t) this.#onR2t(connection, header, at);
      else this.#session.deliver(connection, header, at, data);
    }
    this.#snacks.pursue(null);
  }

  #onResponse(connection: Connection, header: Buffer, at: number, data: Buffer): void {
    const statSn = i32(header, at + At.statSn);
    if (this.#isDuplicate(statSn)) return;
    const task = this.#session.find(connection, header, at);
    this.#session.updateWindow(header, at);
    if (task.owner instanceof ControlRequest) {
      throw protocolError('a SCSI Response to a request that is no SCSI command (§7.13)');
    }
    // §11.16.3: before the data came again there may have been another response.
    const tag = task.recovery?.snackTag ?? 0;
    if (tag !== 0 && u32(header, at + At.ttt) !== tag) return;
    this.#arrive(statSn);
    if (task.state !== TaskState.Abandoned && task.direction === Direction.Read) {
      this.#takeExpDataSn(task, i32(header, at + At.expDataSn));
    }
    const copy = Buffer.from(header.subarray(at, at + BHS_BYTES));
    const rest = Buffer.from(data);
    this.#answered(task, statSn, () => readResponse(task, copy, 0, rest));
    this.#snacks.pursue(task.recovery);
  }

  /** §11.4.8. Some targets leave it 0. */
  #takeExpDataSn(task: Task, expDataSn: number): void {
    const ahead = (expDataSn - task.nextSn) | 0;
    if (expDataSn === 0 || ahead === 0) return;
    if (ahead < 0 && task.recovery?.reassigned) return; // counted anew on this connection
    if (ahead < 0 || ahead > SN_AHEAD_MAX) {
      throw protocolError(`ExpDataSN ${expDataSn >>> 0}, we have ${task.nextSn >>> 0} (§11.4.8)`);
    }
    this.#recoveryOf(task).exists(expDataSn);
  }

  #onR2t(connection: Connection, header: Buffer, at: number): void {
    const task = this.#find(connection, header, at);
    if (task === null) return;
    this.#session.updateWindow(header, at);
    if (!task.isOut) return;
    const r2tSn = i32(header, at + At.r2tSn);
    if (task.recovery?.reassigned) task.recovery.renumber(r2tSn);
    if (this.#has(task, r2tSn)) return;
    const inRow = r2tSn === task.nextSn;
    const before = bytesSent(task);
    this.#session.serveR2t(connection, task, header, at, inRow);
    const fresh = bytesSent(task) - before;
    const isRepeat = fresh < u32(header, at + At.desiredLength);
    if (isRepeat && !task.dataStopped) this.#recoveryOf(task).countRepeat();
    if (task.recovery === null && inRow) task.nextSn = (task.nextSn + 1) | 0;
    else {
      const recovery = this.#recoveryOf(task);
      recovery.accept(r2tSn, 0, 0, false);
      this.#snacks.pursue(recovery);
    }
  }

  /** The data segment of a PDU is damaged: the PDU is as if it had not come (§7.8). */
  damaged(_connection: Connection, header: Buffer | null): void {
    if (header !== null) {
      const statSn = i32(header, At.statSn);
      this.#exists(isNumbered(header, 0) ? statSn : (statSn - 1) | 0);
      this.#snacks.pursue(null);
      return;
    }
    const task = this.#task;
    this.#task = null;
    if (task !== null && this.#wanted) {
      const recovery = this.#recoveryOf(task);
      // Once more the same one: its number is no news.
      const again = !recovery.exists((this.#dataSn + 1) | 0);
      if (again) this.#snacks.askFor(recovery, [{ from: this.#dataSn, length: 1 }]);
      this.#snacks.pursue(recovery);
      if (task.pendingLoss !== null) this.#session.tasks.giveUp(task, task.pendingLoss);
    } else if (this.#counted) this.#exists(this.#statSn);
    this.#snacks.pursue(null);
  }

  lost(connection: Connection, error: Error | null): void {
    this.#session.lost(connection, error);
  }

  /** §11.17: of a SNACK. True: it is dealt with. */
  #onReject(header: Buffer, at: number, data: Buffer): boolean {
    if (data.length < BHS_BYTES) return false;
    this.#session.updateWindow(header, at);
    const opcode = data[0]! & Bit.opcodeMask;
    if (opcode === Opcode.SnackRequest) {
      const type = data[At.flags]! & 0x0f;
      if (type === SnackType.DataAck) return false;
      if (type === SnackType.Status) {
        throw notResent('the target does not send a status again (§7.8)');
      }
      const task = this.#session.findTask(i32(data, At.itt));
      const { recovery } = task ?? { recovery: null };
      if (recovery === null) return true;
      recovery.rejected = true;
      this.#snacks.drop(recovery);
      this.#answerHeld(recovery);
      return true;
    }
    return false;
  }

  #recoveryOf(task: Task): DataRecovery {
    task.recovery ??= new DataRecovery(task);
    return task.recovery;
  }

  /** The task of a Data-In or R2T; null: of a command that is done, sent again. */
  #find(connection: Connection, header: Buffer, at: number): Task | null {
    if (this.#doneTags.length > 0 && this.#doneTags.includes(i32(header, at + At.itt))) return null;
    return this.#session.find(connection, header, at);
  }

  /** It came already (§7.9). */
  #has(task: Task, sn: number): boolean {
    const ahead = (sn - task.nextSn) | 0;
    if (ahead >= SN_AHEAD_MAX) {
      throw protocolError(`number ${sn >>> 0} of a command, expected ${task.nextSn >>> 0} (§7.9)`);
    }
    return task.recovery === null ? ahead < 0 : task.recovery.has(sn);
  }

  #isDuplicate(statSn: number): boolean {
    const arrival = this.#ledger.look(statSn);
    if (arrival === Arrival.Beyond) throw this.#beyond(statSn);
    return arrival === Arrival.Duplicate;
  }

  /** False: it came before. */
  #arrive(statSn: number): boolean {
    if (this.#isDuplicate(statSn)) return false;
    this.#ledger.arrive(statSn);
    return true;
  }

  #exists(statSn: number): void {
    if (!this.#ledger.exists(statSn)) throw this.#beyond(statSn);
  }

  #beyond(statSn: number): OrionError {
    return notResent(
      `StatSN ${statSn >>> 0}, expected ${this.#ledger.expected >>> 0}: too many are missing (§4.2.2.2)`,
    );
  }

  #settle(statSn: number): void {
    this.#connection.expStatSn = this.#ledger.settle(statSn);
  }
}
