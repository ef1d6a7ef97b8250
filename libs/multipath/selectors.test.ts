import { describe, expect, test } from 'vitest';
import type { BlockCapabilities } from '../block/device.ts';
import { seededRng } from '../core/rng.ts';
import { ScriptedPath } from '../testkit/scripted-path.ts';
import { PathEntry } from './path-entry.ts';
import { makeSelector, type Policy } from './selectors.ts';

const BYTES = 4096;

function entries(count: number): PathEntry[] {
  return Array.from(
    { length: count },
    (_, slot) =>
      new PathEntry(
        slot,
        new ScriptedPath(String(slot), {} as BlockCapabilities),
        { portal: '', worker: '' },
        0,
      ),
  );
}

/** How often each path is chosen; an I/O on path i takes `latencies[i]` ms and is done before the next one. */
function choose(
  policy: Policy,
  paths: PathEntry[],
  latencies: readonly number[],
  rounds: number,
): number[] {
  const select = makeSelector(policy, seededRng(1));
  const counts = paths.map(() => 0);
  for (let round = 0; round < rounds; round++) {
    const path = select(paths, false, BYTES);
    counts[path.slot]! += 1;
    path.sample(false, BYTES, latencies[path.slot]!);
    path.lastGoodMs = round;
  }
  return counts;
}

describe('a selector', () => {
  test('round-robin gives every path the same', () => {
    expect(choose('round-robin', entries(3), [1, 9, 1], 300)).toEqual([100, 100, 100]);
  });

  test('queue-length takes the path with the fewest commands in flight', () => {
    const paths = entries(3);
    paths[0]!.outstanding = 4;
    paths[1]!.outstanding = 2;
    paths[2]!.outstanding = 3;
    expect(makeSelector('queue-length', seededRng(1))(paths, true, BYTES).slot).toBe(1);
  });

  test('queue-length gives idle paths their turns', () => {
    expect(choose('queue-length', entries(2), [1, 1], 100)).toEqual([50, 50]);
  });

  test('latency prefers the quicker path by far, and yet keeps looking at the slow one', () => {
    const counts = choose('latency', entries(2), [1, 5], 1_000);
    expect(counts[0]).toBeGreaterThan(900);
    expect(counts[1]).toBeGreaterThan(10);
  });

  test('latency comes back to a path that was slow once', () => {
    const paths = entries(2);
    for (let i = 0; i < 100; i++) paths[1]!.sample(false, BYTES, 50);
    const counts = choose('latency', paths, [1, 0.5], 20_000);
    expect(counts[1]).toBeGreaterThan(counts[0]!);
  });

  test('latency takes the other path when the quick one has a queue', () => {
    const paths = entries(2);
    paths[0]!.sample(true, BYTES, 1);
    paths[1]!.sample(true, BYTES, 2);
    paths[0]!.outstanding = 7;
    expect(makeSelector('latency', seededRng(1))(paths, true, BYTES).slot).toBe(1);
  });
});
