import type { Clock } from '../core/clock.ts';
import { isOrionError, type OrionError } from '../core/errors.ts';
import type { Rng } from '../core/rng.ts';
import { bytesMoved, getsMoreTime } from './command-time.ts';
import { CommandWindow } from './command-window.ts';
import type { Connection, ConnectionHandler } from './connection.ts';
import { ConnectionRecovery } from './connection-recovery.ts';
import { ConnectionSet } from './connection-set.ts';
import { SessionPhase } from './connection-state.ts';
import type { ControlChannel } from './control-channel.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import { sendExtendedCommand, serveExtendedR2t } from './extended-command.ts';
import { Keepalive } from './keepalive.ts';
import type { LoginResult } from './login.ts';
import { At, BHS_BYTES, Bit, i32, u32 } from './pdu/bhs.ts';
import { nameOf, Opcode, RESERVED_TAG, type TaskFunction } from './pdu/opcodes.ts';
import { Retransmission } from './retransmission.ts';
import type { ConnectionStatus, SessionConnection } from './session-connection.ts';
import { SessionControl, type SessionEvent } from './session-control.ts';
import { connectionLost, lossError, placed } from './session-errors.ts';
import type { SessionTimeouts } from './session-options.ts';
import { type SessionInit, SessionState, type SessionStats } from './session-types.ts';
import { Settlement } from './settlement.ts';
import { StrictReceiver } from './strict-receiver.ts';
import type { TmfAnswer, TmfOptions } from './task-management.ts';
import { type Task, type TaskOwner, TaskState } from './task-table.ts';
import { sendCommand, serveR2t, type TransferParams } from './transfer.ts';

const NO_TAG = RESERVED_TAG | 0;

/** Errors that are about one connection, and not about the target. */
const CONNECTION_FAILURES = new Set([
  'ISCSI_DIGEST_HEADER',
  'ISCSI_DIGEST_DATA',
  'ISCSI_NOT_RESENT',
  'ISCSI_CONNECTION_DROPPED',
]);

export { SessionState };

/**
 * A normal or discovery session in full feature phase, on one connection or several. It never opens another session by
 * itself: when it is lost it stays lost, and whoever has the authority opens another one. At ErrorRecoveryLevel 0 any
 * violation by the target, and any break of a connection, ends it with the first cause (§7.14 c).
 */
export class IscsiSession {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly timeouts: SessionTimeouts;
  readonly targetName: string;
  readonly isid: Buffer;
  readonly tsih: number;
  readonly portal: string;
  readonly remoteTpgt: number;
  readonly openedAtMs: number;
  readonly login: LoginResult;
  /** The target wants no more data for what it is asked to abort (§4.2.3.4); a profile may say so later. */
  stopDataOnAbort: boolean;
  /** A logout that is answered has ended the commands of its connection (§11.15); a profile may say that it has not. */
  logoutEndsCommands = true;
  /** With several connections, not to be opened anew before so much time has gone since it ended; a profile may say so. */
  reopenMs = 0;
  readonly stats: SessionStats;
  /** For the parts of a session only, like `tasks` and `members`. */
  readonly window: CommandWindow;
  readonly tasks: Settlement;
  readonly members: ConnectionSet;
  readonly params: TransferParams;
  readonly #control: SessionControl;
  readonly #receiver: ConnectionHandler;
  readonly #recovery: ConnectionRecovery;
  #state: SessionState = SessionState.Open;
  #cause: Error | null = null;
  #closedListeners: ((cause: Error) => void)[] = [];

  constructor(connection: Connection, login: LoginResult, init: SessionInit) {
    this.clock = init.clock;
    this.rng = init.rng;
    this.timeouts = init.timeouts;
    this.stopDataOnAbort = init.stopDataOnAbort;
    this.targetName = init.targetName;
    this.isid = init.isid;
    this.login = login;
    this.tsih = login.tsih;
    this.remoteTpgt = login.tpgt;
    this.portal = connection.remote;
    this.openedAtMs = init.clock.nowMs();
    this.window = new CommandWindow(init.cmdSn, login.expCmdSn, login.maxCmdSn);
    this.params = {
      initialR2t: login.params.InitialR2T,
      immediateData: login.params.ImmediateData,
      firstBurstBytes: login.params.FirstBurstLength,
      maxBurstBytes: login.params.MaxBurstLength,
      readsInOrder: login.params.DataPDUInOrder && login.params.DataSequenceInOrder,
      writesInOrder: login.params.DataSequenceInOrder,
      recovers: login.params.ErrorRecoveryLevel > 0,
    };
    this.tasks = new Settlement(init.clock, (task) => this.#onExpired(task));
    this.stats = this.tasks.stats;
    this.members = new ConnectionSet(this, init.opener);
    this.#control = new SessionControl(this);
    this.#receiver = new StrictReceiver(this);
    this.#recovery = new ConnectionRecovery(this);
    this.adopt(this.members.lead(connection.cid, init.address), connection, login);
  }

  get state(): SessionState {
    return this.#state;
  }

  /** The state of §8.3.1. */
  get phase(): SessionPhase {
    if (this.#state === SessionState.Closed) return SessionPhase.Free;
    return this.members.live.length === 0 ? SessionPhase.Failed : SessionPhase.LoggedIn;
  }

  /** The next CmdSN, signed (§4.2.2.1). */
  get cmdSn(): number {
    return this.window.cmdSn;
  }

  /** Why it ended; null while it has not. */
  get cause(): Error | null {
    return this.#cause;
  }

  /** Its connections, with those that are being opened or were lost. */
  connections(): ConnectionStatus[] {
    return this.members.status();
  }

  /** Called once when the session is over, with the first cause. Called at once when it is over already. */
  onClosed(fn: (cause: Error) => void): void {
    if (this.#cause !== null) fn(this.#cause);
    else this.#closedListeners.push(fn);
  }

  /** What the target says on its own account, and other things that are worth a line in a log. */
  onEvent(fn: (event: SessionEvent) => void): void {
    this.#control.onEvent(fn);
  }

  emit(event: SessionEvent): void {
    this.#control.emit(event);
  }

  /** §11.5. Resolves with what the target answers. */
  taskManagement(fn: TaskFunction, lun: Buffer, options: TmfOptions): Promise<TmfAnswer> {
    return this.#control.manageTasks(fn, lun, options);
  }

  /** Ends the session in good order. What is still outstanding is lost: drain first. */
  logout(options: { readonly timeoutMs: number }): Promise<void> {
    return this.#control.logout(options.timeoutMs);
  }

  /** Sends key=value text and returns the answer (SendTargets). */
  text(request: Buffer, timeoutMs: number, bytesMax?: number): Promise<Buffer> {
    return this.#control.text(request, timeoutMs, bytesMax);
  }

  /** A task for a command, to be filled in and submitted; null when the session holds too many, or takes no more. */
  takeTask(owner: TaskOwner, control = false): Task | null {
    if (this.#state !== SessionState.Open && !(control && this.#state === SessionState.Closing)) {
      return null;
    }
    return this.tasks.table.take(owner, control);
  }

  /** Why `takeTask` gave none, as the error of that command. */
  refusal(): OrionError {
    if (this.#state === SessionState.Open) return iscsiErrors.make('ISCSI_QUEUE_FULL');
    return iscsiErrors.make('ISCSI_SESSION_CLOSED', { cause: this.#cause ?? undefined });
  }

  /** Sends a command, or queues it until the target's window has room (§4.2.2.1). */
  submit(task: Task): void {
    this.stats.commands += 1;
    this.stats.inflight += 1;
    this.#enqueue(task);
  }

  #enqueue(task: Task): void {
    task.movedAtTimer = 0;
    this.tasks.arm(task);
    if (this.window.free) this.#send(task);
    else this.window.wait(task);
  }

  /** Keeps a task, new or answered, under a new tag until `unpark`: not sent meanwhile, and lost with the session. */
  park(task: Task): void {
    this.tasks.table.renew(task);
    task.state = TaskState.Waiting;
    this.stats.inflight += 1;
  }

  unpark(task: Task): void {
    if (this.#state === SessionState.Open) this.#enqueue(task);
    else this.tasks.lose(task, this.refusal());
  }

  /** The task has come back, and its owner has read it. */
  release(task: Task): void {
    this.tasks.table.release(task);
  }

  /**
   * Gives a submitted task up: its owner gets `error` as soon as no memory of the task is in use. One that was not sent
   * yet is lost as not executed. A late answer is ignored.
   */
  abandon(task: Task, error: OrionError): void {
    this.tasks.abandon(task, error);
  }

  /** A command that should have ended goes on: it has its time again. */
  rearm(task: Task): void {
    task.movedAtTimer = bytesMoved(task);
    if (task.wheelSlot < 0) this.tasks.arm(task);
  }

  /** The commands of a logical unit, or of all, that have not come back. */
  commandsOf(lun: Buffer | null): Task[] {
    return this.tasks.table.commandsOf(lun);
  }

  /** A connection has logged in: it carries commands from now on. */
  adopt(member: SessionConnection, connection: Connection, login: LoginResult): void {
    connection.peerSegmentBytes = login.targetSegmentBytes;
    connection.ownSegmentBytes = login.ourSegmentBytes;
    connection.useDigests(login.params);
    connection.expStatSn = (login.statSn + 1) | 0;
    connection.out.onRelease(() => this.tasks.flushed(connection));
    connection.handler = this.params.recovers
      ? new Retransmission(this, connection)
      : this.#receiver;
    this.members.enter(member, connection);
    this.window.take(login.expCmdSn | 0, login.maxCmdSn | 0);
    this.window.held = false;
    if (!this.#isDiscovery) this.#watchSilence(member, connection);
    this.sendWaiting();
  }

  /** §13.21: it may ask with SendTargets and log out, and send no ping; each of these has its time. */
  get #isDiscovery(): boolean {
    return this.targetName === '';
  }

  #watchSilence(member: SessionConnection, connection: Connection): void {
    member.keepalive = new Keepalive(connection, this.clock, this.timeouts, {
      ping: () => this.#control.of(connection).pings.ping(),
      silent: () => this.#onSilent(connection),
    });
  }

  /** Ends the session at once with a TCP reset. Every outstanding command is lost; nothing is sent any more. */
  destroy(cause: Error): void {
    if (this.#state === SessionState.Closed) return;
    this.#state = SessionState.Closed;
    this.#cause = cause;
    this.members.destroy(cause); // what was answered is answered
    this.window.drain();
    for (const task of this.tasks.table.active()) {
      if (task.state === TaskState.Free) continue; // freed by an owner meanwhile
      const { connection } = task;
      // The batch that is still being filled has not been handed to the socket.
      const handed = connection !== null && task.firstSeq < connection.out.seq;
      const sent = task.state === TaskState.Sent && handed;
      this.tasks.lose(task, lossError(this, task, sent, cause));
    }
    const listeners = this.#closedListeners;
    this.#closedListeners = [];
    for (const fn of listeners) fn(cause);
  }

  #send(task: Task): void {
    task.state = TaskState.Sent;
    const { window } = this;
    const connection = this.members.pick();
    this.tasks.assign(task, connection);
    this.#sendOn(connection, task, window.cmdSn);
    // Assigned when it is sent, so that one that never was leaves no hole (§4.2.2.1).
    window.cmdSn = (window.cmdSn + 1) | 0;
  }

  /** The same command under the same number again: the target waits for it (§7.2.1). */
  sendAgain(task: Task, connection: Connection): void {
    task.retries += 1;
    task.ranges = null;
    this.#sendOn(connection, task, task.cmdSn);
  }

  #sendOn(connection: Connection, task: Task, cmdSn: number): void {
    if (task.extended === null) sendCommand(connection, task, cmdSn, this.params);
    else sendExtendedCommand(connection, task, cmdSn, this.params);
    task.movedAtTimer = bytesMoved(task);
  }

  /** Serves an R2T. `inRow`: its number was the next one. */
  serveR2t(connection: Connection, task: Task, header: Buffer, at: number, inRow: boolean): void {
    if (task.dataStopped) return;
    if (task.extended === null) serveR2t(connection, task, header, at, inRow, this.params);
    else serveExtendedR2t(connection, task, header, at, inRow, this.params);
  }

  /** Takes ExpCmdSN and MaxCmdSN of any PDU, and sends what waited for room. */
  updateWindow(header: Buffer, at: number): void {
    if (this.window.update(header, at)) this.sendWaiting();
  }

  /** Sends what waited for the window, or for a connection. */
  sendWaiting(): void {
    const { window } = this;
    for (let task = window.next(); task !== null; task = window.next()) {
      if (task.state === TaskState.Waiting) this.#send(task);
      else this.tasks.table.release(task); // given up while it waited
    }
  }

  /** The task of a PDU. */
  find(connection: Connection, header: Buffer, at: number): Task {
    const itt = i32(header, at + At.itt);
    const task = itt === NO_TAG ? null : this.tasks.table.find(itt);
    if (task === null || task.state === TaskState.Waiting || task.state === TaskState.Answered) {
      const opcode = nameOf(Opcode, header[at]! & Bit.opcodeMask);
      throw protocolError(`${opcode} for a task that there is not: ${itt >>> 0} (§7.13)`);
    }
    if (task.connection !== connection) {
      const opcode = nameOf(Opcode, header[at]! & Bit.opcodeMask);
      throw protocolError(`${opcode} for a task of another connection (§4.2.5.1)`);
    }
    return task;
  }

  /** A PDU that is not on the path of an I/O; its StatSN has been taken. */
  deliver(connection: Connection, header: Buffer, at: number, data: Buffer): void {
    switch (header[at]! & Bit.opcodeMask) {
      case Opcode.NopIn:
        this.updateWindow(header, at);
        if (u32(header, at + At.itt) === RESERVED_TAG) {
          this.#control.of(connection).pings.onTargetPing(header.subarray(at, at + BHS_BYTES));
        } else this.#onControlAnswer(connection, header, at, data);
        return;
      case Opcode.TaskManagementResponse:
      case Opcode.TextResponse:
      case Opcode.LogoutResponse:
        this.updateWindow(header, at);
        this.#onControlAnswer(connection, header, at, data);
        return;
      case Opcode.AsyncMessage:
      case Opcode.Reject:
        this.updateWindow(header, at);
        this.#control.of(connection).onNotice(header.subarray(at, at + BHS_BYTES), data);
        return;
      default: {
        const opcode = nameOf(Opcode, header[at]! & Bit.opcodeMask);
        throw protocolError(`${opcode} in full feature phase (§11.2.1.2)`);
      }
    }
  }

  /** A connection is over, or broke the protocol. */
  lost(connection: Connection, error: Error | null): void {
    const place = { targetName: this.targetName, portal: connection.remote };
    const { targetName: target, portal } = place;
    if (isOrionError(error)) {
      const cause = placed(error, { target, portal });
      // What breaks the protocol ends all connections (§7.7); damage on the way is that of one.
      return CONNECTION_FAILURES.has(error.code)
        ? this.fail(connection, cause)
        : this.destroy(cause);
    }
    this.fail(connection, connectionLost(place, connection.partial, error));
  }

  /** A connection has failed: the end of the session, or the beginning of a recovery (§7.14). */
  fail(connection: Connection, cause: OrionError): void {
    if (this.#state === SessionState.Closing && this.members.live.length > 1) {
      // The target ends the connections one by one while the session is logged out.
      if (this.#control.connection !== connection) {
        return this.members.drop(this.members.of(connection), connection, cause);
      }
    }
    const known = this.#recovery.announced(connection) ?? cause;
    if (!this.#recovery.take(connection, known)) this.destroy(known);
  }

  /** Lost connections are being replaced: commands may wait for that. */
  get recovering(): boolean {
    return this.#recovery.active;
  }

  /** The target says over one connection that it drops another. */
  announce(cid: number, cause: OrionError): void {
    this.#recovery.announce(cid, cause);
  }

  /** Where requests go that are no SCSI commands. */
  channel(connection: Connection): ControlChannel {
    return this.#control.of(connection).channel;
  }

  #onSilent(connection: Connection): void {
    const { targetName: target } = this;
    const { nopTimeoutMs } = this.timeouts;
    const fields = { target, portal: connection.remote, nopTimeoutMs };
    this.fail(connection, iscsiErrors.make('ISCSI_NOP_TIMEOUT', { fields }));
  }

  #onControlAnswer(connection: Connection, header: Buffer, at: number, data: Buffer): void {
    const task = this.find(connection, header, at);
    if (task.state === TaskState.Abandoned) return this.tasks.table.releaseAbandoned(task);
    this.#control.onAnswer(task, header.subarray(at, at + BHS_BYTES), data);
  }

  #onExpired(task: Task): void {
    if (getsMoreTime(this, task)) this.rearm(task);
    else this.#control.ladder.expired(task);
  }

  /** For the control side: a task without a command, and what the tag of a rejected PDU stands for. */
  findTask(itt: number): Task | null {
    return itt === NO_TAG ? null : this.tasks.table.find(itt);
  }

  /** No new commands; what was not sent is lost as not executed. */
  beginClosing(): void {
    if (this.#state !== SessionState.Open) return;
    this.#state = SessionState.Closing;
    for (const task of this.window.drain()) {
      if (task.state === TaskState.Waiting) this.tasks.lose(task, this.refusal());
      else this.tasks.table.release(task);
    }
  }
}
