import type { Rng } from '../../core/rng.ts';

/** The kinds of I/O that a fault filter can be told to hit. */
export type FaultOp = 'read' | 'write' | 'flush' | 'trim' | 'zero' | 'compareAndWrite' | 'extents';

/**
 * Which I/O a fault hits. Fault filters read their options at every I/O, so a test or an operator changes the fields
 * of the object that was given to switch the fault on and off.
 */
export interface FaultTarget {
  /** All kinds when left out. */
  ops?: readonly FaultOp[];
  /** Only I/O that touches these bytes. A flush touches none, so give `ops` without a range to hit it. */
  range?: { readonly offset: number; readonly length: number };
  /** From 0 (never) to 1 (always, the default). Drawn from `rng`: a seed repeats the same faults. */
  probability?: number;
  /** How many more times it hits; no bound when left out. Counted down. */
  remaining?: number;
}

/** Whether this I/O is hit; counts `remaining` down when it is. */
export function faultHits(
  target: FaultTarget,
  rng: Rng,
  op: FaultOp,
  offset: number,
  length: number,
): boolean {
  const { ops, range, probability = 1, remaining } = target;
  if (remaining === 0) return false;
  if (ops !== undefined && !ops.includes(op)) return false;
  if (range !== undefined) {
    if (offset >= range.offset + range.length || range.offset >= offset + length) return false;
  }
  if (probability < 1 && rng.float() >= probability) return false;
  if (remaining !== undefined) target.remaining = remaining - 1;
  return true;
}
