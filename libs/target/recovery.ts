import type { Clock, Timer } from '../core/clock.ts';
import { TmfResponse } from '../iscsi/pdu/opcodes.ts';
import type { TaskManagementRequest } from '../iscsi/pdu/task-management-request.ts';
import type { Connection } from './connection.ts';
import type { Retention } from './retention.ts';
import type { Session } from './session.ts';
import type { Task } from './task.ts';

/** A connection that is gone, and what is kept of it until its time is over (RFC 7143 §7.5). */
export class LostConnection {
  readonly cid: number;
  /** Tasks that are not over, and those whose status may not have arrived. */
  readonly tasks = new Set<Task>();
  readonly retention: Retention | null;
  readonly nextStatSn: number;
  /** Logged out for recovery, explicitly or by a login with its CID: only then may tasks be reassigned (§7.2.2). */
  isLoggedOut = false;
  timer: Timer | null = null;

  constructor(connection: Connection) {
    this.cid = connection.cid;
    this.retention = connection.delivery?.retention ?? null;
    this.nextStatSn = connection.sender.statSn;
  }
}

/** The connections that a session of error recovery level 2 has lost (§7.1.4.3). */
export class Recovery {
  readonly #clock: Clock;
  readonly #session: Session;
  readonly #lost = new Map<number, LostConnection>();
  /** Told when the time of one is over. */
  readonly #onExpired: (lost: LostConnection) => void;

  constructor(clock: Clock, session: Session, onExpired: (lost: LostConnection) => void) {
    this.#clock = clock;
    this.#session = session;
    this.#onExpired = onExpired;
  }

  get isEmpty(): boolean {
    return this.#lost.size === 0;
  }

  /** Keeps the tasks of a connection that broke. False: nothing is kept in this session. */
  lose(connection: Connection): boolean {
    const { errorRecoveryLevel, time2Wait, time2Retain } = this.#session.params;
    if (errorRecoveryLevel < 2 || time2Retain === 0) return false;
    const lost = new LostConnection(connection);
    const open = [...this.#session.tasks.values()].filter((task) => task.connection === connection);
    for (const task of [...open, ...(lost.retention?.tasks ?? [])]) {
      task.connection = null;
      task.lost = lost;
      lost.tasks.add(task);
    }
    const before = this.#lost.get(lost.cid);
    if (before !== undefined) this.#expire(before);
    this.#lost.set(lost.cid, lost);
    this.#arm(lost, time2Wait + time2Retain);
    return true;
  }

  #arm(lost: LostConnection, seconds: number): void {
    lost.timer?.cancel();
    lost.timer = this.#clock.after(seconds * 1000, () => this.#expire(lost));
  }

  #expire(lost: LostConnection): void {
    lost.timer?.cancel();
    if (this.#lost.get(lost.cid) === lost) this.#lost.delete(lost.cid);
    this.#onExpired(lost);
  }

  /** "Remove the connection for recovery": false when there is none of that CID. */
  logOut(cid: number): boolean {
    const lost = this.#lost.get(cid);
    if (lost === undefined) return false;
    lost.isLoggedOut = true;
    const { time2Wait, time2Retain } = this.#session.params;
    this.#arm(lost, time2Wait + time2Retain);
    return true;
  }

  /** "Close the connection": nothing of it is kept any longer. False when there is none of that CID. */
  close(cid: number): boolean {
    const lost = this.#lost.get(cid);
    if (lost !== undefined) this.#expire(lost);
    return lost !== undefined;
  }

  /** The initiator says, in its login, which statuses of the old connection it has (§11.12.9). */
  acknowledge(cid: number, expStatSn: number): void {
    const lost = this.#lost.get(cid);
    if (lost?.retention == null) return;
    lost.retention.acknowledge(expStatSn, lost.nextStatSn);
    const kept = new Set(lost.retention.tasks);
    for (const task of lost.tasks) {
      if (task.state === 'ended' && !kept.has(task)) lost.tasks.delete(task);
    }
  }

  /** The task of that tag that has lost its connection. */
  taskOf(itt: number): Task | null {
    for (const { tasks } of this.#lost.values()) {
      for (const task of tasks) if (task.itt === itt) return task;
    }
    return null;
  }

  /** The task goes on over another connection. */
  release(task: Task): void {
    const { lost } = task;
    task.lost = null;
    if (lost === null) return;
    lost.tasks.delete(task);
    lost.retention?.release(task);
    if (lost.tasks.size > 0 || !lost.isLoggedOut) return;
    lost.timer?.cancel();
    if (this.#lost.get(lost.cid) === lost) this.#lost.delete(lost.cid);
  }

  /** The session is over. */
  discard(): void {
    for (const lost of [...this.#lost.values()]) this.#expire(lost);
  }
}

/** TASK REASSIGN (§7.2.2): answered first, and then the task goes on over the connection of the request. */
export function reassign(
  connection: Connection,
  session: Session,
  request: TaskManagementRequest,
  answer: (response: TmfResponse) => void,
): void {
  if (session.params.errorRecoveryLevel < 2) return answer(TmfResponse.ReassignmentNotSupported);
  const tag = request.referencedTag;
  const task = session.recovery.taskOf(tag);
  if (task === null) {
    const isHere =
      session.tasks.has(tag) ||
      [...session.connections.values()].some((other) => other.delivery?.retention.taskOf(tag));
    return answer(isHere ? TmfResponse.TaskStillAllegiant : TmfResponse.TaskDoesNotExist);
  }
  if (task.lost?.isLoggedOut !== true) return answer(TmfResponse.TaskStillAllegiant);
  answer(TmfResponse.FunctionComplete);
  session.recovery.release(task);
  task.connection = connection;
  connection.adopt(task, request.expDataSn);
}
