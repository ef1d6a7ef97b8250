import { type Address, parseAddress } from '../wire/network.ts';
import { protocolError } from './errors.ts';
import { NAME_BYTES_MAX, normalizeName } from './names.ts';
import { openDiscovery } from './open-session.ts';
import type { IscsiSession } from './session.ts';
import type { SessionEnvironment, SessionTimeouts } from './session-options.ts';
import {
  ISCSI_PORT,
  parseTargetAddress,
  type TargetAddress,
  withoutWildcard,
} from './target-address.ts';
import { encodeText, parseText } from './text.ts';

const LOGOUT_MS = 3000;

/** The text of one SendTargets answer: some tens of thousands of portals. */
const ANSWER_BYTES_MAX = 4 * 1024 * 1024;

const TARGETS_MAX = 16_384;
const PORTALS_MAX = 1024;

export interface DiscoveredTarget {
  /** Normalised. */
  readonly name: string;
  /** Portals with one tag belong to one group: a session may use any of them (§4.4.1). */
  readonly portals: readonly TargetAddress[];
}

export interface PortalGroup {
  /** Null: the target did not say. */
  readonly tpgt: number | null;
  readonly portals: readonly Address[];
}

export interface DiscoverOptions extends SessionEnvironment {
  readonly portals: readonly Address[];
  readonly initiatorName: string;
  readonly isid: Buffer;
  readonly timeouts?: Partial<SessionTimeouts>;
  /** Only this target; all that the portal tells of when left out. */
  readonly target?: string;
}

/** Asks a portal which targets it has for us, in a session of its own (SendTargets; appendix C of RFC 7143). */
export async function discover(options: DiscoverOptions): Promise<DiscoveredTarget[]> {
  const session = await openDiscovery(options.portals, options);
  try {
    const { target, mapAddress } = options;
    const which = target === undefined ? 'All' : normalizeName(target);
    return await sendTargets(session, which, mapAddress);
  } catch (error) {
    throw session.cause ?? error; // why the session ended says more than that it did
  } finally {
    // The list is here; a target that does not answer the logout takes nothing away from it.
    await session.logout({ timeoutMs: LOGOUT_MS }).catch(() => {});
  }
}

/**
 * SendTargets in a session that is open. `which`: "All" in a discovery session, the name of a target, or "" for the target
 * of a normal session.
 */
export async function sendTargets(
  session: IscsiSession,
  which: string,
  mapAddress?: SessionEnvironment['mapAddress'],
): Promise<DiscoveredTarget[]> {
  const used = parseAddress(session.portal, ISCSI_PORT)!; // it is where we connected to
  const request = encodeText([['SendTargets', which]]);
  const answer = await session.text(request, session.timeouts.commandMs, ANSWER_BYTES_MAX);
  return parseSendTargets(answer, used).map(({ name, portals }) => ({
    name,
    portals: portals.map(({ address, tpgt }) => ({
      address: mapAddress?.(address) ?? address,
      tpgt,
    })),
  }));
}

/** Addresses belong to the name before them; a name without any is served by the portal that answered (appendix C). */
export function parseSendTargets(text: Buffer, used: Address): DiscoveredTarget[] {
  const parsed = parseText(text, ANSWER_BYTES_MAX);
  if (parsed.pairs === null) throw protocolError(parsed.error);
  const found: { name: string; portals: TargetAddress[] }[] = [];
  for (const [key, value] of parsed.pairs) {
    if (key === 'SendTargets') throw protocolError(`SendTargets=${shown(value)} (App. C)`);
    if (key === 'TargetName') found.push({ name: targetName(value), portals: [] });
    if (found.length > TARGETS_MAX) throw protocolError(`more than ${TARGETS_MAX} targets`);
    if (key === 'TargetAddress') addPortal(found.at(-1), value, used);
  }
  return found.map(({ name, portals }) => ({
    name,
    portals: portals.length > 0 ? portals : [{ address: used, tpgt: null }],
  }));
}

/** One that we could not log in to is shown all the same. */
function targetName(value: string): string {
  if (value !== '' && Buffer.byteLength(value) <= NAME_BYTES_MAX) return normalizeName(value);
  throw protocolError(`TargetName=${shown(value)} (§4.2.7)`);
}

function addPortal(
  target: { readonly portals: TargetAddress[] } | undefined,
  value: string,
  used: Address,
): void {
  if (target === undefined) throw protocolError('a TargetAddress before any TargetName (App. C)');
  const portal = parseTargetAddress(value);
  if (portal === null) throw protocolError(`TargetAddress=${shown(value)} (§13.8)`);
  if (target.portals.length >= PORTALS_MAX) {
    throw protocolError(`more than ${PORTALS_MAX} portals of one target`);
  }
  target.portals.push({ ...portal, address: withoutWildcard(portal.address, used) });
}

function shown(value: string): string {
  return JSON.stringify(value.slice(0, 80));
}

/** The portals of a target by group, in the order in which it told them. A session is possible to one group (§4.4.1). */
export function groupsOf(portals: readonly TargetAddress[]): PortalGroup[] {
  const groups = new Map<number | null, Address[]>();
  for (const { address, tpgt } of portals) {
    const group = groups.get(tpgt);
    if (group === undefined) groups.set(tpgt, [address]);
    else group.push(address);
  }
  return [...groups].map(([tpgt, addresses]) => ({ tpgt, portals: addresses }));
}
