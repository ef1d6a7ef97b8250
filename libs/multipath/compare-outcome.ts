import { assert } from '../core/assert.ts';

/** The result of a COMPARE AND WRITE that took effect. */
export const COMPARED_EQUAL = -1;

export type CompareOutcome =
  | { readonly kind: 'retry' }
  /** COMPARED_EQUAL, or the offset of the first byte that differs from what was expected. */
  | { readonly kind: 'result'; readonly result: number };

/**
 * What became of a COMPARE AND WRITE whose answer was lost, told from what the disk holds after the fence: it must
 * not simply be sent again, since it would miscompare against its own success (failover.md I7).
 */
export function resolveCompareAndWrite(
  found: Buffer,
  expected: Buffer,
  replacement: Buffer,
): CompareOutcome {
  assert(found.length === replacement.length, 'the whole range was read back');
  if (found.equals(replacement)) return { kind: 'result', result: COMPARED_EQUAL };
  if (found.equals(expected)) return { kind: 'retry' };
  let at = 0;
  while (found[at] === expected[at]) at += 1;
  return { kind: 'result', result: at };
}
