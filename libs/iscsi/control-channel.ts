import type { Clock } from '../core/clock.ts';
import type { OrionError } from '../core/errors.ts';
import type { Connection } from './connection.ts';
import type { ControlAnswer, ControlRequest } from './control-request.ts';
import { iscsiErrors } from './errors.ts';
import type { IscsiSession } from './session.ts';
import { type Task, TaskState } from './task-table.ts';

/**
 * Immediate requests of a connection that are out at one time; more wait their turn. §4.2.2.1: a target need not take
 * more than one task management request and one other.
 */
const IMMEDIATE_MAX = 4;

/** Times that a request is sent again which the target had no room for, and the pause before the first of them. */
const RESENDS_MAX = 8;
const RESEND_PAUSE_MS = 20;

export interface AskOptions {
  /** For all of it, waiting for a turn included. */
  readonly timeoutMs: number;
  readonly late: () => OrionError;
  /** Goes in front of all others: resets and logouts. */
  readonly urgent?: boolean;
}

/** The requests of one connection that are not SCSI commands: all of them immediate, each with a tag of its own. */
export class ControlChannel {
  readonly connection: Connection;
  readonly #session: IscsiSession;
  readonly #clock: Clock;
  readonly #waiting: (() => void)[] = [];
  #out = 0;
  #sealed = false;

  constructor(session: IscsiSession, connection: Connection) {
    this.#session = session;
    this.#clock = session.clock;
    this.connection = connection;
  }

  /** What every immediate request carries: the next CmdSN without taking it, and what has arrived (§4.2.2.1). */
  get numbers(): { cmdSn: number; expStatSn: number } {
    return { cmdSn: this.#session.cmdSn, expStatSn: this.connection.expStatSn };
  }

  /** §11.14: after the request for the end of the connection no new one is sent. */
  seal(): void {
    this.#sealed = true;
  }

  get sealed(): boolean {
    return this.#sealed;
  }

  /** Sends a request and waits for its answer. */
  async ask(request: ControlRequest, options: AskOptions): Promise<ControlAnswer> {
    const untilMs = this.#clock.nowMs() + options.timeoutMs;
    if (options.urgent !== true && this.#out >= IMMEDIATE_MAX) await this.#turn(options);
    this.#out += 1;
    try {
      return await this.#askNow(request, untilMs - this.#clock.nowMs(), options.late);
    } finally {
      this.#out -= 1;
      this.#waiting.shift()?.();
    }
  }

  #turn({ timeoutMs, late }: AskOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = (): void => {
        timer.cancel();
        resolve();
      };
      const timer = this.#clock.after(timeoutMs, () => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1);
        reject(late());
      });
      this.#waiting.push(go);
    });
  }

  async #askNow(
    request: ControlRequest,
    timeoutMs: number,
    late: () => OrionError,
  ): Promise<ControlAnswer> {
    const session = this.#session;
    if (this.#sealed) throw iscsiErrors.make('ISCSI_SESSION_CLOSED');
    const task = session.takeTask(request, true);
    if (task === null) throw session.refusal();
    task.state = TaskState.Sent;
    task.connection = this.connection;
    task.firstSeq = this.connection.out.seq;
    const { itt } = task;
    request.send(itt >>> 0);
    const timer = this.#clock.after(timeoutMs, () => {
      if (task.itt === itt) session.abandon(task, late());
    });
    try {
      return await request.promise;
    } finally {
      timer.cancel();
    }
  }

  /**
   * The target had no room for this request (§11.17.1, reasons 06 and 0a): it is sent again after a pause that grows, as long
   * as somebody waits for it.
   */
  resendLater(task: Task, request: ControlRequest, error: OrionError): void {
    if (request.resends === RESENDS_MAX) {
      this.#session.abandon(task, error);
      return;
    }
    const pauseMs = RESEND_PAUSE_MS * 2 ** request.resends;
    request.resends += 1;
    const { itt } = task;
    this.#clock.after(pauseMs, () => {
      if (task.itt === itt && task.state === TaskState.Sent && task.owner === request) {
        request.send(itt >>> 0);
      }
    });
  }
}

/** The answer of a target to a request that it refuses. */
export function rejected(pdu: string, reason: string): OrionError {
  return iscsiErrors.make('ISCSI_REJECTED', { message: `the target rejects ${pdu}: ${reason}` });
}
