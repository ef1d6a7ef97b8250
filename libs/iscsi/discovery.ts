import type { Address } from '../wire/network.ts';
import { formatAddress } from '../wire/network.ts';
import { protocolError } from './errors.ts';
import { openDiscovery } from './open-session.ts';
import type { SessionEnvironment, SessionTimeouts } from './session-options.ts';
import { parseTargetAddress, type TargetAddress } from './target-address.ts';
import { encodeText, parseText } from './text.ts';

const LOGOUT_MS = 3000;

export interface DiscoveredTarget {
  readonly name: string;
  /** Portals with one tag belong to one group: a session may use any of them. */
  readonly portals: readonly TargetAddress[];
}

export interface DiscoverOptions extends SessionEnvironment {
  readonly portals: readonly Address[];
  readonly initiatorName: string;
  readonly isid: Buffer;
  readonly timeouts?: Partial<SessionTimeouts>;
}

/** Asks a portal which targets it has for us (SendTargets=All in a discovery session; appendix C of RFC 7143). */
export async function discover(options: DiscoverOptions): Promise<DiscoveredTarget[]> {
  const session = await openDiscovery(options.portals, options);
  try {
    const request = encodeText([['SendTargets', 'All']]);
    const answer = await session.text(request, session.timeouts.commandMs);
    const used = options.portals.find((address) => formatAddress(address) === session.portal);
    return parseSendTargets(answer, used ?? null);
  } finally {
    // The list is here; a target that does not answer the logout takes nothing away from it.
    await session.logout({ timeoutMs: LOGOUT_MS }).catch(() => {});
  }
}

/** Addresses belong to the name before them; a name without any is served by the portal that answered (appendix C). */
export function parseSendTargets(text: Buffer, used: Address | null): DiscoveredTarget[] {
  const parsed = parseText(text);
  if (parsed.pairs === null) throw protocolError(parsed.error);
  const found: { name: string; portals: TargetAddress[] }[] = [];
  for (const [key, value] of parsed.pairs) {
    if (key === 'TargetName') found.push({ name: value, portals: [] });
    if (key !== 'TargetAddress') continue;
    const last = found.at(-1);
    if (last === undefined) throw protocolError('a TargetAddress before any TargetName (App. C)');
    const address = parseTargetAddress(value);
    if (address === null) throw protocolError(`TargetAddress=${value.slice(0, 80)} (§13.8)`);
    last.portals.push(address);
  }
  for (const target of found) {
    if (target.portals.length === 0 && used !== null)
      target.portals.push({ address: used, tpgt: null });
  }
  return found;
}
