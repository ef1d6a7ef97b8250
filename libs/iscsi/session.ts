import { assert } from '../core/assert.ts';
import type { Clock } from '../core/clock.ts';
import { isOrionError, type OrionError } from '../core/errors.ts';
import type { Rng } from '../core/rng.ts';
import { TimerWheel } from '../core/timer-wheel.ts';
import { CommandWindow } from './command-window.ts';
import type { Connection, ConnectionHandler } from './connection.ts';
import { ControlRequest } from './control-request.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import type { LoginResult } from './login.ts';
import { At, BHS_BYTES, Bit, i32, u32 } from './pdu/bhs.ts';
import { nameOf, Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { SessionControl, type SessionEvent, type TmfOptions } from './session-control.ts';
import { commandTimeout, connectionLost, lossError, placed } from './session-errors.ts';
import type { SessionTimeouts } from './session-options.ts';
import { type SessionInit, SessionState, type SessionStats } from './session-types.ts';
import { Direction, type Task, type TaskOwner, TaskState, TaskTable } from './task-table.ts';
import {
  checkDataIn,
  checkExpDataSn,
  residualOf,
  sendCommand,
  senseOf,
  serveR2t,
  type TransferParams,
} from './transfer.ts';

const NO_TAG = RESERVED_TAG | 0;

export { SessionState };

/**
 * A normal or discovery session in full feature phase, on one connection. It never logs in again by itself: when it
 * is lost it stays lost, and whoever has the authority opens another one. ErrorRecoveryLevel 0: any violation by the
 * target, and any break of the connection, ends it with the first cause.
 */
export class IscsiSession implements ConnectionHandler {
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
  readonly stats: SessionStats = { commands: 0, bytesRead: 0, bytesWritten: 0, inflight: 0 };
  readonly #connection: Connection;
  readonly #params: TransferParams;
  readonly #table: TaskTable;
  readonly #wheel: TimerWheel;
  readonly #control: SessionControl;
  readonly #window: CommandWindow;
  #state: SessionState = SessionState.Open;
  #cause: Error | null = null;
  #closedListeners: ((cause: Error) => void)[] = [];

  constructor(connection: Connection, login: LoginResult, init: SessionInit) {
    this.clock = init.clock;
    this.rng = init.rng;
    this.timeouts = init.timeouts;
    this.targetName = init.targetName;
    this.isid = init.isid;
    this.login = login;
    this.tsih = login.tsih;
    this.remoteTpgt = login.tpgt;
    this.portal = connection.remote;
    this.openedAtMs = init.clock.nowMs();
    this.#window = new CommandWindow(init.cmdSn, login.expCmdSn, login.maxCmdSn);
    this.#params = {
      initialR2t: login.params.InitialR2T,
      immediateData: login.params.ImmediateData,
      firstBurstBytes: login.params.FirstBurstLength,
      maxBurstBytes: login.params.MaxBurstLength,
    };
    this.#connection = connection;
    connection.peerSegmentBytes = login.targetSegmentBytes;
    connection.ownSegmentBytes = login.ourSegmentBytes;
    connection.useDigests(login.params);
    connection.expStatSn = (login.statSn + 1) | 0;
    connection.out.onRelease(() => this.#onFlushed());
    this.#table = new TaskTable((task) => this.#onExpired(task));
    this.#wheel = new TimerWheel(init.clock);
    this.#control = new SessionControl(this, connection);
  }

  get state(): SessionState {
    return this.#state;
  }

  /** The next CmdSN, signed (§4.2.2.1). */
  get cmdSn(): number {
    return this.#window.cmdSn;
  }

  /** Why it ended; null while it has not. */
  get cause(): Error | null {
    return this.#cause;
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

  taskManagement(fn: number, lun: Buffer, options: TmfOptions): Promise<number> {
    return this.#control.taskManagement(fn, lun, options);
  }

  /** Ends the session in good order. What is still outstanding is lost: drain first. */
  logout(options: { readonly timeoutMs: number }): Promise<void> {
    return this.#control.logout(options.timeoutMs);
  }

  /** Sends key=value text and returns the answer (SendTargets). */
  text(request: Buffer, timeoutMs: number): Promise<Buffer> {
    return this.#control.text(request, timeoutMs);
  }

  /** A task for a command, to be filled in and submitted; null when the session holds too many, or takes no more. */
  takeTask(owner: TaskOwner, control = false): Task | null {
    if (this.#state !== SessionState.Open && !(control && this.#state === SessionState.Closing)) {
      return null;
    }
    return this.#table.take(owner, control);
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
    this.#wheel.arm(task, task.timeoutMs);
    if (this.#window.free) this.#send(task);
    else this.#window.wait(task);
  }

  /** Submits again what the target answered with "not now", under a new tag; after a pause when `delayMs` is given. */
  resubmit(task: Task, delayMs = 0): void {
    this.#table.renew(task);
    task.state = TaskState.Waiting;
    this.stats.inflight += 1;
    if (delayMs === 0) {
      this.#tryAgain(task);
      return;
    }
    // Neither queued nor sent meanwhile, and lost with the session.
    const { itt } = task;
    this.clock.after(delayMs, () => {
      if (task.itt === itt && task.state === TaskState.Waiting) this.#tryAgain(task);
    });
  }

  #tryAgain(task: Task): void {
    if (this.#state === SessionState.Open) this.#enqueue(task);
    else this.#lose(task, this.refusal());
  }

  /** The task has come back, and its owner has read it. */
  release(task: Task): void {
    this.#table.release(task);
  }

  /**
   * Gives a submitted task up: its owner gets `error` as soon as no memory of the task is in use. One that was not sent
   * yet is lost as not executed. A late answer is ignored.
   */
  abandon(task: Task, error: OrionError): void {
    if (task.state === TaskState.Waiting) {
      const queued = task.queued;
      const owner = this.#detach(task);
      owner.taskLost(task, iscsiErrors.make('ISCSI_SESSION_CLOSED', { message: error.message }));
      if (queued)
        task.state = TaskState.Abandoned; // the queue releases it when it comes by
      else this.#table.release(task);
      return;
    }
    if (task.state !== TaskState.Sent || task.pendingLoss !== null) return;
    const connection = this.#connection;
    const receiving = connection.rxTask === task && connection.partial;
    const sending = task.outSeq > connection.out.flushedSeq;
    if (receiving || sending) {
      task.pendingLoss = error;
      if (sending) connection.unflushed.push(task);
      return;
    }
    this.#giveUp(task, error);
  }

  /** The commands of a logical unit that have not come back. */
  commandsOf(lunHigh: number, lunLow: number): Task[] {
    return this.#table.commandsOf(lunHigh, lunLow);
  }

  /** Ends the session at once with a TCP reset. Every outstanding command is lost; nothing is sent any more. */
  destroy(cause: Error): void {
    if (this.#state === SessionState.Closed) return;
    this.#state = SessionState.Closed;
    this.#cause = cause;
    this.#control.stop();
    const connection = this.#connection;
    // The batch that is still being filled has not been handed to the socket.
    const seq = connection.out.seq;
    connection.destroy(cause);
    this.#onFlushed(); // what was answered is answered
    this.#window.drain();
    for (const task of this.#table.active()) {
      if (task.state === TaskState.Free) continue; // freed by an owner meanwhile
      const sent = task.state === TaskState.Sent && task.firstSeq < seq;
      this.#lose(task, lossError(this, task, sent, cause));
    }
    const listeners = this.#closedListeners;
    this.#closedListeners = [];
    for (const fn of listeners) fn(cause);
  }

  #send(task: Task): void {
    task.state = TaskState.Sent;
    const window = this.#window;
    sendCommand(this.#connection, task, window.cmdSn, this.#params);
    task.movedAtTimer = task.moved;
    // Assigned when it is sent, so that one that never was leaves no hole (§4.2.2.1).
    window.cmdSn = (window.cmdSn + 1) | 0;
  }

  #updateWindow(header: Buffer, at: number): void {
    if (!this.#window.update(header, at)) return;
    for (let task = this.#window.next(); task !== null; task = this.#window.next()) {
      if (task.state === TaskState.Waiting) this.#send(task);
      else this.#table.release(task); // given up while it waited
    }
  }

  #find(header: Buffer, at: number): Task {
    const itt = i32(header, at + At.itt);
    const task = itt === NO_TAG ? null : this.#table.find(itt);
    if (task === null || task.state === TaskState.Waiting || task.state === TaskState.Answered) {
      const opcode = nameOf(Opcode, header[at]! & Bit.opcodeMask);
      throw protocolError(`${opcode} for a task that there is not: ${itt >>> 0} (§7.13)`);
    }
    return task;
  }

  dataInHeader(connection: Connection, header: Buffer, at: number, length: number): Task | null {
    if ((header[at + At.flags]! & Bit.statusPresent) !== 0) this.#connection.takeStatSn(header, at);
    const task = this.#find(header, at);
    this.#updateWindow(header, at);
    if (task.state === TaskState.Abandoned) {
      if ((header[at + At.flags]! & Bit.statusPresent) !== 0) this.#table.releaseAbandoned(task);
      return null;
    }
    checkDataIn(connection, task, header, at, length);
    return task;
  }

  dataIn(connection: Connection): void {
    const task = connection.rxTask;
    if (task === null) return;
    connection.rxTask = null;
    this.stats.bytesRead += connection.rxLength;
    if ((connection.rxFlags & Bit.statusPresent) !== 0) {
      task.status = connection.rxStatus;
      task.residual = residualOf(connection.rxFlags, connection.rxResidual, task.edtl);
      this.#complete(task);
    } else if (task.pendingLoss !== null) this.#giveUp(task, task.pendingLoss);
  }

  pdu(connection: Connection, header: Buffer, at: number, data: Buffer): void {
    switch (header[at]! & Bit.opcodeMask) {
      case Opcode.ScsiResponse:
        this.#onResponse(header, at, data);
        return;
      case Opcode.R2t: {
        const task = this.#find(header, at);
        this.#updateWindow(header, at);
        if (task.state === TaskState.Sent && task.pendingLoss === null) {
          serveR2t(connection, task, header, at, this.#params);
        }
        return;
      }
      case Opcode.NopIn: {
        const asks = u32(header, at + At.itt) === RESERVED_TAG;
        if (!asks) this.#connection.takeStatSn(header, at);
        this.#updateWindow(header, at);
        if (asks) this.#control.onTargetPing(header.subarray(at, at + BHS_BYTES));
        else this.#onControlAnswer(header, at, data);
        return;
      }
      case Opcode.TaskManagementResponse:
      case Opcode.TextResponse:
      case Opcode.LogoutResponse:
        this.#connection.takeStatSn(header, at);
        this.#updateWindow(header, at);
        this.#onControlAnswer(header, at, data);
        return;
      case Opcode.AsyncMessage:
      case Opcode.Reject:
        this.#connection.takeStatSn(header, at);
        this.#updateWindow(header, at);
        this.#control.onNotice(header.subarray(at, at + BHS_BYTES), data);
        return;
      default: {
        const opcode = nameOf(Opcode, header[at]! & Bit.opcodeMask);
        throw protocolError(`${opcode} in full feature phase (§11.2.1.2)`);
      }
    }
  }

  lost(connection: Connection, error: Error | null): void {
    const { targetName: target, portal } = this;
    if (isOrionError(error)) return this.destroy(placed(error, { target, portal }));
    this.destroy(connectionLost(this, connection.partial, error));
  }

  #onResponse(header: Buffer, at: number, data: Buffer): void {
    this.#connection.takeStatSn(header, at);
    const task = this.#find(header, at);
    this.#updateWindow(header, at);
    if (task.state === TaskState.Abandoned) return this.#table.releaseAbandoned(task);
    if (task.owner instanceof ControlRequest) {
      throw protocolError('a SCSI Response to a request that is no SCSI command (§7.13)');
    }
    task.response = header[at + At.response]!;
    checkExpDataSn(task, header, at);
    task.status = header[at + At.status]!;
    const flags = header[at + At.flags]!;
    task.residual = residualOf(flags, u32(header, at + At.residual), task.edtl);
    if (data.length > 0) task.sense = senseOf(data);
    this.#complete(task);
  }

  #onControlAnswer(header: Buffer, at: number, data: Buffer): void {
    const task = this.#find(header, at);
    if (task.state === TaskState.Abandoned) return this.#table.releaseAbandoned(task);
    const { owner } = task;
    if (!(owner instanceof ControlRequest) || owner.answer !== (header[at]! & Bit.opcodeMask)) {
      const opcode = nameOf(Opcode, header[at]! & Bit.opcodeMask);
      throw protocolError(`${opcode} in answer to something else (§7.13)`);
    }
    this.#table.release(task);
    owner.answered(header.subarray(at, at + BHS_BYTES), data);
  }

  /** The command is answered; its owner hears of it once the socket holds no byte of it (I4 of failover.md). */
  #complete(task: Task): void {
    this.#wheel.disarm(task);
    if (task.direction === Direction.Write) {
      this.stats.bytesWritten += task.edtl;
      if (task.outSeq > this.#connection.out.flushedSeq) {
        if (task.pendingLoss === null) this.#connection.unflushed.push(task);
        task.state = TaskState.Answered;
        return;
      }
    }
    this.#done(task);
  }

  #done(task: Task): void {
    this.stats.inflight -= 1;
    task.owner!.taskDone(task);
  }

  /** The socket has taken more: what waited for that alone comes back now. */
  #onFlushed(): void {
    const { unflushed, out } = this.#connection;
    if (unflushed.length === 0) return;
    const { flushedSeq } = out;
    const free = unflushed.filter((task) => task.outSeq <= flushedSeq);
    if (free.length === 0) return;
    const rest = unflushed.filter((task) => task.outSeq > flushedSeq);
    unflushed.splice(0, unflushed.length, ...rest);
    for (const task of free) {
      if (task.state === TaskState.Answered) this.#done(task);
      else if (task.pendingLoss !== null) this.#giveUp(task, task.pendingLoss);
    }
  }

  #onExpired(task: Task): void {
    if (task.moved !== task.movedAtTimer) {
      // It makes progress: a large transfer gets more time.
      task.movedAtTimer = task.moved;
      this.#wheel.arm(task, task.timeoutMs);
      return;
    }
    this.destroy(commandTimeout(this, task.timeoutMs));
  }

  #detach(task: Task): TaskOwner {
    this.#wheel.disarm(task);
    if (!(task.owner instanceof ControlRequest)) this.stats.inflight -= 1;
    const { owner } = task;
    assert(owner !== null, 'a task that is taken has an owner');
    return owner;
  }

  #lose(task: Task, error: OrionError): void {
    if (task.state === TaskState.Abandoned) {
      this.#table.release(task);
      return;
    }
    const owner = this.#detach(task);
    owner.taskLost(task, error);
    this.#table.release(task);
  }

  #giveUp(task: Task, error: OrionError): void {
    const owner = this.#detach(task);
    owner.taskLost(task, error);
    this.#table.abandon(task);
  }

  /** For the control side: a task without a command, and what the tag of a rejected PDU stands for. */
  findTask(itt: number): Task | null {
    return itt === NO_TAG ? null : this.#table.find(itt);
  }

  /** No new commands; what was not sent is lost as not executed. */
  beginClosing(): void {
    if (this.#state !== SessionState.Open) return;
    this.#state = SessionState.Closing;
    for (const task of this.#window.drain()) {
      if (task.state === TaskState.Waiting) this.#lose(task, this.refusal());
      else this.#table.release(task);
    }
  }

  /** Gives up a control request that took too long. */
  abandonControl(task: Task, error: OrionError): void {
    if (task.state === TaskState.Sent) this.#giveUp(task, error);
  }
}
