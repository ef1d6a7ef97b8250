import { assert } from '../core/assert.ts';
import { errorText, isOrionError } from '../core/errors.ts';
import { type Address, formatAddress } from '../wire/network.ts';
import { ChapAuthenticator, DEFAULT_CHAP_ALGORITHMS } from './chap.ts';
import { Connection } from './connection.ts';
import { iscsiErrors } from './errors.ts';
import type { Params } from './keys.ts';
import { type Authenticator, LoginMachine, noAuthentication } from './login.ts';
import { LoginExchange } from './login-exchange.ts';
import { nameInvalidReason, normalizeName } from './names.ts';
import { ISID_BYTES } from './pdu/login-request.ts';
import { IscsiSession } from './session.ts';
import { placed } from './session-errors.ts';
import {
  defaultTimeouts,
  type OpenSessionOptions,
  type SessionEnvironment,
  type SessionTimeouts,
  wantedParams,
} from './session-options.ts';
import { parseTargetAddress } from './target-address.ts';

/** Redirections that are followed in a row (§11.13.5). */
const REDIRECTS_MAX = 4;

/** Addresses of one redirection that are tried. */
const REDIRECT_ADDRESSES_MAX = 8;

/** The task tag of the login; session tags begin elsewhere. */
const LOGIN_ITT = 0xfff;

const CID = 0;

interface LoginTarget {
  readonly environment: SessionEnvironment;
  /** Null: a discovery session. */
  readonly targetName: string | null;
  readonly initiatorName: string;
  readonly isid: Buffer;
  readonly timeouts: SessionTimeouts;
  readonly wanted: Partial<Params>;
}

type Attempt = IscsiSession | { readonly addresses: readonly string[] };

/**
 * Logs in on the first portal that takes us. With TSIH 0 and a known ISID the target reinstates: it ends the session that
 * had this ISID before (§6.3.5). Rejects with the error of the last portal that was tried.
 */
export function openSession(options: OpenSessionOptions): Promise<IscsiSession> {
  return openAny(options.portals, {
    environment: options,
    targetName: checkedName(options.targetName),
    initiatorName: checkedName(options.initiatorName),
    isid: options.isid,
    timeouts: { ...defaultTimeouts, ...options.timeouts },
    wanted: { ...wantedParams, ...options.params },
  });
}

/** A discovery session, on which only SendTargets and a logout are allowed (§13.21). */
export function openDiscovery(
  portals: readonly Address[],
  options: SessionEnvironment & {
    readonly initiatorName: string;
    readonly isid: Buffer;
    readonly timeouts?: Partial<SessionTimeouts>;
  },
): Promise<IscsiSession> {
  return openAny(portals, {
    environment: options,
    targetName: null,
    initiatorName: checkedName(options.initiatorName),
    isid: options.isid,
    timeouts: { ...defaultTimeouts, ...options.timeouts },
    wanted: wantedParams,
  });
}

function checkedName(name: string): string {
  const reason = nameInvalidReason(name);
  if (reason === null) return normalizeName(name);
  throw iscsiErrors.make('ISCSI_BAD_NAME', {
    message: `${JSON.stringify(name)} is not an iSCSI name: ${reason}`,
  });
}

async function openAny(portals: readonly Address[], target: LoginTarget): Promise<IscsiSession> {
  assert(portals.length > 0, 'a session is opened on at least one portal');
  assert(target.isid.length === ISID_BYTES, 'an ISID has 6 bytes');
  let last: unknown;
  for (const portal of portals) {
    try {
      return await openFollowing(portal, target);
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

/** Logs in at `portal`, and where it redirects to; the name of the target never changes by that. */
async function openFollowing(portal: Address, target: LoginTarget): Promise<IscsiSession> {
  let candidates: readonly Address[] = [portal];
  for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
    const attempt = await attemptAny(candidates, target);
    if (attempt instanceof IscsiSession) return attempt;
    candidates = attempt.addresses
      .slice(0, REDIRECT_ADDRESSES_MAX)
      .map((text) => parseTargetAddress(text)?.address)
      .filter((address) => address !== undefined);
    if (candidates.length === 0) {
      throw iscsiErrors.make('ISCSI_LOGIN_FAILED', {
        message: `the target redirects to ${JSON.stringify(attempt.addresses[0])}, which is no address (§13.8)`,
        fields: { portal: formatAddress(portal) },
      });
    }
  }
  throw iscsiErrors.make('ISCSI_REDIRECT_LOOP', { fields: { portal: formatAddress(portal) } });
}

async function attemptAny(candidates: readonly Address[], target: LoginTarget): Promise<Attempt> {
  let last: unknown;
  for (const address of candidates) {
    try {
      return await attempt(address, target);
    } catch (error) {
      last = withPlace(error, address, target);
    }
  }
  throw last;
}

/** The same error, saying where it happened. */
function withPlace(error: unknown, address: Address, target: LoginTarget): unknown {
  if (!isOrionError(error)) return error;
  const { targetName } = target;
  const portal = formatAddress(address);
  return placed(error, targetName === null ? { portal } : { target: targetName, portal });
}

async function attempt(address: Address, target: LoginTarget): Promise<Attempt> {
  const { authentication, rng } = target.environment;
  if (authentication === undefined) return attemptWith(noAuthentication, address, target);
  const chap = new ChapAuthenticator(authentication, rng);
  try {
    return await attemptWith(chap, address, target);
  } catch (error) {
    const { algorithms = DEFAULT_CHAP_ALGORITHMS } = authentication;
    if (algorithms.length === 1 || !chap.awaitsChoice || !isRefusal(error)) throw error;
    // LIO before Linux 3.15, and what was made of it, refuse a list of more than one algorithm.
    const plain = new ChapAuthenticator({ ...authentication, algorithms: ['md5'] }, rng);
    return attemptWith(plain, address, target);
  }
}

/** Whether the target does not want what we said, other than being slow, or short of something. */
function isRefusal(error: unknown): boolean {
  if (!isOrionError(error)) return false;
  if (error.code === 'ISCSI_LOGIN_REFUSED') return error.fields.statusClass === 2;
  return error.code === 'ISCSI_LOGIN_FAILED' || error.code === 'ISCSI_CHAP_ALGORITHM';
}

async function attemptWith(
  authenticator: Authenticator,
  address: Address,
  target: LoginTarget,
): Promise<Attempt> {
  const { clock, network, rng, pool } = target.environment;
  const { timeouts } = target;
  // Any value will do; a new one each time shows late packets of another session for what they are.
  const cmdSn = rng.u32();
  const machine = new LoginMachine({
    initiatorName: target.initiatorName,
    targetName: target.targetName,
    isid: target.isid,
    tsih: 0,
    cid: CID,
    cmdSn,
    itt: LOGIN_ITT,
    authenticator,
    wanted: target.wanted,
  });
  let session: IscsiSession | null = null;
  const exchange = new LoginExchange(machine, (login) => {
    session = new IscsiSession(connection, login, {
      clock,
      rng,
      timeouts,
      targetName: target.targetName ?? '',
      isid: target.isid,
      cmdSn,
    });
    connection.handler = session;
  });
  const connection = new Connection(CID, exchange);
  try {
    await connection.connect(network, address, {
      timeoutMs: timeouts.connectMs,
      pool: pool ?? null,
    });
  } catch (error) {
    throw iscsiErrors.make('ISCSI_CONNECT_FAILED', {
      message: `no connection to ${formatAddress(address)}: ${errorText(error)}`,
      cause: error,
    });
  }
  const timer = clock.after(timeouts.loginMs, () =>
    exchange.fail(iscsiErrors.make('ISCSI_LOGIN_TIMEOUT', { fields: { ms: timeouts.loginMs } })),
  );
  try {
    exchange.start(connection);
    const outcome = await exchange.promise;
    if (outcome.kind === 'done') return session!;
    connection.destroy(new Error('the target redirects elsewhere'));
    return outcome;
  } catch (error) {
    connection.destroy(error as Error);
    throw error;
  } finally {
    timer.cancel();
  }
}
