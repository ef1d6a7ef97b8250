import type { Rng } from '../core/rng.ts';
import type { PathEntry } from './path-entry.ts';

/** Chooses among usable paths (never an empty list). Called once per I/O: no allocation. */
export type Selector = (paths: readonly PathEntry[], isWrite: boolean, bytes: number) => PathEntry;

export const POLICIES = ['round-robin', 'queue-length', 'latency'] as const;
export type Policy = (typeof POLICIES)[number];

/** Each path in turn (smooth weighted round robin with equal weights). */
function roundRobin(): Selector {
  return (paths) => {
    let best = paths[0]!;
    for (let i = 0; i < paths.length; i++) {
      const path = paths[i]!;
      path.roundRobin += 1;
      if (path.roundRobin > best.roundRobin) best = path;
    }
    best.roundRobin -= paths.length;
    return best;
  };
}

/** The path with the fewest commands in flight; equal ones in turn. */
function queueLength(): Selector {
  let turn = 0;
  return (paths) => {
    turn += 1;
    let best = paths[turn % paths.length]!;
    for (let i = 0; i < paths.length; i++) {
      if (paths[i]!.outstanding < best.outstanding) best = paths[i]!;
    }
    return best;
  };
}

/** One I/O of so many goes to the path that was silent longest, or its average would stay what it once was. */
const EXPLORE_EVERY = 64;

/**
 * Expected wait: (commands in flight + 1) times the average latency of this kind and size of I/O, between two paths
 * chosen at random (with two paths: both). A path without a sample yet is tried first.
 */
function latency(rng: Rng): Selector {
  const score = (path: PathEntry, isWrite: boolean, bytes: number): number =>
    (path.outstanding + 1) * path.latencyMs(isWrite, bytes);
  let turn = 0;
  return (paths, isWrite, bytes) => {
    const count = paths.length;
    if (count === 1) return paths[0]!;
    turn = (turn + 1) >>> 0;
    if (turn % EXPLORE_EVERY === 0) return silentLongest(paths);
    let first = turn % count;
    let second = (first + 1) % count;
    if (count > 2) {
      first = rng.u32() % count;
      second = (first + 1 + (rng.u32() % (count - 1))) % count;
    }
    const a = paths[first]!;
    const b = paths[second]!;
    return score(a, isWrite, bytes) <= score(b, isWrite, bytes) ? a : b;
  };
}

function silentLongest(paths: readonly PathEntry[]): PathEntry {
  let oldest = paths[0]!;
  for (const path of paths) if (path.lastGoodMs < oldest.lastGoodMs) oldest = path;
  return oldest;
}

export function makeSelector(policy: Policy, rng: Rng): Selector {
  switch (policy) {
    case 'round-robin':
      return roundRobin();
    case 'queue-length':
      return queueLength();
    case 'latency':
      return latency(rng);
  }
}
