import type { Clock } from '../core/clock.ts';
import type { Rng } from '../core/rng.ts';
import type { Address, Network } from '../wire/network.ts';
import type { TargetChap } from './chap.ts';
import type { LunOptions } from './logical-unit.ts';

export type { ChapAccount, TargetChap } from './chap.ts';
export type { LunOptions } from './logical-unit.ts';

export interface PortalOptions {
  /** Port 0 takes a free one. */
  readonly address: Address;
  /** Target portal group tag; 1 by default. Portals of one group share sessions' identity. */
  readonly tpgt?: number;
}

/** What the target asks for in negotiations; the initiator's offers decide within that. */
export interface TargetParams {
  readonly initialR2T?: boolean;
  readonly immediateData?: boolean;
  readonly maxRecvDataSegmentLength?: number;
  readonly firstBurstLength?: number;
  readonly maxBurstLength?: number;
  readonly maxOutstandingR2T?: number;
  /** Commands that a session may have outstanding. */
  readonly commandWindow?: number;
  /** Pings initiators that were silent so long, and drops those that do not answer; 0, the default: never. */
  readonly nopIntervalMs?: number;
  /** The digests that are taken, from the list that an initiator offers; `None` by default. */
  readonly headerDigest?: 'None' | 'CRC32C' | 'CRC32C,None';
  readonly dataDigest?: 'None' | 'CRC32C' | 'CRC32C,None';
  /** Connections that a session may have; 1 by default. */
  readonly maxConnections?: number;
  /** The highest error recovery level that is agreed to; 0 by default. */
  readonly errorRecoveryLevel?: number;
  /** Seconds that an initiator has to wait before it recovers a connection, at least; 0 by default. */
  readonly time2Wait?: number;
  /** Seconds that tasks of a lost connection are kept for after that, at most (level 2 alone); 20 by default. */
  readonly time2Retain?: number;
  /** False agrees to data PDUs, or sequences of them, in any order, and then sends them backwards. */
  readonly dataPduInOrder?: boolean;
  readonly dataSequenceInOrder?: boolean;
  /** Asks for a DataACK at the end of every sequence of Data-In PDUs, with recovery level 1 or 2; false by default. */
  readonly acknowledgeData?: boolean;
  /** The values of TaskReporting that are taken from an initiator's list (§13.23); `RFC3720` by default. */
  readonly taskReporting?: string;
  /** iSCSIProtocolLevel (§13.24); 1 by default. 2: the task management functions of RFC 7144 too. */
  readonly protocolLevel?: number;
}

/** Where real targets differ, and initiators must not rely on either. */
export interface TargetBehaviour {
  /** `keep`, the default: tasks of a reinstated session go on executing (tgt). `abort`: they are gone (LIO). */
  readonly onReinstatement?: 'keep' | 'abort';
  /** `wait`, the default: resets are answered when running commands have finished (tgt). `abort`: they are gone (LIO). */
  readonly onLunReset?: 'wait' | 'abort';
  /** True, the default: a good status comes in the last Data-In PDU. False: in a response of its own. */
  readonly statusWithData?: boolean;
}

export interface TargetOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly targetName: string;
  readonly portals: readonly PortalOptions[];
  readonly luns: readonly LunOptions[];
  readonly params?: TargetParams;
  readonly behaviour?: TargetBehaviour;
  /** Every login has to authenticate itself, discovery too. Left out: nobody has to. */
  readonly chap?: TargetChap;
  /** Keeps a log of every executed write, for tests. */
  readonly recordWrites?: boolean;
}

/** One executed write. */
export interface WriteRecord {
  readonly atMs: number;
  readonly lun: number;
  readonly opcode: number;
  readonly lba: number;
  readonly blocks: number;
  readonly initiatorName: string;
  readonly isid: string;
  readonly tsih: number;
  readonly cmdSn: number;
  /** False: its connection was gone already. A ghost write. */
  readonly connected: boolean;
}

export interface SessionInfo {
  readonly initiatorName: string;
  readonly isid: string;
  readonly tsih: number;
  readonly type: 'Normal' | 'Discovery';
  readonly tpgt: number;
  readonly portal: number;
  readonly remote: string;
  /** Commands that are not answered yet. */
  readonly tasks: number;
  readonly errorRecoveryLevel: number;
  readonly connections: readonly ConnectionEntry[];
}

export interface ConnectionEntry {
  readonly cid: number;
  /** Index in the target's portals. */
  readonly portal: number;
  readonly remote: string;
}

/** What is asked for when nothing else is said. */
export const DEFAULT_PARAMS: Required<TargetParams> = {
  initialR2T: false,
  immediateData: true,
  maxRecvDataSegmentLength: 262_144,
  firstBurstLength: 262_144,
  maxBurstLength: 1_048_576,
  maxOutstandingR2T: 4,
  commandWindow: 128,
  nopIntervalMs: 0,
  headerDigest: 'None',
  dataDigest: 'None',
  maxConnections: 1,
  errorRecoveryLevel: 0,
  time2Wait: 0,
  time2Retain: 20,
  dataPduInOrder: true,
  dataSequenceInOrder: true,
  acknowledgeData: false,
  taskReporting: 'RFC3720',
  protocolLevel: 1,
};
