import { errorText, isOrionError, type OrionError } from '../core/errors.ts';
import { type Address, formatAddress } from '../wire/network.ts';
import { ChapAuthenticator, DEFAULT_CHAP_ALGORITHMS } from './chap.ts';
import { Connection } from './connection.ts';
import { iscsiErrors } from './errors.ts';
import type { Params } from './keys.ts';
import { type Authenticator, LoginMachine, type LoginResult, noAuthentication } from './login.ts';
import { LoginExchange, type LoginOutcome } from './login-exchange.ts';
import type { OpenSessionOptions, SessionEnvironment, SessionTimeouts } from './session-options.ts';

/** The task tag of the login; session tags begin elsewhere. */
const LOGIN_ITT = 0xfff;

/** Who logs in, and what for. */
export interface LoginTarget {
  readonly environment: SessionEnvironment;
  /** Null: a discovery session. */
  readonly targetName: string | null;
  readonly initiatorName: string;
  readonly isid: Buffer;
  readonly timeouts: SessionTimeouts;
  readonly wanted: Partial<Params>;
  /** The portal group that has to answer; null: any. */
  readonly tpgt: number | null;
  readonly onMoved: OpenSessionOptions['onMoved'];
}

/** Which connection of which session (§6.3.1). */
export interface LoginPlace {
  /** 0: the leading login of a session. */
  readonly tsih: number;
  readonly cid: number;
  readonly cmdSn: number;
  /** Of the connection that this one takes the place of (§11.12.9). */
  readonly expStatSn?: number;
  /** Of the session that it joins: what holds there, and the portal group that a session may not leave (§4.4.1). */
  readonly session?: Params;
  readonly tpgt?: number;
}

export interface LoginHooks {
  /** TCP is up. */
  readonly onConnected?: () => void;
  /** Runs before anything that follows the login is looked at: it puts the session in charge. */
  readonly onDone: (connection: Connection, login: LoginResult) => void;
  readonly signal?: AbortSignal;
}

/** One login on one address, with one more try for targets that cannot read a list of CHAP algorithms. */
export async function logIn(
  address: Address,
  target: LoginTarget,
  place: LoginPlace,
  hooks: LoginHooks,
): Promise<LoginOutcome> {
  const { authentication, rng } = target.environment;
  if (authentication === undefined) {
    return logInWith(noAuthentication, address, target, place, hooks);
  }
  const chap = new ChapAuthenticator(authentication, rng);
  try {
    return await logInWith(chap, address, target, place, hooks);
  } catch (error) {
    const { algorithms = DEFAULT_CHAP_ALGORITHMS } = authentication;
    if (algorithms.length === 1 || !chap.awaitsChoice || !isRefusal(error)) throw error;
    // LIO before Linux 3.15, and what was made of it, refuse a list of more than one algorithm.
    target.environment.trace?.({ kind: 'retried', why: 'the list of CHAP algorithms was refused' });
    const plain = new ChapAuthenticator({ ...authentication, algorithms: ['md5'] }, rng);
    return logInWith(plain, address, target, place, hooks);
  }
}

/** Whether the target does not want what we said, other than being slow, or short of something. */
export function isRefusal(error: unknown): boolean {
  if (!isOrionError(error)) return false;
  if (error.code === 'ISCSI_LOGIN_REFUSED') return error.fields.statusClass === 2;
  return error.code === 'ISCSI_LOGIN_FAILED' || error.code === 'ISCSI_CHAP_ALGORITHM';
}

function connectFailed(portal: string, cause: unknown): OrionError {
  const known = isOrionError(cause);
  const text = known ? `${cause.message} (${cause.code})` : errorText(cause);
  return iscsiErrors.make('ISCSI_CONNECT_FAILED', {
    message: `no connection to ${portal}: ${text}`,
    cause,
    ...(known ? { hint: cause.hint } : {}),
  });
}

async function logInWith(
  authenticator: Authenticator,
  address: Address,
  target: LoginTarget,
  place: LoginPlace,
  hooks: LoginHooks,
): Promise<LoginOutcome> {
  const { clock, network, pool, trace } = target.environment;
  const { timeouts } = target;
  const portal = formatAddress(address);
  trace?.({ kind: 'connecting', portal });
  const machine = new LoginMachine({
    initiatorName: target.initiatorName,
    targetName: target.targetName,
    isid: target.isid,
    tpgt: target.tpgt,
    ...place,
    itt: LOGIN_ITT,
    authenticator,
    wanted: target.wanted,
    trace,
  });
  const exchange = new LoginExchange(machine, (login) => hooks.onDone(connection, login));
  const connection = new Connection(place.cid, exchange);
  try {
    await connection.connect(network, address, {
      timeoutMs: timeouts.connectMs,
      pool: pool ?? null,
      ...(hooks.signal === undefined ? {} : { signal: hooks.signal }),
    });
  } catch (error) {
    throw connectFailed(portal, error);
  }
  trace?.({ kind: 'connected', portal });
  hooks.onConnected?.();
  const timer = clock.after(timeouts.loginMs, () =>
    exchange.fail(iscsiErrors.make('ISCSI_LOGIN_TIMEOUT', { fields: { ms: timeouts.loginMs } })),
  );
  const onAbort = (): void => exchange.fail(iscsiErrors.make('ISCSI_SESSION_CLOSED'));
  hooks.signal?.addEventListener('abort', onAbort);
  try {
    if (hooks.signal?.aborted) throw iscsiErrors.make('ISCSI_SESSION_CLOSED');
    exchange.start(connection);
    const outcome = await exchange.promise;
    if (outcome.kind === 'redirect')
      connection.destroy(new Error('the target redirects elsewhere'));
    return outcome;
  } catch (error) {
    connection.destroy(error as Error);
    throw error;
  } finally {
    hooks.signal?.removeEventListener('abort', onAbort);
    timer.cancel();
  }
}
