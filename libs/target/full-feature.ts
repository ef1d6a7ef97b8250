import type { Timer } from '../core/clock.ts';
import { At, BHS_BYTES, immediateOf, NO_LUN, u32 } from '../iscsi/pdu/bhs.ts';
import { opcodeOf } from '../iscsi/pdu/index.ts';
import { logoutRequest } from '../iscsi/pdu/logout-request.ts';
import { Opcode, RESERVED_TAG, RejectReason } from '../iscsi/pdu/opcodes.ts';
import { taskManagementRequest } from '../iscsi/pdu/task-management-request.ts';
import type { Connection, Phase } from './connection.ts';
import { logOut } from './logout.ts';
import type { ParkedData, ParkedPdu, Session } from './session.ts';
import { serveSnack } from './snack.ts';
import type { Task } from './task.ts';
import { manageTasks } from './task-management.ts';
import { TextExchange } from './text-exchange.ts';
import { Transfers } from './transfers.ts';

/** Data-Out PDUs that may wait with one command: a first burst in the smallest segments is less (§13.12, §13.14). */
const PARKED_PDUS_MAX = 32_768;

/** What to do with a header once its data has come. */
type Next = 'nothing' | 'transfer' | 'park' | 'follow' | 'handle' | 'arrive';

/** Handles the PDUs of a connection that is logged in. */
export class FullFeature implements Phase {
  readonly #connection: Connection;
  readonly #session: Session;
  readonly #transfers: Transfers;
  readonly #text: TextExchange;
  /** The header that data follows, and what to do with both. */
  readonly #header = Buffer.alloc(BHS_BYTES);
  #ahs: Buffer | null = null;
  #next: Next = 'nothing';
  #pingTtt = 0;
  #pingTimer: Timer | null = null;

  constructor(connection: Connection, session: Session) {
    this.#connection = connection;
    this.#session = session;
    this.#transfers = new Transfers(connection, session);
    this.#text = new TextExchange(connection, session);
    this.#armPing();
  }

  get dataLengthMax(): number {
    return this.#connection.params.targetRecvLength;
  }

  onOver(): void {
    this.#pingTimer?.cancel();
    this.#transfers.stop();
  }

  /** A task whose connection was lost goes on over this one. */
  adopt(task: Task, expDataSn: number): void {
    if (task.state === 'data') this.#transfers.adopt(task, expDataSn);
    else if (task.state === 'executed') this.#connection.engine.run(task);
    else if (task.state === 'ended') this.#connection.delivery?.adopt(task, expDataSn);
  }

  onHeader(header: Buffer, at: number, dataLength: number): void {
    this.#next = 'nothing';
    const { delivery, sender } = this.#connection;
    delivery?.retention.acknowledge(u32(header, at + At.expStatSn), sender.statSn);
    const opcode = opcodeOf(header, at);
    if (opcode === Opcode.DataOut) {
      if (this.#parkedOf(header, at) !== null) return this.#keep(header, at, dataLength, 'follow');
      this.#next = 'transfer';
      this.#transfers.dataOut(header, at, dataLength);
      return;
    }
    if (dataLength > 0 && this.#waitsForDigest) return this.#keep(header, at, dataLength, 'arrive');
    if (carriesCmdSn(header, at)) {
      const turn = this.#session.turnOf(u32(header, at + At.cmdSn) | 0);
      if (turn !== 'now') {
        // §4.2.2.1: outside the window it is ignored silently; early, it waits for those before it.
        this.#keep(header, at, dataLength, turn === 'later' ? 'park' : 'nothing');
        return;
      }
      if (this.#isRefused(header, at, dataLength, this.#connection.receiver.ahs)) {
        return this.#keep(header, at, dataLength, 'nothing');
      }
      this.#session.advance();
    } else if (this.#isRefused(header, at, dataLength, this.#connection.receiver.ahs)) {
      return this.#keep(header, at, dataLength, 'nothing');
    }
    this.#handle(header, at, dataLength);
    if (dataLength === 0) this.#session.replayParked();
  }

  /** §7.8: the CmdSN of a PDU that will be forgotten for its data must not count as received. */
  get #waitsForDigest(): boolean {
    const { dataDigest } = this.#connection.params;
    return dataDigest && this.#session.params.errorRecoveryLevel > 0;
  }

  onData(data: Buffer | null): void {
    const next = this.#next;
    this.#next = 'nothing';
    if (next === 'transfer') this.#transfers.dataArrived();
    else if (next === 'handle') this.#handleWhole(this.#header, 0, data);
    else if (next === 'park') this.#park(data);
    else if (next === 'follow') this.#follow(data);
    else if (next === 'arrive') this.#arrive(data);
    this.#session.replayParked();
  }

  onDiscarded(): void {
    const next = this.#next;
    this.#next = 'nothing';
    if (next === 'transfer') this.#transfers.dataLost();
  }

  /** Remembers the header until its data has come. */
  #keep(header: Buffer, at: number, dataLength: number, next: Next): void {
    if (next === 'nothing') {
      if (dataLength > 0) this.#connection.receiver.skip();
      return;
    }
    header.copy(this.#header, 0, at, at + BHS_BYTES);
    const { ahs } = this.#connection.receiver;
    this.#ahs = ahs === null ? null : Buffer.from(ahs);
    this.#next = next;
    if (dataLength > 0) return;
    this.#next = 'nothing';
    if (next === 'park') this.#park(null);
    else if (next === 'follow') this.#follow(null);
    else this.#handleWhole(this.#header, 0, null);
  }

  /** A PDU is complete and its digest right: its CmdSN counts from now on. */
  #arrive(data: Buffer | null): void {
    const hasCmdSn = carriesCmdSn(this.#header, 0);
    const turn = hasCmdSn ? this.#session.turnOf(u32(this.#header, At.cmdSn) | 0) : 'now';
    if (turn === 'later') this.#park(data);
    if (turn !== 'now') return;
    if (this.#isRefused(this.#header, 0, data?.length ?? 0, this.#ahs)) return;
    if (hasCmdSn) this.#session.advance();
    this.#process(this.#header, this.#ahs, data);
  }

  /** A command that is rejected was never received (§7.3): its CmdSN is open for another. */
  #isRefused(header: Buffer, at: number, dataLength: number, ahs: Buffer | null): boolean {
    if (opcodeOf(header, at) !== Opcode.ScsiCommand) return false;
    const reason = this.#transfers.refusal(header, at, dataLength, ahs);
    if (reason !== null) this.#reject(reason, header, at);
    return reason !== null;
  }

  #park(data: Buffer | null): void {
    const header = Buffer.from(this.#header);
    const ahs = this.#ahs;
    const kept = Buffer.from(data ?? []);
    const dataOut: ParkedData[] = [];
    this.#session.park(u32(header, At.cmdSn) | 0, {
      connection: this.#connection,
      itt: opcodeOf(header) === Opcode.ScsiCommand ? u32(header, At.itt) : null,
      dataOut,
      isRefused: () => this.#isRefused(header, 0, kept.length, ahs),
      process: () => {
        this.#process(header, ahs, kept);
        for (const one of dataOut) this.#transfers.parkedData(one.header, one.data);
      },
    });
  }

  /** The command that a Data-Out PDU is for, if that waits for its turn. */
  #parkedOf(header: Buffer, at: number): ParkedPdu | null {
    return this.#session.parkedCommand(u32(header, at + At.itt), this.#connection);
  }

  /** Unsolicited data of a command that waits for those of other connections: they wait with it. */
  #follow(data: Buffer | null): void {
    const header = Buffer.from(this.#header);
    const kept = Buffer.from(data ?? []);
    const command = this.#parkedOf(header, 0);
    // Its turn may have come while the data did.
    if (command === null) return this.#transfers.parkedData(header, kept);
    command.dataOut.push({ header, data: kept });
    const bytes = command.dataOut.reduce((sum, one) => sum + one.data.length, 0);
    const isTooMuch =
      bytes > this.#session.params.firstBurstLength || command.dataOut.length > PARKED_PDUS_MAX;
    if (isTooMuch) this.#connection.protocolError('too much unsolicited data (§13.14)', header, 0);
  }

  /** A whole PDU whose turn it is. */
  #process(header: Buffer, ahs: Buffer | null, data: Buffer | null): void {
    if (opcodeOf(header) === Opcode.ScsiCommand) {
      const whole = data ?? NO_LUN.subarray(0, 0);
      this.#transfers.command(header, 0, whole.length, whole, ahs);
    } else this.#handleWhole(header, 0, data);
  }

  #handle(header: Buffer, at: number, dataLength: number): void {
    if (opcodeOf(header, at) === Opcode.ScsiCommand) {
      this.#next = 'transfer';
      this.#transfers.command(header, at, dataLength, null, this.#connection.receiver.ahs);
      return;
    }
    if (dataLength > 0) this.#keep(header, at, dataLength, 'handle');
    else this.#handleWhole(header, at, null);
  }

  /** Everything but data and commands. */
  #handleWhole(header: Buffer, at: number, data: Buffer | null): void {
    switch (opcodeOf(header, at)) {
      case Opcode.NopOut:
        return this.#nopOut(header, at, data);
      case Opcode.TextRequest:
        return this.#text.request(header, at, data);
      case Opcode.TaskManagementRequest:
        if (this.#session.isDiscovery) break;
        return manageTasks(
          this.#connection,
          this.#session,
          taskManagementRequest.decode(header, at),
        );
      case Opcode.LogoutRequest:
        return logOut(this.#connection, this.#session, logoutRequest.decode(header, at));
      case Opcode.SnackRequest:
        return serveSnack(this.#connection, this.#session, header, at);
      case Opcode.LoginRequest:
        return this.#connection.protocolError('a login in the full feature phase', header, at);
      default:
        break;
    }
    // It does not exist, or not in a discovery session (§13.21).
    this.#reject(RejectReason.CommandNotSupported, header, at);
  }

  #reject(reason: RejectReason, header: Buffer, at: number): void {
    const copy = Buffer.from(header.subarray(at, at + BHS_BYTES));
    this.#connection.sender.reject(reason, copy, this.#session);
  }

  #nopOut(header: Buffer, at: number, data: Buffer | null): void {
    const itt = u32(header, at + At.itt);
    if (itt === RESERVED_TAG) return; // the answer to our ping
    const echo = (data ?? NO_LUN.subarray(0, 0)).subarray(
      0,
      this.#connection.params.initiatorRecvLength,
    );
    const body = { opcode: Opcode.NopIn, lun: NO_LUN, itt, ttt: RESERVED_TAG } as const;
    this.#connection.sender.send(body, this.#session, true, Buffer.from(echo));
  }

  #armPing(): void {
    const { engine } = this.#connection;
    const intervalMs = engine.options.params?.nopIntervalMs ?? 0;
    if (intervalMs === 0) return;
    this.#pingTimer = engine.clock.after(intervalMs, () => {
      const silentMs = engine.clock.nowMs() - this.#connection.lastReceivedMs;
      if (silentMs >= 2 * intervalMs) return this.#connection.drop('no answer to a ping');
      if (silentMs >= intervalMs) this.ping();
      this.#armPing();
    });
  }

  /** Asks whether the initiator is alive (§11.19). */
  ping(): void {
    this.#pingTtt = (this.#pingTtt + 1) % RESERVED_TAG;
    const ttt = this.#pingTtt;
    const body = { opcode: Opcode.NopIn, lun: NO_LUN, itt: RESERVED_TAG, ttt } as const;
    this.#connection.sender.send(body, this.#session, false);
  }
}

/** Immediate PDUs and SNACK take no CmdSN; nor does the answer to a ping (§11.18.1). */
function carriesCmdSn(header: Buffer, at: number): boolean {
  if (immediateOf(header, at)) return false;
  const opcode = opcodeOf(header, at);
  if (opcode === Opcode.NopOut) return u32(header, at + At.itt) !== RESERVED_TAG;
  return (
    opcode === Opcode.ScsiCommand ||
    opcode === Opcode.TaskManagementRequest ||
    opcode === Opcode.TextRequest ||
    opcode === Opcode.LogoutRequest
  );
}
