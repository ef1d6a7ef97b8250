import type { Timer } from '../core/clock.ts';
import { At, BHS_BYTES, Bit, immediateOf, u32 } from '../iscsi/pdu/bhs.ts';
import { RESERVED_TAG, RejectReason } from '../iscsi/pdu/opcodes.ts';
import { CDB_BYTES } from '../iscsi/pdu/scsi-command.ts';
import { NO_EXTRAS, parseCommandExtras } from './ahs.ts';
import { decodeLun } from './commands/unit-info.ts';
import type { Connection } from './connection.ts';
import { type DataOutHeader, dataOutFault } from './data-out.ts';
import { Status } from './scsi-codes.ts';
import type { Session } from './session.ts';
import { type Burst, Task } from './task.ts';

/** Immediate commands of a session; they are outside of the command window, so they have a bound of their own. */
const IMMEDIATE_TASKS_MAX = 64;

/** Parts of one write that are known to be lost; one more ends the connection. */
const HOLES_MAX = 1024;

/** A sequence of Data-Out PDUs that stops is asked for again after this time, with recovery level 1 and 2 (§7.1.4.1). */
const SEQUENCE_TIMEOUT_MS = 5_000;

type Arrived = Pick<DataOutHeader, 'offset' | 'length' | 'final'>;

interface DataPart {
  readonly task: Task;
  readonly burst: Burst;
  readonly pdu: DataOutHeader;
}

/** The SCSI commands of a connection and the data that they bring: immediate, unsolicited, asked for by R2T. */
export class Transfers {
  readonly #connection: Connection;
  readonly #session: Session;
  #lastTtt = 0;
  /** What the data segment that is arriving belongs to. */
  #task: Task | null = null;
  #burst: Burst | null = null;
  #offset = 0;
  #length = 0;
  #final = false;
  #timer: Timer | null = null;
  #lastProgressMs = 0;

  constructor(connection: Connection, session: Session) {
    this.#connection = connection;
    this.#session = session;
  }

  get #recovers(): boolean {
    return this.#session.params.errorRecoveryLevel > 0;
  }

  /** A SCSI Command PDU (§11.3) that was not refused. `data`: its immediate data, when that came before its turn. */
  command(
    header: Buffer,
    at: number,
    dataLength: number,
    data: Buffer | null,
    ahs: Buffer | null,
  ): void {
    // One that had to wait may come in the midst of the data of another.
    if (data === null) this.#task = null;
    const task = this.#newTask(header, at, ahs);
    const { engine } = this.#connection;
    if (!engine.faults.strikesCommand(task)) engine.device.prepare(task);
    engine.begin(task);
    const wanted = wantedOf(task);
    if (wanted > 0) {
      task.dataOut = engine.takeData(wanted);
      if (task.dataOut === null) task.failWith(Status.TaskSetFull);
    }
    if ((header[at + At.flags]! & Bit.final) === 0) {
      const end = Math.min(this.#session.params.firstBurstLength, task.edtl);
      task.bursts.push(newBurst(RESERVED_TAG, -1, dataLength, end));
      this.#watch();
    }
    if (dataLength === 0) return this.progress(task);
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
    const part = this.#partOf(header, at, dataLength);
    if (part === null) {
      if (dataLength > 0) this.#connection.receiver.skip();
      return;
    }
    const { task, burst, pdu } = part;
    this.#expect(task, burst, pdu.offset, dataLength, pdu.final);
    if (dataLength === 0) this.dataArrived();
  }

  /** A Data-Out PDU that had to wait for the turn of its command. Other data may be arriving meanwhile. */
  parkedData(header: Buffer, data: Buffer): void {
    const part = this.#partOf(header, 0, data.length);
    if (part === null) return;
    const { task, burst, pdu } = part;
    if (task.dataOut !== null) data.copy(task.dataOut, pdu.offset);
    task.received += data.length;
    this.#advance(task, burst, pdu);
  }

  /** What a Data-Out PDU belongs to; null when its data are not wanted. */
  #partOf(header: Buffer, at: number, dataLength: number): DataPart | null {
    const task = this.#session.tasks.get(u32(header, at + At.itt));
    if (task !== undefined && task.connection !== this.#connection) {
      // §4.2.5.1: all of a task goes over one connection.
      this.#rejectData(header, at);
      return null;
    }
    // Of a task that was aborted, or answered early: the initiator may not know yet.
    if (task === undefined || task.state !== 'data') return null;
    const pdu = {
      ttt: u32(header, at + At.ttt),
      final: (header[at + At.flags]! & Bit.final) !== 0,
      offset: u32(header, at + At.bufferOffset),
      dataSn: u32(header, at + At.dataSn),
      length: dataLength,
    };
    const burst = task.bursts.find((other) => other.ttt === pdu.ttt);
    // A sequence that was given up and asked for again: the rest of it may still come.
    if (burst === undefined && this.#recovers) return null;
    if (burst !== undefined && !this.#closeGap(task, burst, pdu)) return null;
    const why = dataOutFault(task, burst, pdu, this.#session.params.dataPduInOrder);
    if (why !== null || burst === undefined) {
      // §7.9: without recovery within the command the session is over.
      this.#connection.protocolError(why ?? '', header, at);
      return null;
    }
    return { task, burst, pdu };
  }

  /** The data segment of the last header is complete. */
  dataArrived(): void {
    const task = this.#task;
    if (task === null) return;
    this.#task = null;
    if (task.state !== 'data') return;
    if (this.#burst === null) return this.#immediateArrived(task, this.#length);
    task.received += this.#length;
    this.#advance(task, this.#burst, this.#arrived);
  }

  /** The data segment of the last header came with a wrong digest: it is asked for again (§7.8). */
  dataLost(): void {
    const task = this.#task;
    const burst = this.#burst;
    this.#task = null;
    if (task === null || burst === null || task.state !== 'data') return;
    this.#addHole(task, this.#offset, this.#offset + this.#length);
    this.#advance(task, burst, this.#arrived);
  }

  get #arrived(): Arrived {
    return { offset: this.#offset, length: this.#length, final: this.#final };
  }

  #advance(task: Task, burst: Burst, { offset, length, final }: Arrived): void {
    burst.offset = offset + length;
    burst.seen += length;
    burst.dataSn += 1;
    this.#lastProgressMs = this.#connection.engine.clock.nowMs();
    if (!final) return;
    task.bursts.splice(task.bursts.indexOf(burst), 1);
    if (burst.ttt === RESERVED_TAG) task.solicitedTo = burst.offset;
    this.progress(task);
  }

  /** PDUs before this one are missing: true when it may be taken, and what they had is asked for again. */
  #closeGap(task: Task, burst: Burst, pdu: DataOutHeader): boolean {
    if (!this.#recovers || !this.#session.params.dataPduInOrder) return true;
    if (pdu.dataSn < burst.dataSn) return false;
    if (pdu.dataSn > burst.dataSn && pdu.offset > burst.offset && pdu.offset <= burst.end) {
      this.#addHole(task, burst.offset, pdu.offset);
      burst.seen += pdu.offset - burst.offset;
      burst.offset = pdu.offset;
      burst.dataSn = pdu.dataSn;
    }
    return true;
  }

  #addHole(task: Task, offset: number, end: number): void {
    task.holes.push({ offset, end });
    if (task.holes.length > HOLES_MAX) this.#connection.drop('too many lost data PDUs');
  }

  #rejectData(header: Buffer, at: number): void {
    const copy = Buffer.from(header.subarray(at, at + BHS_BYTES));
    this.#connection.sender.reject(RejectReason.InvalidPduField, copy, this.#session);
  }

  #immediateArrived(task: Task, length: number): void {
    task.received += length;
    task.solicitedTo = length;
    this.progress(task);
  }

  #expect(task: Task, burst: Burst | null, at: number, length: number, final: boolean): void {
    this.#task = task;
    this.#burst = burst;
    this.#offset = at;
    this.#length = length;
    this.#final = final;
    if (length > 0) this.#connection.receiveInto(task, at);
  }

  /** Why a command is rejected, before its CmdSN counts as received (§7.3), or null. */
  refusal(header: Buffer, at: number, dataLength: number, ahs: Buffer | null): RejectReason | null {
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
    const extras = ahs === null ? NO_EXTRAS : parseCommandExtras(ahs);
    if (typeof extras === 'string') return RejectReason.InvalidPduField;
    // §11.2.2.4: a read length is for commands that move data both ways.
    const isBidirectional = isWrite && (flags & Bit.read) !== 0;
    if ((extras.bidiReadLength !== null) !== isBidirectional) return RejectReason.InvalidPduField;
    // §11.3.1: W and F may not both be 0. §13.10: unsolicited data only with InitialR2T=No.
    if (!isFinal && (!isWrite || params.initialR2T)) return RejectReason.ProtocolError;
    if (dataLength === 0) return null;
    const edtl = u32(header, at + At.edtl);
    if (!isWrite || !params.immediateData) return RejectReason.ProtocolError;
    return dataLength > Math.min(edtl, params.firstBurstLength) ? RejectReason.ProtocolError : null;
  }

  #newTask(header: Buffer, at: number, ahs: Buffer | null): Task {
    const flags = header[at + At.flags]!;
    const lun = decodeLun(header, at + At.lun);
    const lu = this.#connection.engine.device.units.get(lun) ?? null;
    const parsed = ahs === null ? NO_EXTRAS : parseCommandExtras(ahs);
    const { cdbRest, bidiReadLength } = typeof parsed === 'string' ? NO_EXTRAS : parsed;
    const cdb = Buffer.from(header.subarray(at + At.cdb, at + At.cdb + CDB_BYTES));
    return new Task(this.#connection, this.#session, lu, lun, {
      cdb: cdbRest === null ? cdb : Buffer.concat([cdb, cdbRest]),
      itt: u32(header, at + At.itt),
      cmdSn: u32(header, at + At.cmdSn),
      immediate: immediateOf(header, at),
      edtl: u32(header, at + At.edtl),
      isRead: (flags & Bit.read) !== 0,
      isWrite: (flags & Bit.write) !== 0,
      bidiReadLength: bidiReadLength ?? 0,
    });
  }

  /** Asks for more, or passes the task on when nothing is missing. */
  progress(task: Task): void {
    const { engine } = this.#connection;
    if (task.state !== 'data' || task.bursts[0]?.ttt === RESERVED_TAG) return;
    if (task.aborting) {
      if (task.bursts.length === 0) engine.abort(task);
      return;
    }
    const { maxOutstandingR2T, maxBurstLength } = this.#session.params;
    const wanted = wantedOf(task);
    while (task.bursts.length < maxOutstandingR2T) {
      const hole = task.holes.shift();
      if (hole !== undefined) {
        const end = Math.min(hole.end, hole.offset + maxBurstLength, wanted);
        if (end < Math.min(hole.end, wanted)) task.holes.unshift({ offset: end, end: hole.end });
        if (hole.offset < end) this.#ask(task, hole.offset, end);
      } else if (task.solicitedTo < wanted) {
        const end = Math.min(task.solicitedTo + maxBurstLength, wanted);
        this.#ask(task, task.solicitedTo, end);
        task.solicitedTo = end;
      } else break;
    }
    if (task.bursts.length === 0) engine.start(task);
  }

  #ask(task: Task, offset: number, end: number): void {
    this.#lastTtt = (this.#lastTtt + 1) % RESERVED_TAG;
    const burst = newBurst(this.#lastTtt, task.sentPdus++, offset, end);
    task.bursts.push(burst);
    this.#connection.sender.r2t(task, burst);
    this.#watch();
  }

  /** The task comes from another connection: what it still lacks is asked for over this one (§7.2.2). */
  adopt(task: Task, expDataSn: number): void {
    const { dataPduInOrder } = this.#session.params;
    for (const { offset, from, end } of task.bursts) {
      // Out of order, what is there of it is not known.
      const start = dataPduInOrder ? offset : from;
      if (start < end) task.holes.push({ offset: start, end });
      task.solicitedTo = Math.max(task.solicitedTo, end);
    }
    task.bursts = [];
    task.sentPdus = Math.min(expDataSn, task.sentPdus);
    this.progress(task);
  }

  #watch(): void {
    if (!this.#recovers || this.#timer !== null) return;
    const { clock } = this.#connection.engine;
    this.#lastProgressMs = clock.nowMs();
    this.#timer = clock.after(SEQUENCE_TIMEOUT_MS, () => this.#askAgain());
  }

  /** Nothing came for a long time: whatever is open is given up and asked for again. */
  #askAgain(): void {
    this.#timer = null;
    const open = [...this.#session.tasks.values()].filter(
      (task) =>
        task.connection === this.#connection && task.state === 'data' && task.bursts.length > 0,
    );
    if (open.length === 0 || this.#connection.over) return;
    const isIdle =
      this.#connection.engine.clock.nowMs() - this.#lastProgressMs >= SEQUENCE_TIMEOUT_MS;
    for (const task of isIdle ? open : []) {
      // The data segment that is arriving belongs to one of them.
      if (task === this.#task) continue;
      this.adopt(task, task.sentPdus);
    }
    this.#watch();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}

/** Bytes that are to be collected: what the command needs, as far as the initiator has it. */
function wantedOf(task: Task): number {
  if (task.failed || !task.isWrite) return 0;
  return Math.min(task.dataOutBytes, task.edtl);
}

function newBurst(ttt: number, r2tSn: number, from: number, end: number): Burst {
  return { ttt, r2tSn, from, end, offset: from, seen: 0, dataSn: 0 };
}
