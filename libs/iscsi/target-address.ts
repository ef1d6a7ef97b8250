import { type Address, parseAddress } from '../wire/network.ts';

/** The port of iSCSI where none is given (§15). */
export const ISCSI_PORT = 3260;

export interface TargetAddress {
  readonly address: Address;
  /** Target portal group tag; null where it is left out (in a redirection). */
  readonly tpgt: number | null;
}

/** "host:port,tag", "[::1],1", "10.0.0.1" (§13.8). Null when it is none. */
export function parseTargetAddress(text: string): TargetAddress | null {
  const match = /^(.+?)(?:,(\d{1,5}))?$/.exec(text);
  if (match === null) return null;
  const address = parseAddress(match[1]!, ISCSI_PORT);
  if (address === null || address.kind !== 'tcp') return null;
  const tpgt = match[2] === undefined ? null : Number(match[2]);
  if (tpgt !== null && tpgt > 65535) return null;
  return { address, tpgt };
}
