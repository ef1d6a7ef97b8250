import { parseValue } from '../iscsi/keys.ts';
import { NO_LUN } from '../iscsi/pdu/bhs.ts';
import { Opcode, RESERVED_TAG, RejectReason } from '../iscsi/pdu/opcodes.ts';
import { textRequest } from '../iscsi/pdu/text-request.ts';
import { encodeText, parseText, splitText, TEXT_BYTES_MAX, type TextPair } from '../iscsi/text.ts';
import { formatAddress } from '../wire/network.ts';
import type { Connection } from './connection.ts';
import type { Session } from './session.ts';

/** What we use while an answer has more parts. One exchange at a time, so one tag is enough. */
const MORE_TTT = 1;

/** Text requests in the full feature phase (§11.10, §11.11): SendTargets, and a new MaxRecvDataSegmentLength. */
export class TextExchange {
  readonly #connection: Connection;
  readonly #session: Session;
  #text: Buffer[] = [];
  #textBytes = 0;
  /** Parts of the answer that the initiator has not asked for yet. */
  #rest: Buffer[] = [];

  constructor(connection: Connection, session: Session) {
    this.#connection = connection;
    this.#session = session;
  }

  request(header: Buffer, at: number, data: Buffer | null): void {
    const pdu = textRequest.decode(header, at);
    // A request without a transfer tag is a new exchange (§11.10.4).
    if (pdu.ttt === RESERVED_TAG) this.#reset();
    if (data !== null) {
      this.#text.push(Buffer.from(data));
      this.#textBytes += data.length;
    }
    if (this.#textBytes > TEXT_BYTES_MAX || (pdu.continue && pdu.final)) {
      this.#reset();
      const copy = Buffer.from(header.subarray(at, at + 48));
      return this.#connection.sender.reject(RejectReason.ProtocolError, copy, this.#session);
    }
    // §11.10.2: more of the request is to come.
    if (pdu.continue) return this.#respond(pdu.itt, Buffer.alloc(0), false, false);
    if (this.#rest.length > 0) return this.#respondNext(pdu.itt);
    const parsed = parseText(Buffer.concat(this.#text));
    this.#reset();
    if (parsed.pairs === null) {
      return this.#connection.protocolError(parsed.error, header, at);
    }
    const pairs = parsed.pairs.flatMap(([key, value]) => this.#answer(key, value));
    this.#rest = splitText(encodeText(pairs), this.#connection.params.initiatorRecvLength);
    this.#respondNext(pdu.itt);
  }

  #reset(): void {
    this.#text = [];
    this.#textBytes = 0;
    this.#rest = [];
  }

  #respondNext(itt: number): void {
    const part = this.#rest.shift() ?? Buffer.alloc(0);
    const isLast = this.#rest.length === 0;
    this.#respond(itt, part, isLast, !isLast);
  }

  #respond(itt: number, data: Buffer, final: boolean, more: boolean): void {
    const ttt = final ? RESERVED_TAG : MORE_TTT;
    const opcode = Opcode.TextResponse;
    const body = { opcode, final, continue: more, lun: NO_LUN, itt, ttt } as const;
    this.#connection.sender.send(body, this.#session, true, data);
  }

  #answer(key: string, value: string): TextPair[] {
    if (key === 'SendTargets') return this.#sendTargets(value);
    if (key === 'MaxRecvDataSegmentLength') {
      const length = parseValue('MaxRecvDataSegmentLength', value);
      if (length === null) return [[key, 'Reject']];
      this.#connection.params.initiatorRecvLength = length as number;
      return [];
    }
    return [[key, key.startsWith('X-') ? 'NotUnderstood' : 'Reject']];
  }

  /** RFC 7143 Appendix C: every portal with its group. */
  #sendTargets(value: string): TextPair[] {
    const { engine } = this.#connection;
    const { targetName } = engine.options;
    const isAll = value === 'All';
    // All is for discovery sessions; in a normal one only its own target may be asked for.
    if (isAll && !this.#session.isDiscovery) return [['SendTargets', 'Reject']];
    if (!isAll && value !== '' && value !== targetName) return [];
    const addresses = engine.portals
      .filter((portal) => portal.address.kind === 'tcp')
      .map(({ address, tpgt }): TextPair => ['TargetAddress', `${formatAddress(address)},${tpgt}`]);
    return [['TargetName', targetName], ...addresses];
  }
}
