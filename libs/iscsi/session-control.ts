import { sleep } from '../core/clock.ts';
import type { OrionError } from '../core/errors.ts';
import type { Sense } from '../scsi/sense.ts';
import { AbortLadder } from './abort-ladder.ts';
import type { Connection } from './connection.ts';
import { ConnectionControl } from './connection-control.ts';
import { ControlRequest } from './control-request.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import { checkLoggedOut, requestLogout } from './logout.ts';
import { opcodeOf } from './pdu/index.ts';
import { LogoutReason, nameOf, Opcode, TaskFunction } from './pdu/opcodes.ts';
import type { IscsiSession } from './session.ts';
import type { ConnectionStatus } from './session-connection.ts';
import {
  checkFunction,
  functionRules,
  manageTasks,
  type TmfAnswer,
  type TmfOptions,
} from './task-management.ts';
import type { Task } from './task-table.ts';

/** How often the end of the last command is looked for when the target asked for a logout. */
const DRAIN_POLL_MS = 20;

/** A target that asks for a logout gets it within this at the latest, and within its own Parameter3. */
const LOGOUT_WAIT_MS_MAX = 3000;

const LOGOUT_TIMEOUT_MS = 2000;

/** How often is asked what the target has of the commands that were sent; the pause grows. */
const ARRIVAL_MS_MIN = 5;
const ARRIVAL_MS_MAX = 500;

export type SessionEvent =
  | { readonly kind: 'scsi'; readonly lun: Buffer; readonly sense: Sense | null }
  | { readonly kind: 'logout-requested' }
  | { readonly kind: 'negotiation-requested' }
  | { readonly kind: 'tasks-terminated'; readonly lun: Buffer; readonly count: number }
  | { readonly kind: 'async'; readonly event: number; readonly vendorCode: number }
  | { readonly kind: 'reject'; readonly reason: string; readonly pdu: string }
  /** A connection beside the first came, or did not, or was lost; null: for no bad reason. */
  | ({ readonly kind: 'connection'; readonly reason: string | null } & ConnectionStatus);

/** Everything of a session that is not a SCSI command: task management, logout, and what its connections hear and ask. */
export class SessionControl {
  readonly session: IscsiSession;
  readonly ladder: AbortLadder;
  readonly #connections = new WeakMap<Connection, ConnectionControl>();
  readonly #listeners: ((event: SessionEvent) => void)[] = [];
  #loggingOut = false;

  constructor(session: IscsiSession) {
    this.session = session;
    this.ladder = new AbortLadder(this);
  }

  /** The connection that requests of the whole session go over; null while there is none. */
  get connection(): Connection | null {
    return this.session.members.live[0] ?? null;
  }

  of(connection: Connection): ConnectionControl {
    let control = this.#connections.get(connection);
    if (control === undefined) {
      control = new ConnectionControl(this, connection);
      this.#connections.set(connection, control);
    }
    return control;
  }

  /** The control side of `connection`, or of the one that requests of the whole session go over. */
  #on(connection: Connection | null = this.connection): ConnectionControl {
    if (connection === null) throw iscsiErrors.make('ISCSI_CONNECTION_LOST');
    return this.of(connection);
  }

  onEvent(fn: (event: SessionEvent) => void): void {
    this.#listeners.push(fn);
  }

  emit(event: SessionEvent): void {
    for (const fn of this.#listeners) fn(event);
  }

  /** What came in answer to the request of a task. */
  onAnswer(task: Task, header: Buffer, data: Buffer): void {
    const { owner } = task;
    const opcode = opcodeOf(header);
    if (!(owner instanceof ControlRequest) || owner.answer !== opcode) {
      throw protocolError(`${nameOf(Opcode, opcode)} in answer to something else (§7.13)`);
    }
    if (owner.goesOn(header, data)) return;
    this.session.release(task);
    owner.answered(header, data);
  }

  get loggingOut(): boolean {
    return this.#loggingOut;
  }

  /** Both sides end the commands of a task management function the quick way (§4.2.3.4, §13.23). */
  get fastAbort(): boolean {
    return this.session.login.params.TaskReporting === 'FastAbort';
  }

  /**
   * §11.5. Resolves with what the target answers; rejects when there is no answer. A function about one task goes the way
   * of that task.
   */
  async manageTasks(fn: TaskFunction, lun: Buffer, options: TmfOptions): Promise<TmfAnswer> {
    const { session } = this;
    checkFunction(fn, session.login.params.iSCSIProtocolLevel);
    const several = session.members.live.length > 1 || session.recovering;
    if (several && functionRules[fn].ends !== undefined) await this.#arrival(options.timeoutMs);
    // §11.5.1: a function for one task goes over the connection of that task.
    const about = functionRules[fn].task === true ? this.#taskOf(options) : null;
    const { channel } = this.#on(about?.connection);
    const answer = manageTasks(channel, fn, lun, options);
    if (this.fastAbort || session.stopDataOnAbort) {
      this.#stopData(channel.connection, fn, lun, about);
    }
    return answer;
  }

  /**
   * What was sent over another connection may still be on its way when a function is carried out, and execute after it. So the
   * target is to have all of it first; the answers to pings say how much it has (§4.2.2.1).
   */
  async #arrival(timeoutMs: number): Promise<void> {
    const { clock, window, cmdSn } = this.session;
    const untilMs = clock.nowMs() + timeoutMs;
    const last = (cmdSn - 1) | 0;
    for (let pauseMs = ARRIVAL_MS_MIN; !window.isAcknowledged(last); pauseMs *= 2) {
      if (clock.nowMs() >= untilMs) {
        throw iscsiErrors.make('ISCSI_TMF_FAILED', {
          message: 'commands are on their way to the target for too long',
        });
      }
      this.#on().pings.ping();
      await sleep(clock, Math.min(pauseMs, ARRIVAL_MS_MAX));
    }
  }

  #taskOf({ referencedTag }: TmfOptions): Task | null {
    return referencedTag === undefined ? null : this.session.findTask(referencedTag | 0);
  }

  /**
   * §4.2.3.4: no more data for commands that the function ends. Otherwise every R2T goes on being answered, which the target
   * waits for (§4.2.3.3); some targets do not, and want no data any more.
   */
  #stopData(connection: Connection, fn: TaskFunction, lun: Buffer, task: Task | null): void {
    const { session } = this;
    if (fn === TaskFunction.AbortTask && task !== null && session.stopDataOnAbort) {
      task.dataStopped = true;
    }
    const { ends } = functionRules[fn];
    if (ends === undefined) return;
    for (const command of session.commandsOf(ends === 'target' ? null : lun)) {
      if (command.connection === connection && command.isSentBefore(session.cmdSn)) {
        command.dataStopped = true;
      }
    }
  }

  async text(request: Buffer, timeoutMs: number, bytesMax?: number): Promise<Buffer> {
    return this.#on().texts.run(request, timeoutMs, bytesMax);
  }

  async logout(timeoutMs: number): Promise<void> {
    const { session } = this;
    if (session.state === 'closed') return;
    if (this.#loggingOut) return new Promise((resolve) => session.onClosed(() => resolve()));
    this.#loggingOut = true;
    session.beginClosing();
    await this.#logout(timeoutMs, iscsiErrors.make('ISCSI_SESSION_CLOSED'));
  }

  async #logout(timeoutMs: number, cause: OrionError): Promise<void> {
    const { session } = this;
    try {
      session.members.beginLogout();
      const asked = requestLogout(this.#on().channel, {
        reason: LogoutReason.CloseSession,
        cid: 0,
        timeoutMs,
        errorRecoveryLevel: session.login.params.ErrorRecoveryLevel,
      });
      // §11.14: nothing new on any of the connections.
      for (const connection of session.members.live) this.of(connection).channel.seal();
      checkLoggedOut(await asked);
      session.members.end();
    } finally {
      session.destroy(cause);
    }
  }

  /** Lets what was sent come to its end, within bounds, then logs out as the target wishes on `connection` (§11.9.1, event 1). */
  logoutForTarget(connection: Connection, withinMs: number): void {
    const { session } = this;
    if (session.state === 'closed') return; // by whoever heard of the request
    session.members.of(connection).step('logoutRequested');
    if (this.#loggingOut) return;
    this.#loggingOut = true;
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
}
