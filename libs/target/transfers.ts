import { At, BHS_BYTES, Bit, immediateOf, u32 } from '../iscsi/pdu/bhs.ts';
import { RESERVED_TAG, RejectReason } from '../iscsi/pdu/opcodes.ts';
import { CDB_BYTES } from '../iscsi/pdu/scsi-command.ts';
import { decodeLun } from './commands/unit-info.ts';
import type { Connection } from './connection.ts';
import { Status } from './scsi-codes.ts';
import type { Session } from './session.ts';
import { type Burst, Task } from './task.ts';

/** Immediate commands of a session; they are outside of the command window, so they have a bound of their own. */
const IMMEDIATE_TASKS_MAX = 64;

/** The SCSI commands of a connection and the data that they bring: immediate, unsolicited, asked for by R2T. */
export class Transfers {
  readonly #connection: Connection;
  readonly #session: Session;
  #lastTtt = 0;
  /** What the data segment that is arriving belongs to. */
  #task: Task | null = null;
  #burst: Burst | null = null;
  #length = 0;
  #final = false;

  constructor(connection: Connection, session: Session) {
    this.#connection = connection;
    this.#session = session;
  }

  /** A SCSI Command PDU (§11.3). `data`: its immediate data, when that came before its turn. */
  command(header: Buffer, at: number, dataLength: number, data: Buffer | null): void {
    this.#task = null;
    const reason = this.#refusal(header, at, dataLength);
    if (reason !== null) {
      const copy = Buffer.from(header.subarray(at, at + BHS_BYTES));
      this.#connection.sender.reject(reason, copy, this.#session);
      if (dataLength > 0 && data === null) this.#connection.receiver.skip();
      return;
    }
    const task = this.#newTask(header, at);
    const { engine } = this.#connection;
    if (!engine.faults.strikesCommand(task)) engine.device.prepare(task);
    engine.begin(task);
    const wanted = this.#wanted(task);
    if (wanted > 0) {
      task.dataOut = engine.takeData(wanted);
      if (task.dataOut === null) task.failWith(Status.TaskSetFull);
    }
    if ((header[at + At.flags]! & Bit.final) === 0) {
      const end = Math.min(this.#session.params.firstBurstLength, task.edtl);
      task.bursts.push({ ttt: RESERVED_TAG, offset: dataLength, end, dataSn: 0 });
    }
    if (dataLength === 0) return this.#progress(task);
    if (data === null) {
      this.#expect(task, null, 0, dataLength, false);
      return;
    }
    if (task.dataOut !== null) data.copy(task.dataOut);
    this.#immediateArrived(task, dataLength);
  }

  /** A SCSI Data-Out PDU (§11.7). */
  dataOut(header: Buffer, at: number, dataLength: number): void {
    this.#task = null;
    const task = this.#session.tasks.get(u32(header, at + At.itt));
    // Of a task that was aborted, or answered early: the initiator may not know yet.
    if (task === undefined || task.state !== 'data') {
      if (dataLength > 0) this.#connection.receiver.skip();
      return;
    }
    const ttt = u32(header, at + At.ttt);
    const burst = task.bursts.find((other) => other.ttt === ttt);
    const final = (header[at + At.flags]! & Bit.final) !== 0;
    const offset = u32(header, at + At.bufferOffset);
    const dataSn = u32(header, at + At.dataSn);
    const why = burst === undefined ? 'no such transfer tag' : sequenceError();
    if (why !== null || burst === undefined) {
      // §7.9: without recovery within the command the session is over.
      this.#connection.protocolError(why ?? '', header, at);
      return;
    }
    this.#expect(task, burst, offset, dataLength, final);
    if (dataLength === 0) this.dataArrived();

    function sequenceError(): string | null {
      const { end } = burst!;
      if (dataSn !== burst!.dataSn) return 'DataSN out of sequence (§11.7.5)';
      if (offset !== burst!.offset) return 'buffer offset out of sequence (§13.18)';
      if (offset + dataLength > end) return 'more data than was asked for (§11.7)';
      const isShort = offset + dataLength < end;
      // An unsolicited burst may end where the initiator likes; after an abort, any burst (§11.5.1).
      const mayBeShort = ttt === RESERVED_TAG || task!.aborting;
      if (final && isShort && !mayBeShort) return 'less data than was asked for (§11.8)';
      return !final && !isShort ? 'no F bit at the end of the data (§11.7.1)' : null;
    }
  }

  /** The data segment of the last header is complete. */
  dataArrived(): void {
    const task = this.#task;
    if (task === null) return;
    this.#task = null;
    if (task.state !== 'data') return;
    if (this.#burst === null) return this.#immediateArrived(task, this.#length);
    const burst = this.#burst;
    burst.offset += this.#length;
    burst.dataSn += 1;
    task.received += this.#length;
    if (!this.#final) return;
    task.bursts.splice(task.bursts.indexOf(burst), 1);
    if (burst.ttt === RESERVED_TAG) task.solicitedTo = burst.offset;
    this.#progress(task);
  }

  #immediateArrived(task: Task, length: number): void {
    task.received += length;
    task.solicitedTo = length;
    this.#progress(task);
  }

  #expect(task: Task, burst: Burst | null, at: number, length: number, final: boolean): void {
    this.#task = task;
    this.#burst = burst;
    this.#length = length;
    this.#final = final;
    if (length > 0) this.#connection.receiveInto(task, at);
  }

  /** Why the command is rejected, or null. */
  #refusal(header: Buffer, at: number, dataLength: number): RejectReason | null {
    const { params, isDiscovery, tasks } = this.#session;
    if (isDiscovery) return RejectReason.CommandNotSupported;
    const itt = u32(header, at + At.itt);
    if (itt === RESERVED_TAG) return RejectReason.InvalidPduField;
    if (tasks.has(itt)) return RejectReason.TaskInProgress;
    if (immediateOf(header, at) && this.#session.immediateTasks >= IMMEDIATE_TASKS_MAX) {
      return RejectReason.ImmediateCommandReject;
    }
    const flags = header[at + At.flags]!;
    const isWrite = (flags & Bit.write) !== 0;
    const isFinal = (flags & Bit.final) !== 0;
    // §11.3.1: W and F may not both be 0. §13.10: unsolicited data only with InitialR2T=No.
    if (!isFinal && (!isWrite || params.initialR2T)) return RejectReason.ProtocolError;
    if (dataLength === 0) return null;
    const edtl = u32(header, at + At.edtl);
    if (!isWrite || !params.immediateData) return RejectReason.ProtocolError;
    return dataLength > Math.min(edtl, params.firstBurstLength) ? RejectReason.ProtocolError : null;
  }

  #newTask(header: Buffer, at: number): Task {
    const flags = header[at + At.flags]!;
    const lun = decodeLun(header, at + At.lun);
    const lu = this.#connection.engine.device.units.get(lun) ?? null;
    return new Task(this.#connection, this.#session, lu, lun, {
      cdb: Buffer.from(header.subarray(at + At.cdb, at + At.cdb + CDB_BYTES)),
      itt: u32(header, at + At.itt),
      cmdSn: u32(header, at + At.cmdSn),
      immediate: immediateOf(header, at),
      edtl: u32(header, at + At.edtl),
      isRead: (flags & Bit.read) !== 0,
      isWrite: (flags & Bit.write) !== 0,
    });
  }

  /** Bytes that are to be collected: what the command needs, as far as the initiator has it. */
  #wanted(task: Task): number {
    if (task.failed || !task.isWrite) return 0;
    return Math.min(task.dataOutBytes, task.edtl);
  }

  /** Asks for more, or passes the task on when nothing is missing. */
  #progress(task: Task): void {
    const { engine, sender } = this.#connection;
    const unsolicited = task.bursts[0]?.ttt === RESERVED_TAG;
    if (unsolicited) return;
    if (task.aborting) {
      if (task.bursts.length === 0) engine.abort(task);
      return;
    }
    const { maxOutstandingR2T, maxBurstLength } = this.#session.params;
    const wanted = this.#wanted(task);
    while (task.solicitedTo < wanted && task.bursts.length < maxOutstandingR2T) {
      const offset = task.solicitedTo;
      const end = Math.min(offset + maxBurstLength, wanted);
      this.#lastTtt = (this.#lastTtt + 1) % RESERVED_TAG;
      const burst = { ttt: this.#lastTtt, offset, end, dataSn: 0 };
      task.bursts.push(burst);
      task.solicitedTo = end;
      sender.r2t(task, burst);
    }
    if (task.bursts.length === 0) engine.start(task);
  }
}
