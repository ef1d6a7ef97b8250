import type { Clock } from '../core/clock.ts';
import type { Rng } from '../core/rng.ts';
import type { BufferPool } from '../wire/buffer-pool.ts';
import type { Address, Network } from '../wire/network.ts';
import type { ChapOptions } from './chap.ts';
import type { Params } from './keys.ts';
import type { LoginTrace } from './login-trace.ts';

export interface SessionTimeouts {
  readonly connectMs: number;
  /** The whole login on one portal. */
  readonly loginMs: number;
  /** One command without a sixteenth of its data moved; then it is aborted (command-time.ts). */
  readonly commandMs: number;
  /** For the answer to that; then it goes on as below. 0: no ABORT TASK. */
  readonly abortMs: number;
  /**
   * For a LOGICAL UNIT RESET after that, which ends the commands of all initiators; 0: none. Off unless somebody asks for it:
   * where several paths lead to the unit, resets are for the one who fences.
   */
  readonly lunResetMs: number;
  /** For a TARGET WARM RESET after that, which ends the commands of all units; 0: none. After it the session is given up. */
  readonly targetResetMs: number;
  /** Nothing received for this long: the target is pinged. */
  readonly nopIntervalMs: number;
  /** Nothing received for this long after a ping: the session is given up. */
  readonly nopTimeoutMs: number;
}

export const defaultTimeouts: SessionTimeouts = {
  connectMs: 5000,
  loginMs: 10_000,
  commandMs: 30_000,
  // Short: a target that answers aborts does so at once, and another path is better than a long wait for this one.
  abortMs: 2000,
  lunResetMs: 0,
  targetResetMs: 0,
  nopIntervalMs: 2000,
  nopTimeoutMs: 2000,
};

/** Data segments that a target may send us. Large: fewer headers per megabyte. */
export const OWN_SEGMENT_BYTES = 256 * 1024;

/** Just below the 24-bit limit of §13.13, in whole pages. */
const BURST_BYTES = 16 * 1024 * 1024 - 4096;

const FIRST_BURST_BYTES = 256 * 1024;
const OUTSTANDING_R2T = 8;

/** Connections that a session may have. */
export const CONNECTIONS_MAX = 8;

/** What we ask for. The target may give less. */
export const wantedParams: Partial<Params> = {
  HeaderDigest: 'None',
  DataDigest: 'None',
  MaxConnections: 1,
  InitialR2T: false,
  ImmediateData: true,
  MaxRecvDataSegmentLength: OWN_SEGMENT_BYTES,
  MaxBurstLength: BURST_BYTES,
  FirstBurstLength: FIRST_BURST_BYTES,
  DefaultTime2Wait: 0,
  DefaultTime2Retain: 0,
  MaxOutstandingR2T: OUTSTANDING_R2T,
  DataPDUInOrder: true,
  DataSequenceInOrder: true,
  ErrorRecoveryLevel: 0,
  TaskReporting: 'FastAbort,ResponseFence,RFC3720',
  iSCSIProtocolLevel: 2,
};

/**
 * What we ask for beside `wantedParams` with several connections. LIO takes unsolicited data only of a command that it has
 * begun, and ends the connection over those of one that still waits for another connection's.
 */
export const severalConnectionsParams: Partial<Params> = { InitialR2T: true };

/** Seconds that a target keeps the commands of a lost connection for us; no longer than one login takes twice. */
const TIME2RETAIN_S = 20;

/** Longest Time2Wait of a target that is kept: with a longer one another path is better. */
export const TIME2WAIT_MS_MAX = 30_000;

/** What we ask for beside `wantedParams` at each recovery level. */
export const recoveryParams: Readonly<Record<0 | 1 | 2, Partial<Params>>> = {
  0: {},
  // §13.19: one R2T at a time, or the order of the data would be open.
  1: { ErrorRecoveryLevel: 1, MaxOutstandingR2T: 1 },
  2: { ErrorRecoveryLevel: 2, MaxOutstandingR2T: 1, DefaultTime2Retain: TIME2RETAIN_S },
};

/** What every session needs of its surroundings. */
export interface SessionEnvironment {
  readonly network: Network;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly pool?: BufferPool | null;
  /** Left out: a login without authentication. */
  readonly authentication?: ChapOptions | undefined;
  /**
   * The target wants no more data for what it is asked to abort (most do, and wait for it, §4.2.3.3). With FastAbort
   * negotiated it never does.
   */
  readonly stopDataOnAbort?: boolean;
  /** Where to connect instead of an address that a target tells (redirections, discovery): targets behind NAT. */
  readonly mapAddress?: ((address: Address) => Address) | undefined;
  /** Told of each step of each login. */
  readonly trace?: LoginTrace | undefined;
}

export interface OpenSessionOptions extends SessionEnvironment {
  /**
   * Tried in order. All of one target portal group where the login is to reinstate a session, or where the session is to
   * have several connections, which are spread over them.
   */
  readonly portals: readonly Address[];
  readonly targetName: string;
  readonly initiatorName: string;
  /** 6 bytes: `makeIsid`. */
  readonly isid: Buffer;
  readonly timeouts?: Partial<SessionTimeouts>;
  /** TCP connections of the session; 1 when left out. A target that allows fewer gets fewer. */
  readonly connections?: number;
  /**
   * ErrorRecoveryLevel to ask for; 0 when left out. 1: what is damaged on the way is sent again, with data digests. 2: the
   * commands of a lost connection go on over another one.
   */
  readonly errorRecoveryLevel?: 0 | 1 | 2;
  /**
   * Asked before each login into a session that is open already. False, because somebody else may have its place, ends the
   * session. Rejects when that is not known now: the login is tried again later.
   */
  readonly mayLogIn?: () => Promise<boolean>;
  /** Instead of `wantedParams`, key by key. */
  readonly params?: Partial<Params>;
  /** The portal group that the portals are of, where it is known: another one is refused (§13.9). */
  readonly tpgt?: number | null;
  /** The target has moved for good (status 0102): `to` takes the place of the portal `from`. */
  readonly onMoved?: ((from: Address, to: Address) => void) | undefined;
}
