import { snDiff, snNext } from '../iscsi/pdu/sn.ts';
import type { Connection } from './connection.ts';
import type { Nexus } from './nexus.ts';
import type { Task } from './task.ts';

/** What was negotiated for a session and its connection, in the words of RFC 7143 §13. */
export interface SessionParams {
  initialR2T: boolean;
  immediateData: boolean;
  maxOutstandingR2T: number;
  firstBurstLength: number;
  maxBurstLength: number;
  /** The longest data segment that we may send. */
  initiatorRecvLength: number;
  /** The longest data segment that the initiator may send. */
  targetRecvLength: number;
  headerDigest: boolean;
  dataDigest: boolean;
}

/** A PDU that came before its turn. */
export interface ParkedPdu {
  readonly header: Buffer;
  readonly data: Buffer;
}

export type Turn = 'now' | 'later' | 'ignore';

export class Session {
  readonly nexus: Nexus;
  readonly tsih: number;
  readonly isDiscovery: boolean;
  readonly params: SessionParams;
  /** Null once the connection is gone. */
  connection: Connection | null;
  expCmdSn: number;
  readonly tasks = new Map<number, Task>();
  readonly #window: number;
  readonly #parked = new Map<number, ParkedPdu>();
  #outstanding = 0;

  constructor(init: {
    nexus: Nexus;
    tsih: number;
    isDiscovery: boolean;
    params: SessionParams;
    connection: Connection;
    cmdSn: number;
    window: number;
  }) {
    this.nexus = init.nexus;
    this.tsih = init.tsih;
    this.isDiscovery = init.isDiscovery;
    this.params = init.params;
    this.connection = init.connection;
    this.expCmdSn = init.cmdSn | 0;
    this.#window = init.window;
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

  /** The window bounds what is parked. */
  park(cmdSn: number, pdu: ParkedPdu): void {
    this.#parked.set(cmdSn, pdu);
  }

  takeParked(): ParkedPdu | null {
    const pdu = this.#parked.get(this.expCmdSn);
    if (pdu === undefined) return null;
    this.#parked.delete(this.expCmdSn);
    return pdu;
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
