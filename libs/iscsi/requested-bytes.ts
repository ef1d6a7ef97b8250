import { ByteRanges } from './byte-ranges.ts';
import { protocolError } from './errors.ts';

/** What the session negotiated about the order of R2Ts; part of `TransferParams`. */
interface RequestOrder {
  /** DataSequenceInOrder (§13.19). */
  readonly writesInOrder: boolean;
  /** ErrorRecoveryLevel 1 and above: an R2T may ask for bytes again (§11.8). */
  readonly recovers: boolean;
}

/**
 * Counts what an R2T asks for. Returns how many bytes of the command were sent or asked for by then, each counted once: a write
 * that the target calls good before these are all of them is short. `inRow`: no R2T before it is missing.
 */
export function countRequested(
  of: { ranges: ByteRanges | null },
  sent: number,
  offset: number,
  length: number,
  inRow: boolean,
  order: RequestOrder,
): number {
  const { writesInOrder, recovers } = order;
  if (writesInOrder && inRow && of.ranges === null) {
    // §11.8: continuous ranges. A recovery R2T goes back, and never ahead.
    if (offset > sent) throw protocolError(`an R2T at ${offset}, expected ${sent} (§11.8)`);
    if (offset < sent && !recovers) throw again();
    return Math.max(sent, offset + length);
  }
  if (of.ranges === null) {
    of.ranges = new ByteRanges();
    of.ranges.cover(0, sent);
  }
  const fresh = of.ranges.cover(offset, length);
  if (fresh < length && !recovers) throw again();
  return sent + fresh;
}

function again(): Error {
  return protocolError('an R2T for bytes that were sent already (§11.8, §13.19)');
}
