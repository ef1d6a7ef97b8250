import type { Timer } from '../core/clock.ts';
import type { OrionError } from '../core/errors.ts';
import type { Connection } from './connection.ts';
import type { DataRecovery, WantedAck } from './data-recovery.ts';
import { iscsiErrors } from './errors.ts';
import { NO_LUN } from './pdu/bhs.ts';
import { Opcode, RESERVED_TAG, SnackType } from './pdu/opcodes.ts';
import type { IscsiSession } from './session.ts';
import type { Run, StatusLedger } from './status-ledger.ts';
import { Direction, TaskState } from './task-table.ts';

/** What was asked for and did not come within this is asked for again. */
const SNACK_WAIT_MS = 1000;

/** SNACKs for one command, and rounds of them for status, before the connection is given up. */
const SNACKS_MAX = 8;

/** Gaps of one command that are asked for one by one; with more, all from the first one on is. */
const RUNS_MAX = 4;

/** Asks the target of one connection for what is missing, again and again within bounds (RFC 7143 §11.16). */
export class SnackRequests {
  readonly #session: IscsiSession;
  readonly #connection: Connection;
  readonly #ledger: StatusLedger;
  /** Commands that lack something. */
  readonly #lacking = new Set<DataRecovery>();
  #statusRounds = 0;
  /** Status below it was asked for already. */
  #statusAsked: number;
  #timer: Timer | null = null;

  constructor(session: IscsiSession, connection: Connection, ledger: StatusLedger) {
    this.#session = session;
    this.#connection = connection;
    this.#ledger = ledger;
    this.#statusAsked = ledger.expected;
  }

  /** Nothing is missing of this command, or nobody asks for it any more. */
  drop(recovery: DataRecovery): void {
    this.#lacking.delete(recovery);
  }

  /** DataACK: everything before `nextSn` came (§11.16.2). */
  acknowledge(ack: WantedAck, nextSn: number): void {
    this.#snack(SnackType.DataAck, ack.lun, RESERVED_TAG, ack.ttt, nextSn, 0);
  }

  /** Asks for what is newly known to be missing: of one command, and of the statuses. */
  pursue(recovery: DataRecovery | null): void {
    if (recovery !== null && !recovery.complete && !recovery.rejected) {
      this.#lacking.add(recovery);
      this.askFor(recovery, recovery.missing(false));
    }
    if (this.#ledger.complete) this.#statusRounds = 0;
    else this.#askForStatus(false);
    const waits = this.#lacking.size > 0 || !this.#ledger.complete;
    if (waits && this.#timer === null && !this.#connection.dead) this.#arm();
  }

  #arm(): void {
    this.#timer = this.#session.clock.after(SNACK_WAIT_MS, () => this.#onTimer());
  }

  /** What was asked for long enough ago is asked for again. */
  #onTimer(): void {
    this.#timer = null;
    if (this.#connection.dead) return;
    const dueMs = this.#session.clock.nowMs() - SNACK_WAIT_MS;
    try {
      for (const recovery of [...this.#lacking]) {
        if (this.#isOver(recovery)) continue;
        if (recovery.askedMs <= dueMs) this.askFor(recovery, recovery.missing(true));
      }
      if (!this.#ledger.complete) this.#askForStatus(true);
    } catch (error) {
      this.#session.lost(this.#connection, error as OrionError);
      return;
    }
    if (this.#lacking.size > 0 || !this.#ledger.complete) this.#arm();
  }

  /** Its owner has given the command up: its data are of no interest, and its status is not waited for. */
  #isOver(recovery: DataRecovery): boolean {
    const { task, answer } = recovery;
    const current = task.recovery === recovery;
    if (current && task.state === TaskState.Sent) return false;
    this.#lacking.delete(recovery);
    if (answer === null) return true;
    this.#connection.expStatSn = this.#ledger.settle(answer.statSn);
    if (current && task.state === TaskState.Abandoned) {
      this.#session.tasks.table.releaseAbandoned(task);
    }
    return true;
  }

  askFor(recovery: DataRecovery, runs: readonly Run[]): void {
    const first = runs[0];
    if (first === undefined) return;
    const { task } = recovery;
    recovery.snacks += 1;
    recovery.askedMs = this.#session.clock.nowMs();
    if (recovery.snacks > SNACKS_MAX) throw notResent('data were asked for again and again (§7.8)');
    if (
      task.direction === Direction.Read &&
      task.segmentBytes !== this.#connection.ownSegmentBytes
    ) {
      this.#askForAll(recovery);
      return;
    }
    const some = runs.length > RUNS_MAX ? [{ from: first.from, length: 0 }] : runs;
    for (const { from, length } of some) {
      this.#snack(SnackType.DataOrR2t, NO_LUN, task.itt, RESERVED_TAG, from, length);
    }
  }

  /** §11.16.3: the segments would not be those that were sent. */
  #askForAll(recovery: DataRecovery): void {
    const { task, answer } = recovery;
    if (!this.#session.params.readsInOrder && recovery.ackedBytes > 0) {
      throw notResent('what was acknowledged of a read is not known any more (§11.16.3)');
    }
    if (answer !== null) this.#ledger.forget(answer.statSn);
    task.segmentBytes = this.#connection.ownSegmentBytes;
    task.ranges = null;
    recovery.restartFromAck(recovery.snacks);
    this.#snack(SnackType.RData, NO_LUN, task.itt, recovery.snackTag, 0, 0);
  }

  #askForStatus(again: boolean): void {
    const runs = this.#ledger
      .missing()
      .filter(({ from }) => again || ((from - this.#statusAsked) | 0) >= 0);
    const last = runs.at(-1);
    if (last === undefined) return;
    if (again) this.#statusRounds += 1;
    if (this.#statusRounds > SNACKS_MAX) {
      throw notResent('a status was asked for again and again (§7.8)');
    }
    this.#statusAsked = (last.from + last.length) | 0;
    for (const { from, length } of runs) {
      this.#snack(SnackType.Status, NO_LUN, RESERVED_TAG, RESERVED_TAG, from, length);
    }
  }

  #snack(
    type: SnackType,
    lun: Buffer,
    itt: number,
    ttt: number,
    begRun: number,
    runLength: number,
  ): void {
    const { expStatSn } = this.#connection;
    this.#connection.answer({
      opcode: Opcode.SnackRequest,
      dataSegmentLength: 0,
      type,
      lun,
      itt: itt >>> 0,
      ttt: ttt >>> 0,
      expStatSn,
      begRun: begRun >>> 0,
      runLength,
    });
  }
}

/** The connection is of no use any more; what becomes of the session depends on its recovery level. */
export function notResent(message: string): OrionError {
  return iscsiErrors.make('ISCSI_NOT_RESENT', { message });
}
