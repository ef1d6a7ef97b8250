import { onAsyncMessage } from './async-events.ts';
import type { Connection } from './connection.ts';
import { ControlChannel } from './control-channel.ts';
import { opcodeOf } from './pdu/index.ts';
import { Opcode } from './pdu/opcodes.ts';
import { Pings } from './pings.ts';
import { onReject } from './rejections.ts';
import type { SessionControl } from './session-control.ts';
import { TextExchanges } from './text-exchange.ts';

/** Everything of one connection that is not a SCSI command. */
export class ConnectionControl {
  readonly channel: ControlChannel;
  readonly pings: Pings;
  readonly texts: TextExchanges;
  readonly #control: SessionControl;

  constructor(control: SessionControl, connection: Connection) {
    this.#control = control;
    this.channel = new ControlChannel(control.session, connection);
    this.pings = new Pings(control.session, this.channel);
    this.texts = new TextExchanges(this.channel);
  }

  /** An Asynchronous Message or a Reject. */
  onNotice(header: Buffer, data: Buffer): void {
    if (opcodeOf(header) === Opcode.Reject) onReject(this.#control, this, header, data);
    else onAsyncMessage(this.#control, this, header, data);
  }
}
