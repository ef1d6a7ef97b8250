import { assert } from '../core/assert.ts';
import type { Clock } from '../core/clock.ts';
import type { OrionError } from '../core/errors.ts';
import { TimerWheel } from '../core/timer-wheel.ts';
import { bytesMoved } from './command-time.ts';
import type { Connection } from './connection.ts';
import { ControlRequest } from './control-request.ts';
import { iscsiErrors } from './errors.ts';
import type { SessionStats } from './session-types.ts';
import { Direction, type Task, type TaskOwner, TaskState, TaskTable } from './task-table.ts';

/** What a command counts for beside its data when the load of connections is compared. */
const COMMAND_BYTES = 4096;

/**
 * The tasks of a session on their way back to their owners. Each goes back exactly once, and not before the socket holds
 * no byte of it (I4 of failover.md).
 */
export class Settlement {
  readonly stats: SessionStats = { commands: 0, bytesRead: 0, bytesWritten: 0, inflight: 0 };
  readonly table: TaskTable;
  readonly #wheel: TimerWheel;

  constructor(clock: Clock, onExpired: (task: Task) => void) {
    this.table = new TaskTable(onExpired);
    this.#wheel = new TimerWheel(clock);
  }

  arm(task: Task): void {
    this.#wheel.arm(task, task.timeoutMs);
  }

  /** `task` is sent on `connection`, and stays there (§4.2.5.1). */
  assign(task: Task, connection: Connection): void {
    task.connection = connection;
    task.segmentBytes = connection.ownSegmentBytes;
    connection.outstandingBytes += task.edtl + COMMAND_BYTES;
  }

  /** It belongs to another connection from now on (§7.2.2), and has its time there. */
  reassign(task: Task, connection: Connection): void {
    this.#leave(task);
    this.assign(task, connection);
    this.#wheel.disarm(task);
    task.movedAtTimer = bytesMoved(task);
    this.arm(task);
  }

  /** The command is answered; its owner hears of it once the socket holds no byte of it. */
  complete(task: Task): void {
    this.#wheel.disarm(task);
    if ((task.direction & Direction.Write) !== 0) {
      this.stats.bytesWritten += task.edtl;
      const { out, unflushed } = task.connection!;
      if (task.outSeq > out.flushedSeq) {
        if (task.pendingLoss === null) unflushed.push(task);
        task.state = TaskState.Answered;
        return;
      }
    }
    this.#done(task);
  }

  /** The socket has taken more: what waited for that alone comes back now. */
  flushed(connection: Connection): void {
    const { unflushed, out } = connection;
    if (unflushed.length === 0) return;
    const { flushedSeq } = out;
    const free = unflushed.filter((task) => task.outSeq <= flushedSeq);
    if (free.length === 0) return;
    const rest = unflushed.filter((task) => task.outSeq > flushedSeq);
    unflushed.splice(0, unflushed.length, ...rest);
    for (const task of free) {
      if (task.state === TaskState.Answered) this.#done(task);
      else if (task.pendingLoss !== null) this.giveUp(task, task.pendingLoss);
    }
  }

  /**
   * Gives a submitted task up: its owner gets `error` as soon as no memory of the task is in use. One that was not sent
   * yet is lost as not executed. A late answer is ignored.
   */
  abandon(task: Task, error: OrionError): void {
    if (task.state === TaskState.Waiting) {
      const { queued } = task;
      const owner = this.#detach(task);
      owner.taskLost(task, iscsiErrors.make('ISCSI_SESSION_CLOSED', { message: error.message }));
      if (queued)
        task.state = TaskState.Abandoned; // the queue releases it when it comes by
      else this.table.release(task);
      return;
    }
    if (task.state !== TaskState.Sent || task.pendingLoss !== null) return;
    const connection = task.connection!;
    const receiving = connection.rxTask === task && connection.partial;
    // Of commands that only read the socket holds the header alone, which is ours.
    const sends = (task.direction & Direction.Write) !== 0;
    const sending = sends && task.outSeq > connection.out.flushedSeq;
    if (receiving || sending) {
      task.pendingLoss = error;
      if (sending) connection.unflushed.push(task);
      // A socket that never lets go of it ends the session (abort-ladder.ts).
      if (task.wheelSlot < 0) this.arm(task);
      return;
    }
    this.giveUp(task, error);
  }

  /** The owner gets it back with `error`; its tag stays taken until the target answers. */
  giveUp(task: Task, error: OrionError): void {
    const owner = this.#detach(task);
    task.immediate = owner instanceof ControlRequest;
    owner.taskLost(task, error);
    this.table.abandon(task);
  }

  /** The owner gets it back with `error`; no answer can come any more. */
  lose(task: Task, error: OrionError): void {
    if (task.state === TaskState.Abandoned) {
      this.table.release(task);
      return;
    }
    const owner = this.#detach(task);
    owner.taskLost(task, error);
    this.table.release(task);
  }

  #done(task: Task): void {
    this.stats.inflight -= 1;
    this.#leave(task);
    task.owner!.taskDone(task);
  }

  #detach(task: Task): TaskOwner {
    this.#wheel.disarm(task);
    if (!(task.owner instanceof ControlRequest)) {
      this.stats.inflight -= 1;
      if (task.connection !== null) this.#leave(task);
    }
    const { owner } = task;
    assert(owner !== null, 'a task that is taken has an owner');
    return owner;
  }

  #leave(task: Task): void {
    task.connection!.outstandingBytes -= task.edtl + COMMAND_BYTES;
  }
}
