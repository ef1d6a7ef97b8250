import { protocolError } from './errors.ts';
import type { Run } from './status-ledger.ts';
import type { Task } from './task-table.ts';

/** PDUs of one command that may stand behind a gap. */
const AHEAD_MAX = 4096;

/** R2T that ask for bytes again, of one command: a target that never ends is given up. */
const REPEATS_MAX = 64;

/** A Data-In or R2T that came before one with a lower number. */
interface Piece {
  readonly sn: number;
  readonly offset: number;
  readonly length: number;
}

/** A status that waits for the data of its command. */
export interface HeldAnswer {
  readonly statSn: number;
  readonly complete: () => void;
}

/** What the target wants acknowledged (§11.16.2). */
export interface WantedAck {
  readonly ttt: number;
  readonly lun: Buffer;
  /** One past the Data-In that asked. */
  readonly sn: number;
}

/**
 * What one command at ErrorRecoveryLevel 1 and above still lacks. A command whose PDUs all come in order never has one.
 * `task.nextSn` and `task.moved` stand at the first gap; what came behind it is kept here.
 */
export class DataRecovery {
  readonly task: Task;
  /** SNACKs that were sent for it. */
  snacks = 0;
  /** When the last of them was. */
  askedMs = 0;
  /** The target will not send it again. */
  rejected = false;
  /** Moved to another connection: the target may count R2T anew. */
  reassigned = false;
  answer: HeldAnswer | null = null;
  ack: WantedAck | null = null;
  /** SNACK Tag that the last response has to carry; 0: none (§11.16.5). */
  snackTag = 0;
  /** Where data begins again on an R-Data SNACK: what was acknowledged by a DataACK. */
  ackedSn = 0;
  ackedBytes = 0;
  #repeats = 0;
  #ahead: Piece[] = [];
  /** One past the last number that is known to exist. */
  #endSn: number;
  /** Numbers below it were asked for already. */
  #askedSn: number;

  constructor(task: Task) {
    this.task = task;
    this.#endSn = task.nextSn;
    this.#askedSn = task.nextSn;
  }

  get complete(): boolean {
    return ((this.#endSn - this.task.nextSn) | 0) <= 0;
  }

  /** The target has sent the numbers below `end`. False: that was known. */
  exists(end: number): boolean {
    if (((end - this.#endSn) | 0) <= 0) return false;
    this.#endSn = end;
    return true;
  }

  has(sn: number): boolean {
    return ((sn - this.task.nextSn) | 0) < 0 || this.#ahead.some((piece) => piece.sn === sn);
  }

  /** A PDU came whole. `inOrder`: offsets go with the numbers. */
  accept(sn: number, offset: number, length: number, inOrder: boolean): void {
    this.exists((sn + 1) | 0);
    if (this.#ahead.length >= AHEAD_MAX) {
      throw protocolError(`more than ${AHEAD_MAX} PDUs of a command behind a gap (§7.9)`);
    }
    const { task } = this;
    const at = this.#ahead.findIndex((piece) => ((piece.sn - sn) | 0) > 0);
    const piece = { sn, offset, length };
    if (at < 0) this.#ahead.push(piece);
    else this.#ahead.splice(at, 0, piece);
    for (let next = this.#ahead[0]; next?.sn === task.nextSn; next = this.#ahead[0]) {
      if (inOrder && next.length > 0 && next.offset !== task.moved) {
        throw protocolError(`Data-In at ${next.offset}, expected ${task.moved} (§13.18)`);
      }
      this.#ahead.shift();
      task.nextSn = (task.nextSn + 1) | 0;
      task.moved += next.length;
    }
  }

  /** What is missing: all of it, or what was not asked for yet. */
  missing(all: boolean): Run[] {
    const { task } = this;
    const runs: Run[] = [];
    let from = all || ((this.#askedSn - task.nextSn) | 0) < 0 ? task.nextSn : this.#askedSn;
    const push = (end: number): void => {
      const length = (end - from) | 0;
      if (length > 0) runs.push({ from, length });
    };
    for (const piece of this.#ahead) {
      push(piece.sn);
      if (((piece.sn + 1 - from) | 0) > 0) from = (piece.sn + 1) | 0;
    }
    push(this.#endSn);
    this.#askedSn = this.#endSn;
    return runs;
  }

  /** A recovery R2T: it asks for bytes again. */
  countRepeat(): void {
    this.#repeats += 1;
    if (this.#repeats > REPEATS_MAX) {
      throw protocolError(`more than ${REPEATS_MAX} R2T of a command for bytes that were sent`);
    }
  }

  /** The target counts on from `sn`, whatever it sent on the connection before. */
  renumber(sn: number): void {
    this.task.nextSn = sn;
    this.reassigned = false;
    this.restart();
  }

  /** Forgets what came behind the gap, and the status: they come again on another connection (§11.5.6). */
  restart(): void {
    this.#ahead = [];
    this.#endSn = this.task.nextSn;
    this.#askedSn = this.task.nextSn;
    this.answer = null;
    this.ack = null;
    this.snackTag = 0;
  }

  /** Everything that is not acknowledged is sent again, in segments of another length (§11.16.3). */
  restartFromAck(snackTag: number): void {
    this.task.nextSn = this.ackedSn;
    this.task.moved = this.ackedBytes;
    this.task.movedAtTimer = Math.min(this.task.movedAtTimer, this.ackedBytes);
    this.restart();
    this.snackTag = snackTag;
  }
}
