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
  severalConnectionsParams,
  wantedParams,
} from './session-options.ts';
import { parseTargetAddress, type TargetAddress } from './target-address.ts';

/** Redirections that are followed in a row (§11.13.5). */
const REDIRECTS_MAX = 4;

/** Addresses of one redirection that are tried. */
const REDIRECT_ADDRESSES_MAX = 8;

const LEADING_CID = 0;

/** What follows the leading login. */
type Plan = Omit<ConnectionOpener, 'logIn'>;

interface Redirection {
  readonly addresses: readonly string[];
  readonly permanent: boolean;
}

type Attempt = IscsiSession | Redirection;

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
      ...(connections > 1 ? severalConnectionsParams : {}),
      ...options.params,
      ...recoveryParams[errorRecoveryLevel],
    },
    tpgt: options.tpgt ?? null,
    onMoved: options.onMoved,
  };
  const mayLogIn = options.mayLogIn ?? (() => Promise.resolve(true));
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
    tpgt: null,
    onMoved: undefined,
  };
  return openAny(portals, target, {
    portals,
    connections: 1,
    mayLogIn: () => Promise.resolve(true),
  });
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

/**
 * Logs in at `portal`, and where it redirects to; the name of the target never changes by that. The next login begins at
 * `portal` again (§11.13.5, "temporarily"), unless it has moved for good, which `onMoved` is told.
 */
async function openFollowing(
  portal: Address,
  target: LoginTarget,
  plan: Plan,
): Promise<IscsiSession> {
  let candidates: readonly TargetAddress[] = [{ address: portal, tpgt: target.tpgt }];
  let isPermanent = false;
  let home = portal;
  for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
    const { address, attempt } = await attemptAny(candidates, target, plan);
    // Where a move for good has led to is known once somebody answers there.
    if (isPermanent) home = address;
    if (attempt instanceof IscsiSession) {
      if (home !== portal) target.onMoved?.(portal, home);
      return attempt;
    }
    isPermanent = attempt.permanent && (hop === 0 || isPermanent);
    candidates = redirectedTo(attempt.addresses, address, target);
  }
  throw iscsiErrors.make('ISCSI_REDIRECT_LOOP', { fields: { portal: formatAddress(portal) } });
}

function redirectedTo(
  addresses: readonly string[],
  from: Address,
  target: LoginTarget,
): TargetAddress[] {
  const { mapAddress } = target.environment;
  const parsed = addresses
    .slice(0, REDIRECT_ADDRESSES_MAX)
    .map((text) => parseTargetAddress(text))
    .filter((found) => found !== null);
  if (parsed.length === 0) {
    throw iscsiErrors.make('ISCSI_LOGIN_FAILED', {
      message: `the target redirects to ${JSON.stringify(addresses[0]!.slice(0, 80))}, which is no address (§13.8)`,
      fields: { portal: formatAddress(from) },
    });
  }
  return parsed.map(({ address, tpgt }) => ({
    address: mapAddress?.(address) ?? address,
    tpgt: tpgt ?? target.tpgt,
  }));
}

async function attemptAny(
  candidates: readonly TargetAddress[],
  target: LoginTarget,
  plan: Plan,
): Promise<{ readonly address: Address; readonly attempt: Attempt }> {
  let last: unknown;
  for (const { address, tpgt } of candidates) {
    try {
      return { address, attempt: await attempt(address, { ...target, tpgt }, plan) };
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
