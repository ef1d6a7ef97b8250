import { sleep } from '../core/clock.ts';
import { errorText, isOrionError, OrionError } from '../core/errors.ts';
import type { Connection } from './connection.ts';
import { ConnectionState } from './connection-state.ts';
import { ControlRequest } from './control-request.ts';
import { type LogoutOutcome, requestLogout } from './logout.ts';
import { LogoutAnswer, LogoutReason, nameOf } from './pdu/opcodes.ts';
import type { IscsiSession } from './session.ts';
import type { SessionConnection } from './session-connection.ts';
import { Hopeless } from './session-errors.ts';
import { TIME2WAIT_MS_MAX } from './session-options.ts';
import { SessionState } from './session-types.ts';
import { TaskMove } from './task-move.ts';
import { TaskState } from './task-table.ts';

/** Longest time without an answer to a logout. Silence of the connection itself is noticed earlier. */
const ANSWER_MS = 10_000;

/** Attempts at one recovery, and the pause before the next, which doubles up to the second number. */
const ROUNDS_MAX = 64;
const PAUSE_MS_MIN = 50;
const PAUSE_MS_MAX = 1000;

/**
 * Longest time that commands wait for it once it may begin, whatever the target would grant. At recovery level 1 nothing is
 * agreed on, and it is this.
 */
const RETAIN_MS_MAX = 20_000;

/** Login status (§11.13.5). */
const TOO_MANY_CONNECTIONS = '0206';

/** A connection that the target says it drops ends within this, or that was about an older one. */
const ANNOUNCED_MS = 10_000;

/** When something may be done about a lost connection at the earliest, and for how long from then on. */
interface Times {
  readonly waitMs: number;
  readonly retainMs: number;
}

/** A connection that is to be cleaned up. */
interface Lost {
  readonly member: SessionConnection;
  readonly cause: OrionError;
  /** The last that it would have acknowledged (§11.14.4). */
  readonly expStatSn: number;
  /** Not before, and not after: Time2Wait and Time2Retain (§7.5). */
  fromMs: number;
  untilMs: number;
  /** The target has logged it out: nothing comes over it any more, and what it did not acknowledge it threw away. */
  loggedOut: boolean;
}

/**
 * What a session does about connections that are lost (RFC 7143 §7.1.4.3, §7.14). At recovery level 1, with another
 * connection left: logs the lost one out; its commands were ended by that (§7.6 a); with a target that answers too early the session is over. At level 2: removes it for recovery, by a login in its place
 * when none is left, and has its commands go on over another connection. At level 0, and in any doubt, the session is
 * over: then nothing is said of its commands but that they are unknown.
 */
export class ConnectionRecovery {
  readonly #session: IscsiSession;
  readonly #level: number;
  readonly #lost: Lost[] = [];
  readonly #moves: TaskMove;
  readonly #announced = new WeakMap<Connection, { cause: OrionError; untilMs: number }>();
  #running = false;

  constructor(session: IscsiSession) {
    this.#session = session;
    this.#level = session.login.params.ErrorRecoveryLevel;
    this.#moves = new TaskMove(session);
  }

  /** A recovery is under way: commands may be waiting for it. */
  get active(): boolean {
    return this.#lost.length > 0;
  }

  /** Takes the loss of a connection in hand. False: the session ends with it. */
  take(connection: Connection, cause: OrionError): boolean {
    const { members, clock } = this.#session;
    if (this.#level === 0) return false;
    const last = members.live.every((other) => other === connection);
    // At level 1 the answer to the logout is all that tells that its commands have ended.
    if (this.#level === 1 && (last || !this.#session.logoutEndsCommands)) return false;
    if (this.#session.state !== SessionState.Open) return false;
    const times = this.#timesOf(cause);
    if (times.waitMs > TIME2WAIT_MS_MAX) return false;
    const member = members.of(connection);
    members.drop(member, connection, cause);
    const { expStatSn } = connection;
    const lost: Lost = { member, cause, expStatSn, fromMs: 0, untilMs: 0, loggedOut: false };
    setTimes(lost, times, clock.nowMs());
    this.#lost.push(lost);
    this.#loseRequests(connection, cause);
    this.#session.emit({ kind: 'connection', ...member.status(), reason: errorText(cause) });
    this.#session.window.held = members.live.length === 0;
    if (!this.#running) this.#run().catch((error) => this.#session.destroy(error as Error));
    return true;
  }

  /** What the target named when it dropped the connection, or what was agreed on for the case that it says nothing. */
  #timesOf({ fields: { waitMs, retainMs } }: OrionError): Times {
    const { DefaultTime2Wait, DefaultTime2Retain } = this.#session.login.params;
    const agreedMs = this.#level === 2 ? DefaultTime2Retain * 1000 : RETAIN_MS_MAX;
    if (typeof waitMs !== 'number') {
      return { waitMs: DefaultTime2Wait * 1000, retainMs: agreedMs };
    }
    // 0: its commands are gone already. The answers to the reassignments tell whether they are, as after a logout.
    const named = this.#level === 2 && typeof retainMs === 'number' && retainMs > 0;
    return { waitMs, retainMs: named ? retainMs : agreedMs };
  }

  /**
   * The target says over one connection that it drops another, which ends by itself: the times are kept for that. They count at
   * once when the end was noticed before. The news may also be late, and the connection already be another one under the
   * same CID (LIO tells of each end that it sees): so nothing is dropped for it.
   */
  announce(cid: number, cause: OrionError): void {
    const { clock, members } = this.#session;
    const lost = this.#lost.find(({ member, loggedOut }) => member.cid === cid && !loggedOut);
    if (lost === undefined) {
      const connection = members.live.find((each) => each.cid === cid);
      const untilMs = clock.nowMs() + ANNOUNCED_MS;
      if (connection !== undefined) this.#announced.set(connection, { cause, untilMs });
      return;
    }
    const times = this.#timesOf(cause);
    if (times.waitMs > TIME2WAIT_MS_MAX) this.#session.destroy(cause);
    else setTimes(lost, times, clock.nowMs());
  }

  /** What the target has said of the end of this connection. */
  announced(connection: Connection): OrionError | null {
    const announced = this.#announced.get(connection);
    if (announced === undefined || this.#session.clock.nowMs() > announced.untilMs) return null;
    return announced.cause;
  }

  /** §7.14: immediate requests do not survive their connection. */
  #loseRequests(connection: Connection, cause: OrionError): void {
    for (const task of this.#session.tasks.table.active()) {
      if (task.connection !== connection) continue;
      if (task.owner instanceof ControlRequest) this.#session.tasks.lose(task, cause);
      else if (task.pendingLoss !== null && task.state === TaskState.Sent) {
        this.#session.tasks.giveUp(task, task.pendingLoss);
      }
    }
  }

  get #over(): boolean {
    return this.#session.state === SessionState.Closed;
  }

  async #run(): Promise<void> {
    this.#running = true;
    const { clock, rng } = this.#session;
    for (let round = 0; this.#lost.length > 0 && !this.#over; round++) {
      try {
        await this.#round();
      } catch (error) {
        if (this.#over) return;
        const late = this.#lost.some(({ untilMs }) => clock.nowMs() > untilMs);
        if (!isPassing(error) || late || round >= ROUNDS_MAX) return this.#fail(error);
        const bound = Math.min(PAUSE_MS_MIN * 2 ** Math.min(round, 16), PAUSE_MS_MAX);
        await sleep(clock, bound * (0.5 + rng.float() / 2));
      }
    }
    this.#running = false;
  }

  /** The session ends with what it was about; why it could not be saved is in the text. */
  #fail(error: unknown): void {
    const { cause } = this.#lost[0]!;
    const { code, outcome, errno, hint, fields } = cause;
    const message = `${cause.message}; the session could not go on: ${errorText(error)}`;
    this.#session.destroy(new OrionError({ code, message, outcome, errno, hint, fields, cause }));
  }

  /** From the state as it is now to one without lost connections; throws when something comes between. */
  async #round(): Promise<void> {
    const { members } = this.#session;
    await this.#wait();
    if (members.live.length === 0) {
      await this.#reinstate(this.#lost.find(({ loggedOut }) => !loggedOut) ?? this.#lost[0]!);
    }
    for (const lost of [...this.#lost]) {
      if (!lost.loggedOut) await this.#logOut(lost);
      this.#check();
    }
    await this.#wait();
    const done = [...this.#lost];
    await this.#moves.all(this.#level);
    this.#check();
    for (const lost of done) {
      this.#lost.splice(this.#lost.indexOf(lost), 1);
      const { member } = lost;
      if (member.state === ConnectionState.Free) members.bringBack(member);
      else this.#session.emit({ kind: 'connection', ...member.status(), reason: null });
    }
  }

  /** Between two steps the session may have ended, or its time be over. */
  #check(): void {
    if (this.#over) throw new Hopeless('the session is over');
    const nowMs = this.#session.clock.nowMs();
    if (this.#lost.some(({ untilMs }) => nowMs > untilMs)) {
      throw new Hopeless('the target has let go of its commands by now (Time2Retain)');
    }
  }

  /** Until nothing has to wait any more; what is lost meanwhile, or given other times, counts too. */
  async #wait(): Promise<void> {
    const { clock } = this.#session;
    for (;;) {
      this.#check();
      const delayMs = Math.max(...this.#lost.map(({ fromMs }) => fromMs)) - clock.nowMs();
      if (delayMs <= 0) return;
      await sleep(clock, delayMs);
    }
  }

  /** §6.3.4: a login under the same CID logs the lost connection out, if it is not yet. */
  async #reinstate(lost: Lost): Promise<void> {
    const { members } = this.#session;
    const { member } = lost;
    if (this.#level < 2) throw new Hopeless('no connection is left');
    const { loggedOut } = lost;
    member.step(loggedOut ? 'connect' : 'cleanUp');
    try {
      await members.logIn(member, loggedOut ? undefined : lost.expStatSn);
      lost.loggedOut = true;
    } catch (error) {
      if (this.#over) throw error;
      member.step('failed');
      members.moveOn(member);
      const refused = isOrionError(error) && error.code === 'ISCSI_LOGIN_REFUSED';
      // A target that has not noticed the loss yet may count the connection still.
      const passing = refused && error.fields.status === TOO_MANY_CONNECTIONS;
      if (refused && !passing && error.fields.statusClass !== 3) throw new Hopeless(error.message);
      throw error;
    }
  }

  /** §11.14, over a connection that lives. */
  async #logOut(lost: Lost): Promise<void> {
    const { member, expStatSn } = lost;
    const session = this.#session;
    if (session.members.live.length === 0) throw lost.cause;
    const connection = session.members.pick();
    const reason =
      this.#level === 2 ? LogoutReason.RemoveForRecovery : LogoutReason.CloseConnection;
    member.step('cleanUp');
    let answer: LogoutOutcome;
    try {
      answer = await requestLogout(session.channel(connection), {
        reason,
        cid: member.cid,
        timeoutMs: ANSWER_MS,
        expStatSn,
        errorRecoveryLevel: this.#level,
      });
    } catch (error) {
      if (!this.#over) member.step('failed');
      throw error;
    }
    if (this.#over) throw new Hopeless('the session is over');
    const { response, waitMs, retainMs } = answer;
    // At level 2 it may be gone already, and its commands wait for their new connection all the same: the answers to
    // the reassignments tell. At level 1 only a confirmed cleanup says that its commands have ended (§11.15).
    const gone = response === LogoutAnswer.CidNotFound && this.#level === 2;
    if (response !== LogoutAnswer.Closed && !gone) {
      const what = nameOf(LogoutAnswer, response);
      throw new Hopeless(`the target answers the logout of connection ${member.cid} with ${what}`);
    }
    if (waitMs !== null && retainMs !== null) {
      if (waitMs > TIME2WAIT_MS_MAX) throw tooLong(waitMs);
      const { untilMs } = lost;
      setTimes(lost, { waitMs, retainMs }, session.clock.nowMs());
      // LIO leaves the fields 0. That would mean that the commands are gone already (§11.15.4); the answers to the
      // reassignments tell whether they are.
      lost.untilMs = Math.max(lost.untilMs, untilMs);
    }
    member.step('cleaned');
    member.connection = null;
    lost.loggedOut = true;
  }
}

function setTimes(lost: Lost, { waitMs, retainMs }: Times, nowMs: number): void {
  lost.fromMs = nowMs + waitMs;
  lost.untilMs = lost.fromMs + Math.min(retainMs, RETAIN_MS_MAX);
}

function tooLong(waitMs: number): Hopeless {
  return new Hopeless(`the target wants to be left alone for ${waitMs} ms, and commands wait`);
}

/** Troubles of the network, and of a target that is busy: another attempt may do. */
const PASSING = new Set([
  'ISCSI_CONNECT_FAILED',
  'ISCSI_CONNECTION_LOST',
  'ISCSI_DIGEST_HEADER',
  'ISCSI_LOGIN_FAILED',
  'ISCSI_LOGIN_REFUSED',
  'ISCSI_LOGIN_TIMEOUT',
  'ISCSI_NOP_TIMEOUT',
  'ISCSI_NOT_RESENT',
]);

function isPassing(error: unknown): boolean {
  return isOrionError(error) && PASSING.has(error.code);
}
