import type { Timer } from '../core/clock.ts';
import { rangeOf } from './commands/block-range.ts';
import type { Connection } from './connection.ts';
import type { LogicalUnit } from './logical-unit.ts';
import type { LostConnection } from './recovery.ts';
import { ScsiTask } from './scsi-task.ts';
import type { Session } from './session.ts';

/** A sequence of Data-Out PDUs that the initiator is sending: unsolicited, or the answer to one R2T. */
export interface Burst {
  /** 0xffffffff for the unsolicited one (RFC 7143 §11.7.4). */
  readonly ttt: number;
  /** R2TSN; -1 for the unsolicited one. */
  readonly r2tSn: number;
  readonly from: number;
  readonly end: number;
  /** Where its next byte belongs, as long as the data comes in order. */
  offset: number;
  /** Bytes that came or were given up. */
  seen: number;
  dataSn: number;
}

/** A part of the data that was lost and has to be asked for again. */
export interface Hole {
  readonly offset: number;
  readonly end: number;
}

/** A Data-In PDU as it was sent. */
export interface Segment {
  readonly dataSn: number;
  readonly offset: number;
  readonly length: number;
  /** F, A and S. */
  readonly flags: number;
  readonly ttt: number;
}

/**
 * - `data`: data is still to come from the initiator
 * - `running`: the SCSI side has it: executing, delayed, held
 * - `executed`: done, and kept for the connection that it will be reassigned to
 * - `ended`: answered or aborted
 */
export type TaskState = 'data' | 'running' | 'executed' | 'ended';

/** A SCSI command as iSCSI carries it. */
export class Task extends ScsiTask {
  readonly session: Session;
  /** Null when the connection that it came over is gone: it is executed and nobody is told. */
  connection: Connection | null;
  /** The connection that it has lost and is kept for, with recovery level 2. */
  lost: LostConnection | null = null;
  readonly itt: number;
  readonly cmdSn: number;
  readonly immediate: boolean;
  /** Expected Data Transfer Length. */
  readonly edtl: number;
  readonly isRead: boolean;
  readonly isWrite: boolean;
  /** Bytes of read data that the initiator expects. */
  readonly readLength: number;
  state: TaskState = 'data';
  bursts: Burst[] = [];
  /** Where the next R2T begins. */
  solicitedTo = 0;
  /** Lost parts of the data, to be asked for before what was never asked for. */
  holes: Hole[] = [];
  /** Data-In and R2T PDUs sent, which share their numbers: ExpDataSN of the response. */
  sentPdus = 0;
  /** Data-In PDUs as they were sent, with recovery within a connection alone. */
  segments: Segment[] = [];
  /** DataSNs below it are acknowledged. */
  ackedPdus = 0;
  /** StatSN of its status, once that is sent. */
  statSn: number | null = null;
  /** What the status carries after an R-Data SNACK (§11.16.3). */
  snackTag = 0;
  /** Aborted, but the initiator has still to end the bursts that it was asked for (§11.5.1). */
  aborting = false;
  timer: Timer | null = null;
  #onEnd: (() => void)[] = [];

  constructor(
    connection: Connection,
    session: Session,
    lu: LogicalUnit | null,
    lun: number,
    command: {
      cdb: Buffer;
      itt: number;
      cmdSn: number;
      immediate: boolean;
      edtl: number;
      isRead: boolean;
      isWrite: boolean;
      /** Of the additional header segment of a command that moves data both ways. */
      bidiReadLength: number;
    },
  ) {
    super(command.cdb, session.nexus, lu, lun, command.isWrite ? command.edtl : 0);
    this.connection = connection;
    this.session = session;
    this.itt = command.itt;
    this.cmdSn = command.cmdSn;
    this.immediate = command.immediate;
    this.edtl = command.edtl;
    this.isRead = command.isRead;
    this.isWrite = command.isWrite;
    this.readLength = this.isBidirectional ? command.bidiReadLength : command.edtl;
  }

  get isBidirectional(): boolean {
    return this.isRead && this.isWrite;
  }

  /** Bytes of read data that it has. */
  get readAvailable(): number {
    return this.dataIn === null ? this.readBytes : this.dataIn.length;
  }

  /** Bytes of read data that go to the initiator. */
  get dataInBytes(): number {
    return this.failed || !this.isRead ? 0 : Math.min(this.readAvailable, this.readLength);
  }

  /** The blocks that it addresses, or null. Known from the CDB alone, so that faults can go by it. */
  get range(): { lba: number; blocks: number } | null {
    return rangeOf(this.cdb);
  }

  /** Runs `fn` when the task is over, whichever way. */
  whenEnded(fn: () => void): void {
    this.#onEnd.push(fn);
  }

  ended(): void {
    this.state = 'ended';
    this.timer?.cancel();
    const waiting = this.#onEnd;
    this.#onEnd = [];
    for (const fn of waiting) fn();
  }
}
