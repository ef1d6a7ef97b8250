import { assert } from '../core/assert.ts';
import { isOrionError } from '../core/errors.ts';
import { type Address, formatAddress } from '../wire/network.ts';
import type { ConnectionOpener } from './connection-set.ts';
import { iscsiErrors } from './errors.ts';
import { nameInvalidReason, normalizeName } from './names.ts';
import { ISID_BYTES } from './pdu/login-request.ts';
import { IscsiSession } from './session.ts';
import { placed } from './session-errors.ts';
import { type LoginTarget, logIn } from './session-login.ts';
import {
  CONNECTIONS_MAX,
  defaultTimeouts,
  type OpenSessionOptions,
  recoveryParams,
  type SessionEnvironment,
  type SessionTimeouts,
  wantedParams,
} from './session-options.ts';
import { parseTargetAddress } from './target-address.ts';

/** Redirections that are followed in a row (§11.13.5). */
const REDIRECTS_MAX = 4;

/** Addresses of one redirection that are tried. */
const REDIRECT_ADDRESSES_MAX = 8;

const LEADING_CID = 0;

/** What follows the leading login. */
type Plan = Omit<ConnectionOpener, 'logIn'>;

type Attempt = IscsiSession | { readonly addresses: readonly string[] };

/**
 * Logs in on the first portal that takes us. With TSIH 0 and a known ISID the target reinstates: it ends the session that
 * had this ISID before (§6.3.5). Rejects with the error of the last portal that was tried.
 */
export function openSession(options: OpenSessionOptions): Promise<IscsiSession> {
  const { portals, connections = 1, errorRecoveryLevel = 0 } = options;
  assert(connections >= 1 && connections <= CONNECTIONS_MAX, 'a session has 1 to 8 connections');
  const target: LoginTarget = {
    environment: options,
    targetName: checkedName(options.targetName),
    initiatorName: checkedName(options.initiatorName),
    isid: options.isid,
    timeouts: { ...defaultTimeouts, ...options.timeouts },
    wanted: {
      ...wantedParams,
      MaxConnections: connections,
      ...recoveryParams[errorRecoveryLevel],
      ...options.params,
    },
  };
  const mayLogIn = options.mayLogIn ?? (() => Promise.resolve());
  return openAny(portals, target, { portals, connections, mayLogIn });
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
  const target: LoginTarget = {
    environment: options,
    targetName: null,
    initiatorName: checkedName(options.initiatorName),
    isid: options.isid,
    timeouts: { ...defaultTimeouts, ...options.timeouts },
    wanted: wantedParams,
  };
  return openAny(portals, target, { portals, connections: 1, mayLogIn: () => Promise.resolve() });
}

function checkedName(name: string): string {
  const reason = nameInvalidReason(name);
  if (reason === null) return normalizeName(name);
  throw iscsiErrors.make('ISCSI_BAD_NAME', {
    message: `${JSON.stringify(name)} is not an iSCSI name: ${reason}`,
  });
}

async function openAny(
  portals: readonly Address[],
  target: LoginTarget,
  plan: Plan,
): Promise<IscsiSession> {
  assert(portals.length > 0, 'a session is opened on at least one portal');
  assert(target.isid.length === ISID_BYTES, 'an ISID has 6 bytes');
  let last: unknown;
  for (const portal of portals) {
    try {
      return await openFollowing(portal, target, plan);
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

/** Logs in at `portal`, and where it redirects to; the name of the target never changes by that. */
async function openFollowing(
  portal: Address,
  target: LoginTarget,
  plan: Plan,
): Promise<IscsiSession> {
  let candidates: readonly Address[] = [portal];
  for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
    const attempt = await attemptAny(candidates, target, plan);
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

async function attemptAny(
  candidates: readonly Address[],
  target: LoginTarget,
  plan: Plan,
): Promise<Attempt> {
  let last: unknown;
  for (const address of candidates) {
    try {
      return await attempt(address, target, plan);
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

async function attempt(address: Address, target: LoginTarget, plan: Plan): Promise<Attempt> {
  const { clock, rng } = target.environment;
  // Any value will do; a new one each time shows late packets of another session for what they are.
  const cmdSn = rng.u32();
  let session: IscsiSession | null = null;
  const outcome = await logIn(
    address,
    target,
    { tsih: 0, cid: LEADING_CID, cmdSn },
    {
      onDone: (connection, login) => {
        session = new IscsiSession(connection, login, {
          clock,
          rng,
          timeouts: target.timeouts,
          targetName: target.targetName ?? '',
          isid: target.isid,
          cmdSn,
          stopDataOnAbort: target.environment.stopDataOnAbort ?? false,
          address,
          opener: {
            ...plan,
            logIn: (portal, place, hooks) => logIn(portal, target, place, hooks),
          },
        });
      },
    },
  );
  if (outcome.kind === 'redirect') return outcome;
  session!.members.expand(session!.login.params.MaxConnections);
  return session!;
}
