import type { Address } from '../wire/network.ts';
import type { AsyncEventScript } from './async-message.ts';
import type { BitFlip } from './pdu-sender.ts';

/** Which connections a fault is about; what is left out matches all. */
export interface ConnectionMatch {
  /** Index in the target's portals. */
  readonly portal?: number;
  readonly cid?: number;
  readonly initiatorName?: string;
}

export interface ConnectionInfo {
  readonly portalIndex: number;
  readonly cid: number;
  readonly initiatorName: string;
}

export function isAbout(match: ConnectionMatch, connection: ConnectionInfo): boolean {
  const { portal, cid, initiatorName } = match;
  if (portal !== undefined && portal !== connection.portalIndex) return false;
  if (cid !== undefined && cid !== connection.cid) return false;
  return initiatorName === undefined || initiatorName === connection.initiatorName;
}

/** Which PDUs a fault strikes. */
export interface PduMatch extends ConnectionMatch {
  readonly direction: 'received' | 'sent';
  readonly opcode?: number;
  /** The how many-th matching PDU from now on, over all connections; 1 is the next. Default 1. */
  readonly nth?: number;
  /** Strikes so many PDUs from the nth on. Default 1. */
  readonly count?: number;
}

export interface LoginMatch {
  readonly portal?: number;
  readonly initiatorName?: string;
  /** True: logins that begin a session. False: those that add a connection to one. */
  readonly isLeading?: boolean;
  readonly count?: number;
}

export interface LoginInfo {
  readonly portalIndex: number;
  readonly initiatorName: string;
  readonly isLeading: boolean;
}

export function isAboutLogin(match: LoginMatch, login: LoginInfo): boolean {
  const { portal, initiatorName, isLeading } = match;
  if (portal !== undefined && portal !== login.portalIndex) return false;
  if (initiatorName !== undefined && initiatorName !== login.initiatorName) return false;
  return isLeading === undefined || isLeading === login.isLeading;
}

export interface LogoutMatch extends ConnectionMatch {
  readonly reason?: number;
  readonly count?: number;
}

export interface TaskFunctionMatch extends ConnectionMatch {
  readonly function?: number;
  readonly count?: number;
}

/** What is sent instead of a PDU; the connection ends after it. */
export type Nonsense = 'garbage' | 'oversized' | 'truncated' | 'unknown-opcode';

/** Nonsense, or a PDU with one bit of its header or data changed after its digests were made; the connection goes on. */
export type Corruption = Nonsense | BitFlip;

export interface RejectVerdict {
  readonly reject: number;
}

export type PduVerdict = 'go' | 'cut' | 'drop' | Corruption | RejectVerdict;

export interface LoginRefusal {
  readonly statusClass: number;
  readonly statusDetail: number;
  /** For a redirection (status class 1). */
  readonly targetAddress?: Address;
}

export interface LogoutScript {
  readonly response: number;
  /** Seconds. */
  readonly time2Wait?: number;
  readonly time2Retain?: number;
}

/** What a target does to its connections because a test says so, at once. */
export interface Scriptable extends ConnectionInfo {
  readonly isLoggedIn: boolean;
  freeze(frozen: boolean): void;
  mute(muted: boolean): void;
  skipStatSn(count: number): void;
  sendAsync(script: AsyncEventScript): void;
  sendReject(reason: number, header: Uint8Array): void;
  ping(): void;
  cutAfter(direction: 'received' | 'sent', bytes: number): void;
}
