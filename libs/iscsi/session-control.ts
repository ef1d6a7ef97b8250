import { sleep } from '../core/clock.ts';
import type { OrionError } from '../core/errors.ts';
import { parseSense, type Sense } from '../scsi/sense.ts';
import type { Connection } from './connection.ts';
import { ControlRequest } from './control-request.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import { asyncMessage } from './pdu/async-message.ts';
import { At, Bit, i32, NO_LUN, u16 } from './pdu/bhs.ts';
import { logoutResponse } from './pdu/logout-response.ts';
import { nopIn } from './pdu/nop-in.ts';
import {
  AsyncEvent,
  LogoutAnswer,
  LogoutReason,
  nameOf,
  Opcode,
  RESERVED_TAG,
  RejectReason,
  TaskFunction,
} from './pdu/opcodes.ts';
import { reject } from './pdu/reject.ts';
import { taskManagementResponse } from './pdu/task-management-response.ts';
import { textResponse } from './pdu/text-response.ts';
import type { IscsiSession } from './session.ts';
import type { ConnectionStatus } from './session-connection.ts';
import { type Task, TaskState } from './task-table.ts';
import { TEXT_BYTES_MAX } from './text.ts';

/** Answers to the target's pings that may wait in the socket; a target that does not read them is given up. */
const UNSENT_PINGS_MAX = 256;

/** Parts of one text answer. */
const TEXT_ROUNDS_MAX = 64;

/** How often the end of the last command is looked for when the target asked for a logout. */
const DRAIN_POLL_MS = 20;

/** A target that asks for a logout gets it within this at the latest, and within its own Parameter3. */
const LOGOUT_WAIT_MS_MAX = 3000;

const LOGOUT_TIMEOUT_MS = 2000;

export type SessionEvent =
  | { readonly kind: 'scsi'; readonly lun: Buffer; readonly sense: Sense | null }
  | { readonly kind: 'logout-requested' }
  | { readonly kind: 'async'; readonly event: number; readonly vendorCode: number }
  | { readonly kind: 'reject'; readonly reason: string; readonly pdu: string }
  /** A connection beside the first came, or did not, or was lost; null: for no bad reason. */
  | ({ readonly kind: 'connection'; readonly reason: string | null } & ConnectionStatus);

export interface TmfOptions {
  readonly timeoutMs: number;
  /** ABORT TASK and TASK REASSIGN: the task that it is about. */
  readonly referencedTag?: number;
  readonly refCmdSn?: number;
}

/** Everything of a session that is not a SCSI command: pings, task management, text, logout, Async, Reject. */
export class SessionControl {
  readonly #session: IscsiSession;
  readonly #listeners: ((event: SessionEvent) => void)[] = [];
  #loggingOut = false;

  constructor(session: IscsiSession) {
    this.#session = session;
  }

  /** The connection that requests of the whole session go over; null while there is none. */
  get connection(): Connection | null {
    return this.#session.members.live[0] ?? null;
  }

  onEvent(fn: (event: SessionEvent) => void): void {
    this.#listeners.push(fn);
  }

  /** Sends a request with a task tag of its own over `connection` and waits for its answer. */
  async ask(
    connection: Connection | null,
    answer: Opcode,
    timeoutMs: number,
    timeoutError: () => OrionError,
    send: (itt: number, connection: Connection) => void,
  ): Promise<{ readonly header: Buffer; readonly data: Buffer }> {
    if (connection === null) throw iscsiErrors.make('ISCSI_CONNECTION_LOST');
    const request = new ControlRequest(answer);
    const task = this.#session.takeTask(request, true);
    if (task === null) throw this.#session.refusal();
    task.state = TaskState.Sent;
    task.connection = connection;
    task.firstSeq = connection.out.seq;
    const { itt } = task;
    send(itt >>> 0, connection);
    const timer = this.#session.clock.after(timeoutMs, () => {
      if (task.itt === itt) this.#session.abandonControl(task, timeoutError());
    });
    try {
      return await request.promise;
    } finally {
      timer.cancel();
    }
  }

  /** §11.5. Resolves with the response code; rejects when there is none. */
  async taskManagement(fn: number, lun: Buffer, options: TmfOptions): Promise<number> {
    const name = nameOf(TaskFunction, fn);
    const lost = (): OrionError =>
      iscsiErrors.make('ISCSI_TMF_FAILED', {
        message: `${name} was not answered within ${options.timeoutMs} ms`,
      });
    const { header } = await this.ask(
      this.#connectionOf(options.referencedTag),
      Opcode.TaskManagementResponse,
      options.timeoutMs,
      lost,
      (itt, connection) => {
        connection.send({
          opcode: Opcode.TaskManagementRequest,
          dataSegmentLength: 0,
          immediate: true,
          function: fn,
          lun,
          itt,
          referencedTag: options.referencedTag ?? RESERVED_TAG,
          cmdSn: this.#session.cmdSn,
          expStatSn: connection.expStatSn,
          refCmdSn: options.refCmdSn ?? 0,
          expDataSn: 0,
        });
      },
    );
    return taskManagementResponse.decode(header, 0).response;
  }

  /** §11.5.1: a function for one task goes over the connection of that task. */
  #connectionOf(referencedTag: number | undefined): Connection | null {
    if (referencedTag === undefined) return this.connection;
    return this.#session.findTask(referencedTag | 0)?.connection ?? this.connection;
  }

  async logout(timeoutMs: number): Promise<void> {
    const session = this.#session;
    if (session.state === 'closed') return;
    if (this.#loggingOut) return new Promise((resolve) => session.onClosed(() => resolve()));
    this.#loggingOut = true;
    session.beginClosing();
    await this.#logout(timeoutMs, iscsiErrors.make('ISCSI_SESSION_CLOSED'));
  }

  async #logout(timeoutMs: number, cause: OrionError): Promise<void> {
    const session = this.#session;
    const late = (): OrionError => iscsiErrors.make('ISCSI_LOGOUT_TIMEOUT');
    const send = (itt: number, connection: Connection): void =>
      connection.send({
        opcode: Opcode.LogoutRequest,
        dataSegmentLength: 0,
        immediate: true,
        reason: LogoutReason.CloseSession,
        itt,
        cid: 0,
        cmdSn: session.cmdSn,
        expStatSn: connection.expStatSn,
      });
    try {
      session.members.beginLogout();
      const { header } = await this.ask(
        this.connection,
        Opcode.LogoutResponse,
        timeoutMs,
        late,
        send,
      );
      const { response } = logoutResponse.decode(header, 0);
      if (response !== LogoutAnswer.Closed) {
        throw iscsiErrors.make('ISCSI_LOGOUT_TIMEOUT', {
          message: `the target answers the logout with ${nameOf(LogoutAnswer, response)}`,
        });
      }
      session.members.end();
    } finally {
      session.destroy(cause);
    }
  }

  /** §11.10, §11.11: an answer in several parts is asked for part by part. */
  async text(request: Buffer, timeoutMs: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let bytes = 0;
    let ttt = RESERVED_TAG;
    let lun = NO_LUN;
    const { connection } = this; // the parts of an answer come over one
    const late = (): OrionError =>
      iscsiErrors.make('ISCSI_CONNECTION_LOST', { message: 'the text request was not answered' });
    for (let round = 0; round < TEXT_ROUNDS_MAX; round++) {
      const body = round === 0 ? request : Buffer.alloc(0);
      const send = (itt: number, { expStatSn }: Connection): void => {
        const { cmdSn } = this.#session;
        connection?.send(
          {
            opcode: Opcode.TextRequest,
            dataSegmentLength: 0,
            immediate: true,
            final: true,
            continue: false,
            lun,
            itt,
            ttt,
            cmdSn,
            expStatSn,
          },
          body,
        );
      };
      const { header, data } = await this.ask(
        connection,
        Opcode.TextResponse,
        timeoutMs,
        late,
        send,
      );
      const response = textResponse.decode(header, 0);
      const reason = textResponse.invalidReason(response);
      if (reason !== null) throw this.#violated(reason);
      bytes += data.length;
      if (bytes > TEXT_BYTES_MAX) throw this.#violated('an endless text answer (§6.1)');
      parts.push(data);
      if (response.final) return Buffer.concat(parts);
      ({ ttt, lun } = response);
    }
    throw this.#violated(`a text answer in more than ${TEXT_ROUNDS_MAX} parts (§11.11)`);
  }

  #violated(reason: string): OrionError {
    const error = protocolError(reason);
    this.#session.destroy(error);
    return error;
  }

  /** §11.19: a ping of the target, or only news of the window. */
  onTargetPing(connection: Connection, header: Buffer): void {
    const ping = nopIn.decode(header, 0);
    if (ping.ttt === RESERVED_TAG) return;
    const { out } = connection;
    if (out.flushedSeq >= connection.pingSeq) connection.pingsUnsent = 0;
    connection.pingsUnsent += 1;
    connection.pingSeq = out.seq;
    if (connection.pingsUnsent > UNSENT_PINGS_MAX) {
      throw protocolError('the target pings but does not read our answers (§11.19)');
    }
    connection.send({
      opcode: Opcode.NopOut,
      dataSegmentLength: 0,
      immediate: true,
      lun: ping.lun,
      itt: RESERVED_TAG,
      ttt: ping.ttt,
      cmdSn: this.#session.cmdSn,
      expStatSn: connection.expStatSn,
    });
  }

  /** Pings the target. That the answer is late or lost shows in the silence. */
  ping(connection: Connection): void {
    const timeoutMs = this.#session.timeouts.nopTimeoutMs * 2;
    const late = (): OrionError => iscsiErrors.make('ISCSI_NOP_TIMEOUT');
    const send = (itt: number): void =>
      connection.send({
        opcode: Opcode.NopOut,
        dataSegmentLength: 0,
        immediate: true,
        lun: NO_LUN,
        itt,
        ttt: RESERVED_TAG,
        cmdSn: this.#session.cmdSn,
        expStatSn: connection.expStatSn,
      });
    this.ask(connection, Opcode.NopIn, timeoutMs, late, send).catch(() => {});
  }

  /** An Asynchronous Message or a Reject. */
  onNotice(header: Buffer, data: Buffer): void {
    if ((header[0]! & Bit.opcodeMask) === Opcode.Reject) this.#onReject(header, data);
    else this.#onAsync(header, data);
  }

  /** §11.9.1. */
  #onAsync(header: Buffer, data: Buffer): void {
    const message = asyncMessage.decode(header, 0);
    switch (message.event) {
      case AsyncEvent.ScsiEvent: {
        const length = data.length >= 2 ? u16(data, 0) : 0;
        if (length > data.length - 2) throw protocolError('a SenseLength too long (§11.9.4)');
        this.emit({
          kind: 'scsi',
          lun: message.lun,
          sense: parseSense(data.subarray(2, 2 + length)),
        });
        return;
      }
      case AsyncEvent.LogoutRequested:
      case AsyncEvent.RenegotiationRequested:
        // Event 4 wants a renegotiation or a logout; we have nothing to negotiate anew.
        this.emit({ kind: 'logout-requested' });
        this.#logoutForTarget(message.parameter3 * 1000);
        return;
      case AsyncEvent.ConnectionDropped:
      case AsyncEvent.AllConnectionsDropped:
        throw iscsiErrors.make('ISCSI_DROPPED_BY_TARGET', {
          message: 'the target says that it drops the connection',
          fields: { time2Wait: message.parameter2, time2Retain: message.parameter3 },
        });
      case AsyncEvent.TasksTerminated:
        // Belongs to FastAbort, which we do not offer (§13.23).
        throw protocolError('tasks are terminated as if FastAbort were negotiated (§11.9.1)');
      default:
        this.emit({ kind: 'async', event: message.event, vendorCode: message.vendorCode });
    }
  }

  /** Lets what was sent come to its end, within bounds, then logs out as the target wishes. */
  #logoutForTarget(withinMs: number): void {
    if (this.#loggingOut) return;
    this.#loggingOut = true;
    const session = this.#session;
    session.beginClosing();
    const cause = iscsiErrors.make('ISCSI_DROPPED_BY_TARGET', {
      message: 'the target asked for a logout',
    });
    const run = async (): Promise<void> => {
      const until = session.clock.nowMs() + Math.min(withinMs / 2, LOGOUT_WAIT_MS_MAX);
      while (session.stats.inflight > 0 && session.clock.nowMs() < until) {
        await sleep(session.clock, DRAIN_POLL_MS);
      }
      await this.#logout(LOGOUT_TIMEOUT_MS, cause);
    };
    run().catch(() => session.destroy(cause)); // the session has ended either way
  }

  /** §11.17, §7.3. What becomes of the PDU that the target refuses depends on the reason. */
  #onReject(header: Buffer, data: Buffer): void {
    const message = reject.decode(header, 0);
    const wrong = reject.invalidReason(message);
    if (wrong !== null) throw protocolError(wrong);
    const opcode = data[0]! & 0x3f;
    const reason = nameOf(RejectReason, message.reason);
    const pdu = nameOf(Opcode, opcode);
    this.emit({ kind: 'reject', reason, pdu });
    const error = iscsiErrors.make('ISCSI_REJECTED', {
      message: `the target rejects ${pdu}: ${reason}`,
    });
    switch (message.reason) {
      case RejectReason.CommandNotSupported:
      case RejectReason.ImmediateCommandReject:
      case RejectReason.InvalidPduField:
      case RejectReason.LongOperationReject:
        // Never instantiated: there will be no other answer.
        if (opcode !== Opcode.DataOut) this.#giveUpRejected(i32(data, At.itt), error);
        return;
      case RejectReason.DataDigestError:
        return; // the task gets its own answer (§7.3)
      default:
        throw protocolError(`the target rejects ${pdu}: ${reason} (§11.17.1)`);
    }
  }

  #giveUpRejected(itt: number, error: OrionError): void {
    const task: Task | null = this.#session.findTask(itt);
    if (task === null) return;
    if (task.owner instanceof ControlRequest) this.#session.abandonControl(task, error);
    else this.#session.abandon(task, error);
  }

  emit(event: SessionEvent): void {
    for (const fn of this.#listeners) fn(event);
  }
}
