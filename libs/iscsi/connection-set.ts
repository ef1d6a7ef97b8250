import { assert } from '../core/assert.ts';
import type { Timer } from '../core/clock.ts';
import { errorText, isOrionError } from '../core/errors.ts';
import type { Address } from '../wire/network.ts';
import type { Connection } from './connection.ts';
import { ConnectionState } from './connection-state.ts';
import { iscsiErrors } from './errors.ts';
import type { LoginResult } from './login.ts';
import type { LoginOutcome } from './login-exchange.ts';
import type { IscsiSession } from './session.ts';
import { type ConnectionStatus, SessionConnection } from './session-connection.ts';
import type { LoginHooks, LoginPlace } from './session-login.ts';

/** A connection that is gone comes back after a pause that doubles from the first of these to the second. */
const PAUSE_MS_MIN = 200;
const PAUSE_MS_MAX = 20_000;

/** In full feature phase, and without a logout on its way. */
const WORKING: ReadonlySet<ConnectionState> = new Set([
  ConnectionState.LoggedIn,
  ConnectionState.LogoutRequested,
]);

/** How a session opens more connections. */
export interface ConnectionOpener {
  /** All of one target portal group. */
  readonly portals: readonly Address[];
  /** How many connections are wanted. */
  readonly connections: number;
  /** False when the session must not go on: somebody else may have its place. Rejects when that is not known now. */
  readonly mayLogIn: () => Promise<boolean>;
  readonly logIn: (address: Address, place: LoginPlace, hooks: LoginHooks) => Promise<LoginOutcome>;
}

/**
 * The connections of a session (RFC 7143 §4.2.2, §4.4.3): opens those that are wanted beside the first, spread over the portals, says
 * which one takes the next command, and brings back those that were lost.
 */
export class ConnectionSet {
  /** In full feature phase, and taking commands. */
  readonly live: Connection[] = [];
  readonly #session: IscsiSession;
  readonly #opener: ConnectionOpener;
  readonly #members: SessionConnection[] = [];
  readonly #abort = new AbortController();
  readonly #timers = new Map<SessionConnection, Timer>();
  #closed = false;

  constructor(session: IscsiSession, opener: ConnectionOpener) {
    this.#session = session;
    this.#opener = opener;
  }

  /** The connection that has least to do. There must be one. */
  pick(): Connection {
    const { live } = this;
    let best = live[0]!;
    for (let i = 1; i < live.length; i++) {
      const other = live[i]!;
      if (other.outstandingBytes < best.outstandingBytes) best = other;
    }
    return best;
  }

  status(): ConnectionStatus[] {
    return this.#members.map((member) => member.status());
  }

  of(connection: Connection): SessionConnection {
    const member = this.#members.find((each) => each.connection === connection);
    assert(member !== undefined, 'a connection of this session');
    return member;
  }

  byCid(cid: number): SessionConnection | null {
    return this.#members.find((member) => member.cid === cid) ?? null;
  }

  /** The place of the leading connection. */
  lead(cid: number, address: Address): SessionConnection {
    const member = new SessionConnection(cid, address);
    member.step('connect');
    member.step('connected');
    this.#members.push(member);
    return member;
  }

  /** Begins to open the others. They come in their own time, or not at all. */
  expand(allowed: number): void {
    if (this.#closed) return;
    const { portals, connections } = this.#opener;
    const wanted = Math.min(connections, allowed);
    const first = Math.max(0, portals.indexOf(this.#members[0]!.address));
    for (let cid = 1; cid < wanted; cid++) {
      const member = new SessionConnection(cid, portals[(first + cid) % portals.length]!);
      this.#members.push(member);
      this.#open(member);
    }
  }

  /** The connection of `member` takes commands from now on. */
  enter(member: SessionConnection, connection: Connection): void {
    if (member.state === ConnectionState.InCleanup) {
      // A login in the place of one that was lost (§6.3.4).
      for (const event of ['cleaned', 'connect', 'connected'] as const) member.step(event);
    }
    member.step('loggedIn');
    member.wasUp = true;
    member.connection = connection;
    member.failures = 0;
    this.live.push(connection);
  }

  #leave(connection: Connection): void {
    const at = this.live.indexOf(connection);
    if (at >= 0) this.live.splice(at, 1);
  }

  /** Its connection has failed: from here on no byte of any buffer is read or written by it. */
  drop(member: SessionConnection, connection: Connection, cause: Error): void {
    member.keepalive?.stop();
    member.step('lost');
    this.#leave(connection);
    connection.destroy(cause);
    this.#session.tasks.flushed(connection);
  }

  /** The next attempt is made on another portal. */
  moveOn(member: SessionConnection): void {
    const { portals } = this.#opener;
    member.address = portals[(portals.indexOf(member.address) + 1) % portals.length]!;
  }

  /** Opens the connection of a member again, after a pause. */
  bringBack(member: SessionConnection): void {
    if (this.#closed || this.#timers.has(member)) return;
    const { clock, rng } = this.#session;
    const bound = Math.min(
      PAUSE_MS_MIN * 2 ** Math.min(Math.max(member.failures - 1, 0), 16),
      PAUSE_MS_MAX,
    );
    const timer = clock.after(bound * (0.5 + rng.float() / 2), () => {
      this.#timers.delete(member);
      this.#open(member);
    });
    this.#timers.set(member, timer);
  }

  /** One login for a member, which may stand in for the connection that it had (§6.3.4). Rejects with the reason. */
  async logIn(member: SessionConnection, expStatSn?: number): Promise<void> {
    await this.#checkRight();
    if (this.#closed) throw this.#session.refusal();
    const { tsih, cmdSn, remoteTpgt: tpgt, login } = this.#session;
    const { cid } = member;
    const session = login.params;
    const place = {
      tsih,
      cid,
      cmdSn,
      tpgt,
      session,
      ...(expStatSn === undefined ? {} : { expStatSn }),
    };
    const outcome = await this.#opener.logIn(member.address, place, {
      onConnected: () => {
        if (member.state === ConnectionState.XptWait) member.step('connected');
      },
      onDone: (connection, login) => this.#begin(member, connection, login),
      signal: this.#abort.signal,
    });
    if (outcome.kind === 'redirect') {
      throw iscsiErrors.make('ISCSI_LOGIN_FAILED', {
        message: 'the target redirects a further connection of the session elsewhere (§11.13.5)',
      });
    }
  }

  async #checkRight(): Promise<void> {
    let mayLogIn: boolean;
    try {
      mayLogIn = await this.#opener.mayLogIn();
    } catch (error) {
      throw iscsiErrors.make('ISCSI_CONNECT_FAILED', {
        message: `no connection, since it is not known who may have the session: ${errorText(error)}`,
        cause: error,
      });
    }
    if (mayLogIn) return;
    const message = 'the session is not continued: somebody else may have its place';
    this.#session.destroy(iscsiErrors.make('ISCSI_SESSION_CLOSED', { message }));
    throw this.#session.refusal();
  }

  /** A logout of the whole session is on its way: nothing is opened, and silence is not looked for. */
  beginLogout(): void {
    this.#stopOpening();
    for (const member of this.#members) {
      member.keepalive?.stop();
      if (WORKING.has(member.state)) member.step('logout');
    }
  }

  /** Ends our side of all connections, after what is queued. */
  end(): void {
    for (const connection of this.live) connection.end();
  }

  #stopOpening(): void {
    this.#closed = true;
    this.#abort.abort();
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }

  /** Ends all connections at once. */
  destroy(cause: Error): void {
    this.#stopOpening();
    this.live.length = 0;
    for (const member of this.#members) {
      member.keepalive?.stop();
      member.connection?.destroy(cause);
      if (member.state === ConnectionState.XptWait || member.state === ConnectionState.InLogin) {
        member.step('failed');
      } else if (member.state !== ConnectionState.Free) member.step('sessionClosed');
    }
  }

  #begin(member: SessionConnection, connection: Connection, login: LoginResult): void {
    const session = this.#session;
    if (this.#closed) throw session.refusal();
    if (login.tpgt !== session.remoteTpgt) {
      throw iscsiErrors.make('ISCSI_LOGIN_FAILED', {
        message: `the portal is of group ${login.tpgt}, the session of group ${session.remoteTpgt} (§4.4.1)`,
      });
    }
    // A handle may be given away again: the numbers of the commands tell whether this is still the session that was opened.
    if (!session.window.isPlausible(login.expCmdSn)) {
      throw iscsiErrors.make('ISCSI_LOGIN_FAILED', {
        message: `the session behind this handle expects command ${login.expCmdSn}, and is not ours`,
      });
    }
    session.adopt(member, connection, login);
  }

  #open(member: SessionConnection): void {
    member.step('connect');
    this.logIn(member).then(
      () => this.#session.emit({ kind: 'connection', ...member.status(), reason: null }),
      (error: unknown) => this.#onFailure(member, error),
    );
  }

  #onFailure(member: SessionConnection, error: unknown): void {
    if (this.#closed) return;
    member.step('failed');
    const first = member.failures === 0;
    member.failures += 1;
    const again = member.wasUp || mayComeLater(error);
    if (first || !again) {
      this.#session.emit({ kind: 'connection', ...member.status(), reason: errorText(error) });
    }
    if (again) this.bringBack(member);
    else this.#members.splice(this.#members.indexOf(member), 1);
  }
}

/** Whether a login that failed is worth another try: the target did not say that it does not want it (0206, 0208, ...). */
function mayComeLater(error: unknown): boolean {
  if (!isOrionError(error)) return false;
  if (error.code === 'ISCSI_LOGIN_REFUSED') return error.fields.statusClass === 3;
  return error.code === 'ISCSI_CONNECT_FAILED' || error.code === 'ISCSI_LOGIN_TIMEOUT';
}
