import type { Timer } from '../core/clock.ts';
import { At, BHS_BYTES, immediateOf, NO_LUN, u32 } from '../iscsi/pdu/bhs.ts';
import { opcodeOf } from '../iscsi/pdu/index.ts';
import { logoutRequest } from '../iscsi/pdu/logout-request.ts';
import {
  LogoutAnswer,
  LogoutReason,
  Opcode,
  RESERVED_TAG,
  RejectReason,
} from '../iscsi/pdu/opcodes.ts';
import { taskManagementRequest } from '../iscsi/pdu/task-management-request.ts';
import type { Connection, Phase } from './connection.ts';
import type { Session } from './session.ts';
import { manageTasks } from './task-management.ts';
import { TextExchange } from './text-exchange.ts';
import { Transfers } from './transfers.ts';

/** The time that the logout response names; nothing is kept for longer (§11.15.3, §11.15.4). */
const TIME_2_WAIT_S = 2;
const TIME_2_RETAIN_S = 0;

/** Handles the PDUs of a connection that is logged in. */
export class FullFeature implements Phase {
  readonly #connection: Connection;
  readonly #session: Session;
  readonly #transfers: Transfers;
  readonly #text: TextExchange;
  /** The header that data follows, and what to do with both. */
  readonly #header = Buffer.alloc(BHS_BYTES);
  #next: 'nothing' | 'transfer' | 'park' | 'handle' = 'nothing';
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
    return this.#session.params.targetRecvLength;
  }

  onOver(): void {
    this.#pingTimer?.cancel();
  }

  onHeader(header: Buffer, at: number, dataLength: number): void {
    this.#next = 'nothing';
    const opcode = opcodeOf(header, at);
    if (opcode === Opcode.DataOut) {
      this.#next = 'transfer';
      this.#transfers.dataOut(header, at, dataLength);
      return;
    }
    if (carriesCmdSn(header, at)) {
      const cmdSn = u32(header, at + At.cmdSn) | 0;
      const turn = this.#session.turnOf(cmdSn);
      if (turn !== 'now') {
        // §4.2.2.1: outside the window it is ignored silently; early, it waits for those before it.
        this.#keep(header, at, dataLength, turn === 'later' ? 'park' : 'nothing');
        return;
      }
      this.#session.advance();
    }
    this.#handle(header, at, dataLength);
    if (dataLength === 0) this.#replayParked();
  }

  onData(data: Buffer | null): void {
    const next = this.#next;
    this.#next = 'nothing';
    if (next === 'transfer') this.#transfers.dataArrived();
    else if (next === 'handle') this.#handleWhole(this.#header, 0, data);
    else if (next === 'park') this.#park(data);
    this.#replayParked();
  }

  /** Remembers the header until its data has come. */
  #keep(header: Buffer, at: number, dataLength: number, next: 'park' | 'handle' | 'nothing'): void {
    if (next === 'nothing') {
      if (dataLength > 0) this.#connection.receiver.skip();
      return;
    }
    header.copy(this.#header, 0, at, at + BHS_BYTES);
    this.#next = next;
    if (dataLength > 0) return;
    this.#next = 'nothing';
    if (next === 'park') this.#park(null);
    else this.#handleWhole(this.#header, 0, null);
  }

  #park(data: Buffer | null): void {
    const pdu = { header: Buffer.from(this.#header), data: Buffer.from(data ?? []) };
    this.#session.park(u32(pdu.header, At.cmdSn) | 0, pdu);
  }

  #replayParked(): void {
    for (;;) {
      const pdu = this.#connection.over ? null : this.#session.takeParked();
      if (pdu === null) return;
      this.#session.advance();
      if (opcodeOf(pdu.header) === Opcode.ScsiCommand) {
        this.#transfers.command(pdu.header, 0, pdu.data.length, pdu.data);
      } else this.#handleWhole(pdu.header, 0, pdu.data);
    }
  }

  #handle(header: Buffer, at: number, dataLength: number): void {
    if (opcodeOf(header, at) === Opcode.ScsiCommand) {
      this.#next = 'transfer';
      this.#transfers.command(header, at, dataLength, null);
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
        return this.#logout(header, at);
      case Opcode.LoginRequest:
        return this.#connection.protocolError('a login in the full feature phase', header, at);
      default:
        break;
    }
    // SNACK needs error recovery level 1; the others do not exist, or not in a discovery session (§13.21).
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
      this.#session.params.initiatorRecvLength,
    );
    const body = { opcode: Opcode.NopIn, lun: NO_LUN, itt, ttt: RESERVED_TAG } as const;
    this.#connection.sender.send(body, this.#session, true, Buffer.from(echo));
  }

  #logout(header: Buffer, at: number): void {
    const { reason, itt } = logoutRequest.decode(header, at);
    const { engine } = this.#connection;
    const isClosing = reason !== LogoutReason.RemoveForRecovery;
    // §11.14: the tasks of the session are terminated; a target like tgt lets run what runs.
    if (isClosing && engine.abortsOnReinstatement) {
      for (const task of [...this.#session.tasks.values()]) engine.abort(task);
    }
    this.#connection.sender.send(
      {
        opcode: Opcode.LogoutResponse,
        response: isClosing ? LogoutAnswer.Closed : LogoutAnswer.RecoveryNotSupported,
        itt,
        time2Wait: TIME_2_WAIT_S,
        time2Retain: TIME_2_RETAIN_S,
      },
      this.#session,
      true,
    );
    if (isClosing) this.#connection.end();
  }

  #armPing(): void {
    const { engine } = this.#connection;
    const intervalMs = engine.options.params?.nopIntervalMs ?? 0;
    if (intervalMs === 0) return;
    this.#pingTimer = engine.clock.after(intervalMs, () => {
      const silentMs = engine.clock.nowMs() - this.#connection.lastReceivedMs;
      if (silentMs >= 2 * intervalMs) return this.#connection.drop('no answer to a ping');
      if (silentMs >= intervalMs) this.#ping();
      this.#armPing();
    });
  }

  #ping(): void {
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
