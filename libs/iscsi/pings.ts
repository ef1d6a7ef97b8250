import type { OrionError } from '../core/errors.ts';
import type { Connection } from './connection.ts';
import type { ControlChannel } from './control-channel.ts';
import { ControlRequest } from './control-request.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import { NO_LUN } from './pdu/bhs.ts';
import { nopIn } from './pdu/nop-in.ts';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import type { IscsiSession } from './session.ts';

/** Answers to the target's pings that may wait in the socket; a target that does not read them is given up. */
const UNSENT_PINGS_MAX = 256;

/** What a ping carries, to be echoed (§11.18.3). */
const PING_BYTES = 8;

/** Pings of one connection, in both directions (§11.18, §11.19). */
export class Pings {
  readonly #session: IscsiSession;
  readonly #connection: Connection;
  readonly #channel: ControlChannel;
  /** Answers to pings of the target that the socket still held, and the batch with the last of them. */
  #pingSeq = 0;
  #pingsUnsent = 0;

  constructor(session: IscsiSession, channel: ControlChannel) {
    this.#session = session;
    this.#connection = channel.connection;
    this.#channel = channel;
  }

  /** §11.19: a ping of the target, or only news of the window. */
  onTargetPing(header: Buffer): void {
    const ping = nopIn.decode(header, 0);
    if (ping.ttt === RESERVED_TAG || this.#channel.sealed) return;
    const { out } = this.#connection;
    if (out.flushedSeq >= this.#pingSeq) this.#pingsUnsent = 0;
    this.#pingsUnsent += 1;
    this.#pingSeq = out.seq;
    if (this.#pingsUnsent > UNSENT_PINGS_MAX) {
      throw protocolError('the target pings but does not read our answers (§11.19)');
    }
    this.sendNop(ping.lun, RESERVED_TAG, ping.ttt);
  }

  /** §11.18: a ping, the answer to one, or only the news of what has arrived; never with a CmdSN of its own. */
  sendNop(lun: Buffer, itt: number, ttt: number, data?: Buffer): void {
    this.#connection.send(
      {
        opcode: Opcode.NopOut,
        dataSegmentLength: 0,
        immediate: true,
        lun,
        itt,
        ttt,
        ...this.#channel.numbers,
      },
      data,
    );
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
        this.sendNop(NO_LUN, itt, RESERVED_TAG, data);
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
