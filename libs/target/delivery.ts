import { Bit } from '../iscsi/pdu/bhs.ts';
import { RESERVED_TAG } from '../iscsi/pdu/opcodes.ts';
import type { PduSender } from './pdu-sender.ts';
import { Retention } from './retention.ts';
import type { Session } from './session.ts';
import type { Segment, Task } from './task.ts';

/**
 * Sends the data and the status of tasks where more is needed than one pass over the data: when what was sent is kept
 * until it is acknowledged (error recovery level 1 and above), and when the order of data is free.
 */
export class Delivery {
  readonly retention: Retention;
  readonly #sender: PduSender;
  readonly #session: Session;
  readonly #keeps: boolean;
  readonly #asksForAcks: boolean;
  #lastAckTtt = 0;

  constructor(sender: PduSender, session: Session, asksForAcks: boolean) {
    this.#sender = sender;
    this.#session = session;
    this.#keeps = session.params.errorRecoveryLevel > 0;
    // §11.7.2: never at level 0.
    this.#asksForAcks = asksForAcks && this.#keeps;
    this.retention = new Retention(sender.statSn);
    if (this.#keeps) {
      sender.onStatus((statSn, resend) => this.retention.keepStatus(statSn, resend, null));
    }
  }

  /** Data and status of a task that is executed. */
  answer(task: Task, collapses: boolean): void {
    if (this.#keeps) snapshot(task);
    this.#sendFrom(task, 0, collapses && task.snackTag === 0 && !task.isBidirectional);
  }

  /** Sends the data from byte `offset` on, and the status with it or behind it. */
  #sendFrom(task: Task, offset: number, withStatus: boolean): void {
    const segments = this.#plan(task, offset, withStatus);
    const isWithData = withStatus && segments.length > 0;
    task.statSn ??= this.#sender.takeStatSn();
    if (this.#keeps) {
      task.segments.push(...segments);
      this.retention.keepStatus(task.statSn, () => this.#resendStatus(task, isWithData), task);
    }
    for (const segment of segments) this.#send(task, segment);
    if (!isWithData) this.#sender.response(task, task.statSn);
  }

  #send(task: Task, { offset, length, flags, dataSn, ttt }: Segment): void {
    this.#sender.dataIn(task, offset, length, flags, dataSn, task.statSn ?? 0, ttt);
  }

  #resendStatus(task: Task, isWithData: boolean): void {
    if (isWithData && task.snackTag === 0) this.#send(task, task.segments.at(-1)!);
    else this.#sender.response(task, task.statSn ?? 0);
  }

  #plan(task: Task, offset: number, withStatus: boolean): Segment[] {
    const ranges = planRanges(offset, task.dataInBytes, this.#sender.params.initiatorRecvLength, {
      ...this.#session.params,
    });
    return ranges.map(({ from, length, final }, i) => {
      const acknowledge = final && this.#asksForAcks;
      const flags =
        (final ? Bit.final : 0) |
        (acknowledge ? Bit.acknowledge : 0) |
        (withStatus && i === ranges.length - 1 ? Bit.statusPresent : 0);
      const ttt = acknowledge ? this.#ackTag(task) : RESERVED_TAG;
      return { dataSn: task.sentPdus++, offset: from, length, flags, ttt };
    });
  }

  #ackTag(task: Task): number {
    this.#lastAckTtt = (this.#lastAckTtt + 1) % RESERVED_TAG;
    this.retention.expectAck(this.#lastAckTtt, task);
    return this.#lastAckTtt;
  }

  /** Sends Data-In PDUs again that were sent before, as they were (§11.16). */
  resendData(task: Task, segments: readonly Segment[]): void {
    for (const segment of segments) this.#send(task, segment);
  }

  /** R-Data SNACK: all that is not acknowledged, cut anew, and the status behind it with the tag (§11.16.3). */
  resendAll(task: Task, snackTag: number): void {
    task.snackTag = snackTag;
    this.#restart(task, task.ackedPdus);
  }

  /**
   * TASK REASSIGN (§7.2.2): the task is ours now. What was not acknowledged is sent, again or for the first time, and
   * the status as one of this connection.
   */
  adopt(task: Task, expDataSn: number): void {
    task.snackTag = 0;
    task.statSn = null;
    this.#restart(task, Math.max(task.ackedPdus, Math.min(expDataSn, task.sentPdus)));
  }

  #restart(task: Task, dataSn: number): void {
    if (this.#keeps) snapshot(task);
    const [first] = task.segments;
    let offset = 0;
    if (first !== undefined) {
      // R2Ts of a command that moves data both ways have the numbers before.
      const from = Math.max(dataSn, first.dataSn);
      const rest = task.segments.filter((segment) => segment.dataSn >= from);
      // In order or not: what was not acknowledged may begin anywhere.
      offset = rest.reduce((low, segment) => Math.min(low, segment.offset), task.dataInBytes);
      task.segments = task.segments.filter((segment) => segment.dataSn < from);
      task.sentPdus = from;
      task.ackedPdus = from;
    }
    this.#sendFrom(task, offset, false);
  }
}

/** The disk may change before the data is asked for again. */
function snapshot(task: Task): void {
  if (task.dataIn !== null || task.readBytes === 0) return;
  const copy = Buffer.allocUnsafeSlow(task.readBytes);
  task.lu!.disk.read(task.readOffset, copy);
  task.dataIn = copy;
}

interface Range {
  readonly from: number;
  readonly length: number;
  /** The last one of its sequence. */
  readonly final: boolean;
}

/** Cuts data into PDUs and sequences of at most MaxBurstLength; backwards where the order is free (§13.18, §13.19). */
export function planRanges(
  offset: number,
  end: number,
  segmentBytes: number,
  order: {
    readonly maxBurstLength: number;
    readonly dataPduInOrder: boolean;
    readonly dataSequenceInOrder: boolean;
  },
): Range[] {
  const sequences: Range[][] = [];
  for (let at = offset; at < end; ) {
    const sequence: Range[] = [];
    const sequenceEnd = Math.min(at + order.maxBurstLength, end);
    while (at < sequenceEnd) {
      const length = Math.min(segmentBytes, sequenceEnd - at);
      sequence.push({ from: at, length, final: false });
      at += length;
    }
    if (!order.dataPduInOrder) sequence.reverse();
    sequence.push({ ...sequence.pop()!, final: true });
    sequences.push(sequence);
  }
  if (!order.dataSequenceInOrder) sequences.reverse();
  return sequences.flat();
}
