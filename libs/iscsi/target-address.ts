import { type Address, parseAddress } from '../wire/network.ts';
import { parseValue } from './keys.ts';

/** The port of iSCSI where none is given (§15). */
export const ISCSI_PORT = 3260;

/** Longer ones are no names of hosts (RFC 1035 §2.3.4), and a tag and a port are short. */
const ADDRESS_CHARS_MAX = 300;

export interface TargetAddress {
  readonly address: Address;
  /** Target portal group tag; null where it is left out, as in a redirection. */
  readonly tpgt: number | null;
}

/** "host:port,tag", "[::1],1", "10.0.0.1" (§13.8). Null when it is none. */
export function parseTargetAddress(text: string): TargetAddress | null {
  if (text.length > ADDRESS_CHARS_MAX) return null;
  const match = /^([^,]+)(?:,([^,]+))?$/.exec(text);
  if (match === null) return null;
  const address = parseAddress(match[1]!, ISCSI_PORT);
  if (address?.kind !== 'tcp' || address.port === 0) return null;
  if (!/^[\p{L}\p{N}.:_-]+$/u.test(address.host)) return null;
  if (match[2] === undefined) return { address, tpgt: null };
  const tpgt = parseValue('TargetPortalGroupTag', match[2]);
  return tpgt === null ? null : { address, tpgt: tpgt as number };
}

/** Who listens on every address of its machine and says so means the one that it was reached by. */
export function withoutWildcard(address: Address, used: Address): Address {
  if (address.kind !== 'tcp' || used.kind !== 'tcp') return address;
  const isWildcard = /^(?:0\.0\.0\.0|[0:]+)$/.test(address.host);
  return isWildcard ? { ...address, host: used.host } : address;
}
