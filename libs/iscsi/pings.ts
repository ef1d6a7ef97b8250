import type { OrionError } from '../core/errors.ts';
import type { Connection } from './connection.ts';
import type { ControlChannel } from './control-channel.ts';
import { ControlRequest } from './control-request.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import { NO_LUN } from './pdu/bhs.ts';
import { nopIn } from './pdu/nop-in.ts';
import type { NopOut } from './pdu/nop-out.ts';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import type { IscsiSession } from './session.ts';

/** The pause before answers to pings are sent again which the target had no room for, and how many of them are. */
const PONG_PAUSE_MS = 50;
const PONGS_MAX = 16;

/** What a ping carries, to be echoed (§11.18.3). */
const PING_BYTES = 8;

/** Pings of one connection, in both directions (§11.18, §11.19). */
export class Pings {
  readonly #session: IscsiSession;
  readonly #connection: Connection;
  readonly #channel: ControlChannel;
  /** Answers to pings of the target that are to be sent again, all after one pause. */
  #again: { readonly lun: Buffer; readonly ttt: number }[] = [];

  constructor(session: IscsiSession, channel: ControlChannel) {
    this.#session = session;
    this.#connection = channel.connection;
    this.#channel = channel;
  }

  /** §11.19: a ping of the target, or only news of the window. */
  onTargetPing(header: Buffer): void {
    const ping = nopIn.decode(header, 0);
    if (ping.ttt === RESERVED_TAG || this.#channel.sealed) return;
    this.answer(ping.lun, ping.ttt);
  }

  /** The answer to a ping, or only the news of what has arrived. */
  answer(lun: Buffer, ttt: number): void {
    this.#connection.answer(this.#nop(lun, RESERVED_TAG, ttt));
  }

  /** The target had no room for the answer to its ping, which is still owed to it (§11.17.1, reason 06). */
  answerAgain(lun: Buffer, ttt: number): void {
    // One that has no room for so many has room for none of them.
    if (this.#again.length === PONGS_MAX) return;
    this.#again.push({ lun, ttt });
    if (this.#again.length > 1) return;
    this.#session.clock.after(PONG_PAUSE_MS, () => this.#sendAgain());
  }

  #sendAgain(): void {
    const owed = this.#again;
    this.#again = [];
    if (this.#channel.sealed) return;
    try {
      for (const { lun, ttt } of owed) this.answer(lun, ttt);
    } catch (error) {
      this.#session.lost(this.#connection, error as OrionError);
    }
  }

  /** §11.18; never with a CmdSN of its own. */
  #nop(lun: Buffer, itt: number, ttt: number): NopOut {
    return {
      opcode: Opcode.NopOut,
      dataSegmentLength: 0,
      immediate: true,
      lun,
      itt,
      ttt,
      ...this.#channel.numbers,
    };
  }

  /** Pings the target. That the answer is late or lost shows in the silence. */
  ping(): void {
    const { nopTimeoutMs } = this.#session.timeouts;
    const late = (): OrionError => iscsiErrors.make('ISCSI_NOP_TIMEOUT');
    const data = Buffer.alloc(PING_BYTES);
    data.writeDoubleBE(this.#session.clock.nowMs());
    const request = new ControlRequest(
      Opcode.NopIn,
      (itt) => {
        this.#connection.send(this.#nop(NO_LUN, itt, RESERVED_TAG), data);
      },
      (_header, echo) => {
        // A target may leave the data out altogether: it did before anybody looked at it. Other bytes are not ours.
        if (echo.length === 0 || echo.equals(data)) return false;
        throw protocolError('the echo of a ping has other data than the ping (§11.18.3)');
      },
    );
    const options = { timeoutMs: nopTimeoutMs * 2, late, urgent: true };
    this.#channel.ask(request, options).catch(() => {}); // lost or late, or not wanted any more
  }
}
