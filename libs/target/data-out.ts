import { RESERVED_TAG } from '../iscsi/pdu/opcodes.ts';
import type { Burst, Task } from './task.ts';

/** What the header of a Data-Out PDU says. */
export interface DataOutHeader {
  readonly ttt: number;
  readonly final: boolean;
  readonly offset: number;
  readonly dataSn: number;
  readonly length: number;
}

/** What is wrong with a Data-Out PDU in its sequence, or null. */
export function dataOutFault(
  task: Task,
  burst: Burst | undefined,
  pdu: DataOutHeader,
  inOrder: boolean,
): string | null {
  if (burst === undefined) return 'no such transfer tag';
  const { from, end } = burst;
  if (pdu.dataSn !== burst.dataSn) return 'DataSN out of sequence (§11.7.5)';
  if (inOrder && pdu.offset !== burst.offset) return 'buffer offset out of sequence (§13.18)';
  if (pdu.offset < from || pdu.offset + pdu.length > end) {
    return 'more data than was asked for (§11.7)';
  }
  const isShort = burst.seen + pdu.length < end - from;
  // An unsolicited burst may end where the initiator likes; after an abort, any burst (§11.5.1).
  const mayBeShort = pdu.ttt === RESERVED_TAG || task.aborting;
  if (pdu.final && isShort && !mayBeShort) return 'less data than was asked for (§11.8)';
  return !pdu.final && !isShort ? 'no F bit at the end of the data (§11.7.1)' : null;
}
