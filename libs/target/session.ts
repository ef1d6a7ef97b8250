import type { Clock } from '../core/clock.ts';
import { snDiff, snNext } from '../iscsi/pdu/sn.ts';
import type { Connection } from './connection.ts';
import type { Nexus } from './nexus.ts';
import { type LostConnection, Recovery } from './recovery.ts';
import type { Task } from './task.ts';

/** What was negotiated for a session, in the words of RFC 7143 §13. */
export interface SessionParams {
  readonly maxConnections: number;
  readonly errorRecoveryLevel: number;
  /** Seconds. */
  readonly time2Wait: number;
  readonly time2Retain: number;
  readonly initialR2T: boolean;
  readonly immediateData: boolean;
  readonly maxOutstandingR2T: number;
  readonly firstBurstLength: number;
  readonly maxBurstLength: number;
  readonly dataPduInOrder: boolean;
  readonly dataSequenceInOrder: boolean;
  readonly taskReporting: string;
  readonly protocolLevel: number;
}

/** What each connection agrees on for itself. */
export interface ConnectionParams {
  /** The longest data segment that we may send. */
  initiatorRecvLength: number;
  /** The longest data segment that the initiator may send. */
  readonly targetRecvLength: number;
  readonly headerDigest: boolean;
  readonly dataDigest: boolean;
}

/** A PDU that came before its turn: done on its own connection when the turn comes. */
export interface ParkedPdu {
  readonly connection: Connection;
  /** The tag of a SCSI command; null for anything else. */
  readonly itt: number | null;
  /** Its unsolicited data, which follow it at once (§11.7) and wait with it. */
  readonly dataOut: ParkedData[];
  /** True when it is rejected, and its CmdSN does not count as received (§7.3). */
  readonly isRefused: () => boolean;
  readonly process: () => void;
}

export interface ParkedData {
  readonly header: Buffer;
  readonly data: Buffer;
}

export type Turn = 'now' | 'later' | 'ignore';

/** An initiator port logged in to a portal group: one command sequence over its connections (§4.2.2.1). */
export class Session {
  readonly nexus: Nexus;
  readonly tsih: number;
  readonly isDiscovery: boolean;
  readonly params: SessionParams;
  /** By CID. */
  readonly connections = new Map<number, Connection>();
  expCmdSn: number;
  readonly tasks = new Map<number, Task>();
  readonly recovery: Recovery;
  readonly #window: number;
  readonly #parked = new Map<number, ParkedPdu>();
  #outstanding = 0;

  constructor(init: {
    nexus: Nexus;
    tsih: number;
    isDiscovery: boolean;
    params: SessionParams;
    cmdSn: number;
    window: number;
    clock: Clock;
    onExpired: (lost: LostConnection) => void;
  }) {
    this.nexus = init.nexus;
    this.tsih = init.tsih;
    this.isDiscovery = init.isDiscovery;
    this.params = init.params;
    this.expCmdSn = init.cmdSn | 0;
    this.#window = init.window;
    this.recovery = new Recovery(init.clock, this, init.onExpired);
  }

  /** Nobody can come back to it. */
  get isGone(): boolean {
    return this.connections.size === 0 && this.recovery.isEmpty;
  }

  /** It never goes back: a command takes from the window what it adds to ExpCmdSN (§4.2.2.1). */
  get maxCmdSn(): number {
    return (this.expCmdSn + this.#window - this.#outstanding - 1) | 0;
  }

  get immediateTasks(): number {
    return this.tasks.size - this.#outstanding;
  }

  /** What to do with a non-immediate PDU of this CmdSN; a command whose turn it is advances ExpCmdSN. */
  turnOf(cmdSn: number): Turn {
    if (snDiff(cmdSn, this.maxCmdSn) > 0 || snDiff(cmdSn, this.expCmdSn) < 0) return 'ignore';
    return cmdSn === this.expCmdSn ? 'now' : 'later';
  }

  advance(): void {
    this.expCmdSn = snNext(this.expCmdSn);
  }

  /** The window bounds what is parked. The same one sent again changes nothing. */
  park(cmdSn: number, pdu: ParkedPdu): void {
    if (!this.#parked.has(cmdSn)) this.#parked.set(cmdSn, pdu);
  }

  /** The command of this tag, if it waits for its turn. */
  parkedCommand(itt: number, connection: Connection): ParkedPdu | null {
    for (const pdu of this.#parked.values()) {
      if (pdu.itt === itt && pdu.connection === connection) return pdu;
    }
    return null;
  }

  /** Does what has waited for its turn, as far as the sequence goes on. */
  replayParked(): void {
    for (;;) {
      const pdu = this.#parked.get(this.expCmdSn);
      if (pdu === undefined) return;
      this.#parked.delete(this.expCmdSn);
      if (pdu.isRefused()) return;
      this.advance();
      pdu.process();
    }
  }

  /** What a lost connection brought too early is forgotten: the initiator sends it again to close the gap (§7.2.1). */
  unpark(connection: Connection): void {
    for (const [cmdSn, pdu] of this.#parked) {
      if (pdu.connection === connection) this.#parked.delete(cmdSn);
    }
  }

  begin(task: Task): void {
    if (!task.immediate) this.#outstanding += 1;
    this.tasks.set(task.itt, task);
  }

  finish(task: Task): void {
    if (!task.immediate) this.#outstanding -= 1;
    this.tasks.delete(task.itt);
  }
}
