import type { Timer } from '../core/clock.ts';
import { rangeOf } from './commands/block-range.ts';
import type { Connection } from './connection.ts';
import type { LogicalUnit } from './logical-unit.ts';
import { ScsiTask } from './scsi-task.ts';
import type { Session } from './session.ts';

/** A sequence of Data-Out PDUs that the initiator is sending: unsolicited, or the answer to one R2T. */
export interface Burst {
  /** 0xffffffff for the unsolicited one (RFC 7143 §11.7.4). */
  readonly ttt: number;
  /** Where its next byte belongs, and where it must end. */
  offset: number;
  readonly end: number;
  dataSn: number;
}

/**
 * - `data`: data is still to come from the initiator
 * - `running`: the SCSI side has it: executing, delayed, held
 * - `ended`: answered or aborted
 */
export type TaskState = 'data' | 'running' | 'ended';

/** A SCSI command as iSCSI carries it. */
export class Task extends ScsiTask {
  readonly session: Session;
  /** Null when the connection that it came over is gone: it is executed and nobody is told. */
  connection: Connection | null;
  readonly itt: number;
  readonly cmdSn: number;
  readonly immediate: boolean;
  /** Expected Data Transfer Length. */
  readonly edtl: number;
  readonly isRead: boolean;
  readonly isWrite: boolean;
  state: TaskState = 'data';
  bursts: Burst[] = [];
  /** Where the next R2T begins. */
  solicitedTo = 0;
  r2tSn = 0;
  /** Data-In and R2T PDUs sent: ExpDataSN of the response. */
  sentPdus = 0;
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
