import type { OrionError } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import type { ControlChannel } from './control-channel.ts';
import { ControlRequest } from './control-request.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import { isKey, keyOf, parseValue } from './keys.ts';
import { NO_LUN } from './pdu/bhs.ts';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { textResponse } from './pdu/text-response.ts';
import { encodeText, parseText, splitText, TEXT_BYTES_MAX, type TextPair } from './text.ts';

/** PDUs that one exchange may take of the target. */
const TEXT_ROUNDS_MAX = 64;

/** Exchanges that wait for the one that runs; a connection has one at a time (§11.10). */
const TEXT_WAITING_MAX = 16;

/** What a target may declare anew in full feature phase, and that means something to us (§13.12). */
const SEGMENT_KEY = 'MaxRecvDataSegmentLength';

/** Key=value text in full feature phase, on one connection. */
export class TextExchanges {
  readonly #channel: ControlChannel;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(channel: ControlChannel) {
    this.#channel = channel;
  }

  /** True while an exchange runs or waits. */
  get busy(): boolean {
    return this.#waiting > 0;
  }

  /** Sends text and resolves with all that the target says to it, `bytesMax` at most. */
  async run(request: Buffer, timeoutMs: number, bytesMax = TEXT_BYTES_MAX): Promise<Buffer> {
    if (this.#waiting === TEXT_WAITING_MAX) throw iscsiErrors.make('ISCSI_QUEUE_FULL');
    this.#waiting += 1;
    const turn = this.#last;
    const exchange = new TextExchange(this.#channel, request, bytesMax);
    const answer = turn.then(() => exchange.run(timeoutMs));
    this.#last = answer.catch(() => {}); // the one who asked hears of it
    try {
      return await answer;
    } finally {
      this.#waiting -= 1;
    }
  }
}

/** One sequence of requests and responses under one task tag (§11.10.3). */
class TextExchange {
  readonly #channel: ControlChannel;
  /** What is still to be sent, in segments that the target takes; the first is on its way. */
  #parts: Buffer[];
  #ttt: number = RESERVED_TAG;
  #lun: Buffer = NO_LUN;
  readonly #answers: Buffer[] = [];
  /** Text of the target whose end has not come. */
  #open: Buffer[] = [];
  #bytes = 0;
  #rounds = 0;
  /** Keys of our own request: what comes back about them is an answer. */
  readonly #asked: ReadonlySet<string>;

  readonly #bytesMax: number;

  constructor(channel: ControlChannel, request: Buffer, bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#channel = channel;
    this.#asked = new Set(parseText(request).pairs?.map(([name]) => name));
    this.#parts = splitText(request, channel.connection.peerSegmentBytes);
  }

  async run(timeoutMs: number): Promise<Buffer> {
    let tag = 0;
    const send = (itt: number): void => {
      tag = itt;
      this.#send(itt);
    };
    const request = new ControlRequest(Opcode.TextResponse, send, (header, data) =>
      this.#goesOn(tag, header, data),
    );
    const late = (): OrionError =>
      iscsiErrors.make('ISCSI_COMMAND_TIMEOUT', { message: 'a text request was not answered' });
    await this.#channel.ask(request, { timeoutMs, late });
    return Buffer.concat(this.#answers);
  }

  #send(itt: number): void {
    const more = this.#parts.length > 1;
    this.#channel.connection.send(
      {
        opcode: Opcode.TextRequest,
        dataSegmentLength: 0,
        immediate: true,
        final: !more,
        continue: more,
        lun: this.#lun,
        itt,
        ttt: this.#ttt,
        ...this.#channel.numbers,
      },
      this.#parts[0]!,
    );
  }

  /** A Text Response; true when it was answered with another request. */
  #goesOn(itt: number, header: Buffer, data: Buffer): boolean {
    const response = textResponse.decode(header, 0);
    const reason = textResponse.invalidReason(response);
    if (reason !== null) throw protocolError(reason);
    this.#rounds += 1;
    this.#bytes += data.length;
    if (this.#rounds > TEXT_ROUNDS_MAX) {
      throw protocolError(`a text answer in more than ${TEXT_ROUNDS_MAX} parts (§11.11)`);
    }
    if (this.#bytes > this.#bytesMax) throw protocolError('an endless text answer (§6.1)');
    const asksForMore = this.#parts.length > 1;
    if (response.final && asksForMore) {
      throw protocolError('the end of a text exchange in which we have more to say (§11.11.1)');
    }
    if (asksForMore && data.length > 0) {
      throw protocolError('text in answer to a part of a request (§6.2)');
    }
    this.#answers.push(Buffer.from(data));
    this.#open.push(this.#answers.at(-1)!);
    const replies = response.continue ? [] : this.#complete(response.final);
    if (response.final) return false;
    this.#parts.shift();
    if (this.#parts.length === 0) this.#parts = this.#split(replies);
    this.#ttt = response.ttt;
    this.#lun = response.lun;
    this.#send(itt);
    return true;
  }

  #split(replies: readonly TextPair[]): Buffer[] {
    return splitText(encodeText(replies), this.#channel.connection.peerSegmentBytes);
  }

  /**
   * Pairs of the target, when they are whole: some targets cut long answers anywhere without the C bit, so that only their end
   * tells. Where it may still be answered each proposal is: there is nothing that we negotiate anew in full feature phase.
   */
  #complete(final: boolean): TextPair[] {
    const { pairs } = parseText(Buffer.concat(this.#open));
    if (pairs === null) return [];
    this.#open = [];
    const replies: TextPair[] = [];
    for (const [name, value] of pairs) {
      if (name === SEGMENT_KEY) this.#declared(value);
      else if (!final && !this.#asked.has(name) && !isDeclaration(name)) {
        replies.push([name, answerTo(name)]);
      }
    }
    return replies;
  }

  /** §13.12: the target declares anew which segments it takes. */
  #declared(value: string): void {
    const bytes = parseValue(SEGMENT_KEY, value);
    if (typeof bytes !== 'number') {
      throw protocolError(`${SEGMENT_KEY}=${printable(value.slice(0, 40))}`);
    }
    this.#channel.connection.peerSegmentBytes = bytes;
  }
}

/** Text that only tells something: names, addresses, aliases. */
function isDeclaration(name: string): boolean {
  if (!isKey(name)) return false;
  return keyOf(name).type === 'text' || name === 'TargetPortalGroupTag';
}

/** §6.2: a key of this specification is never "not understood". */
function answerTo(name: string): string {
  return isKey(name) ? 'Reject' : 'NotUnderstood';
}
