import { describe, expect, test } from 'vitest';
import { History } from './history.ts';

const NEVER = Number.POSITIVE_INFINITY;

function judge(
  writes: readonly (readonly [value: number, startMs: number, ackedMs: number])[],
  reads: readonly (readonly [value: number, startMs: number, endMs: number])[],
): string[] {
  const history = new History();
  for (const [value, startMs, ackedMs] of writes) history.wrote(0, { value, startMs, ackedMs });
  for (const [value, startMs, endMs] of reads) history.read(0, { value, startMs, endMs });
  return history.violations();
}

describe('the judge of histories', () => {
  test('accepts a value that is the last acknowledged one', () => {
    expect(judge([[1, 0, 10]], [[1, 20, 30]])).toEqual([]);
  });
  test('accepts either of two writes that overlap in time', () => {
    const writes = [
      [1, 0, 10],
      [2, 5, 12],
    ] as const;
    expect(judge(writes, [[1, 20, 30]])).toEqual([]);
    expect(judge(writes, [[2, 20, 30]])).toEqual([]);
  });
  test('accepts a write that failed, and the value before it', () => {
    const writes = [
      [1, 0, 10],
      [2, 20, NEVER],
    ] as const;
    expect(judge(writes, [[1, 30, 40]])).toEqual([]);
    expect(judge(writes, [[2, 30, 40]])).toEqual([]);
  });
  test('finds a lost write', () => {
    expect(
      judge(
        [
          [1, 0, 10],
          [2, 20, 30],
        ],
        [[1, 40, 50]],
      ),
    ).toHaveLength(1);
    expect(judge([[1, 0, 10]], [[0, 20, 30]])).toHaveLength(1);
  });
  test('finds a failed write that came back over a newer one', () => {
    const writes = [
      [1, 0, NEVER],
      [2, 20, 30],
    ] as const;
    // It may still have been last: it was never acknowledged, so its order is open.
    expect(judge(writes, [[1, 40, 50]])).toEqual([]);
    expect(
      judge(
        [
          [1, 0, 10],
          [2, 20, NEVER],
        ],
        [
          [2, 30, 40],
          [1, 50, 60],
        ],
      ),
    ).toHaveLength(1);
  });
  test('finds a value that nobody wrote, and one that was read too early', () => {
    expect(judge([], [[7, 0, 1]])).toHaveLength(1);
    expect(judge([[7, 10, 20]], [[7, 0, 5]])).toHaveLength(1);
  });
});
