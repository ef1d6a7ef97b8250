import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { seededRng } from '../core/rng.ts';
import { outcomeError, ScriptedPath } from '../testkit/scripted-path.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { AccessState, ANY_ACCESS, accessRank, asPathAccess, type PathAccess } from './access.ts';
import { MultipathDevice } from './device.ts';
import { PathState } from './path.ts';
import { CAPS } from './testing/volume-rig.ts';

const PROBE_IDLE_MS = 5_000;

const at = (state: AccessState, preferred = false): PathAccess => ({ state, preferred, group: 1 });

let clock: VirtualClock;
let volume: MultipathDevice;
let events: string[];

beforeEach(() => {
  clock = new VirtualClock();
  events = [];
  volume = new MultipathDevice({
    name: 'v',
    caps: CAPS,
    clock,
    rng: seededRng(1),
    policy: 'round-robin',
    noPathRetryMs: 10_000,
    noPathQueueBytes: 64 * 1024,
    probeIdleMs: PROBE_IDLE_MS,
    onPathLost: () => {},
    onEvent: ({ kind, text }) => events.push(`${kind}: ${text}`),
  });
});

afterEach(() => volume.close());

function addPath(slot: number, state: AccessState, preferred = false): ScriptedPath {
  const path = new ScriptedPath(`p${slot}`, CAPS);
  path.access = at(state, preferred);
  volume.addPath(slot, path, { portal: `p${slot}`, worker: 'w' });
  return path;
}

const io = (path: ScriptedPath) => path.ops.filter(({ kind }) => kind !== 'probe');
const writes = (count: number) => {
  const seen: string[] = [];
  for (let i = 0; i < count; i++) {
    volume.write(i * 512, Buffer.alloc(512), 0, NO_DEADLINE).then(
      () => seen.push('ok'),
      (error: Error) => seen.push(error.message),
    );
  }
  return seen;
};
const finishAll = async (...paths: ScriptedPath[]): Promise<void> => {
  for (const path of paths) for (const op of path.ops.splice(0)) op.resolve();
  await clock.advance(0);
};

describe('the choice of paths', () => {
  test.each([
    ['optimized before others', [AccessState.NonOptimized, AccessState.Optimized], [0, 4]],
    ['all of the optimized', [AccessState.Optimized, AccessState.Optimized], [2, 2]],
    [
      'not optimized where there is no better',
      [AccessState.NonOptimized, AccessState.Standby],
      [4, 0],
    ],
    ['a device without access states', [AccessState.Any, AccessState.Any], [2, 2]],
    [
      'not optimized before LBA-dependent',
      [AccessState.LbaDependent, AccessState.NonOptimized],
      [0, 4],
    ],
  ])('%s', async (_, states, counts) => {
    const paths = states.map((state, slot) => addPath(slot, state));
    const seen = writes(4);
    expect(paths.map((path) => io(path).length)).toEqual(counts);
    await finishAll(...paths);
    expect(seen).toEqual(['ok', 'ok', 'ok', 'ok']);
  });

  test('preference decides among those that are not optimized, and never against one that is', () => {
    const [plain, preferred] = [at(AccessState.NonOptimized), at(AccessState.NonOptimized, true)];
    expect(accessRank(preferred)).toBeGreaterThan(accessRank(plain));
    expect(accessRank(at(AccessState.Optimized))).toBeGreaterThan(accessRank(preferred));
    expect(accessRank(at(AccessState.Optimized, true))).toBe(accessRank(at(AccessState.Optimized)));
    expect(accessRank(ANY_ACCESS)).toBe(accessRank(at(AccessState.Optimized)));
  });

  test('standby, unavailable, offline and transitioning paths get no I/O, for as long as that lasts', async () => {
    const states = [
      AccessState.Standby,
      AccessState.Unavailable,
      AccessState.Offline,
      AccessState.Transitioning,
    ];
    const paths = states.map((state, slot) => addPath(slot, state));
    const seen = writes(3);
    await clock.advance(2_000);
    expect(paths.map((path) => io(path).length)).toEqual([0, 0, 0, 0]);
    expect(volume.readyCount).toBe(0);
    expect(volume.paths.every(({ state }) => state === PathState.Ghost)).toBe(true);
    paths[3]!.accessChanged(at(AccessState.Optimized));
    expect(io(paths[3]!)).toHaveLength(3);
    await finishAll(paths[3]!);
    expect(seen).toEqual(['ok', 'ok', 'ok']);
  });
});

describe('a change under load', () => {
  test('moves I/O to the other group, without an error to the client', async () => {
    const a = addPath(0, AccessState.Optimized);
    const b = addPath(1, AccessState.Standby);
    const seen = writes(4);
    expect(io(a)).toHaveLength(4);
    // The device answers one of them with 02/04/0B: the path says so, then the attempt ends.
    a.accessChanged(at(AccessState.Standby));
    for (const op of a.ops.splice(0)) op.reject(outcomeError('not-executed', 'standby'));
    await clock.advance(0);
    expect(io(a)).toHaveLength(0);
    b.accessChanged(at(AccessState.Optimized));
    await clock.advance(10);
    expect(io(b)).toHaveLength(4);
    await finishAll(b);
    expect(seen).toEqual(['ok', 'ok', 'ok', 'ok']);
  });

  test('that is told otherwise by every refusal costs pauses, and no spinning', async () => {
    const a = addPath(0, AccessState.Optimized);
    const seen = writes(1);
    let refusals = 0;
    for (let turn = 0; turn < 1_000; turn++) {
      for (const op of a.ops.splice(0)) {
        if (op.kind === 'probe') op.resolve();
        else {
          refusals += 1;
          a.accessChanged(at(AccessState.Offline));
          op.reject(outcomeError('not-executed', 'standby'));
          await clock.advance(0);
          a.accessChanged(at(AccessState.Optimized));
        }
      }
      await clock.advance(1);
    }
    expect(refusals).toBeGreaterThan(4);
    expect(refusals).toBeLessThan(20);
    await clock.runUntil(() => io(a).length > 0, 2_000);
    await finishAll(a);
    expect(seen).toEqual(['ok']);
  });

  test('leads to a size only over paths that tell one', async () => {
    const sized = addPath(0, AccessState.Optimized);
    const unsized = new ScriptedPath('p1', { ...CAPS, sizeBytes: 0 });
    unsized.access = at(AccessState.Unavailable);
    volume.addPath(1, unsized, { portal: 'p1', worker: 'w' });
    expect(volume.paths.map(({ state }) => state)).toEqual(['ready', 'ghost']);
    sized.grown(2 * CAPS.sizeBytes);
    expect(volume.caps.sizeBytes).toBe(2 * CAPS.sizeBytes);
  });

  test('has the other paths asked at once, and those without I/O again and again', async () => {
    const a = addPath(0, AccessState.Optimized);
    const b = addPath(1, AccessState.Standby);
    await clock.advance(250);
    await finishAll(a, b);
    a.accessChanged(at(AccessState.NonOptimized));
    await clock.advance(250);
    expect(b.ops.map(({ kind }) => kind)).toEqual(['probe']);
    await finishAll(a, b);
    await clock.advance(1_500);
    expect(b.ops.map(({ kind }) => kind)).toEqual(['probe']);
    expect(a.ops).toHaveLength(0); // it is ready: its time is not up
  });

  test('is waited for by a reset: what is in flight on a path that is out of favour counts too', async () => {
    const a = addPath(0, AccessState.Optimized);
    addPath(1, AccessState.NonOptimized);
    writes(1);
    a.accessChanged(at(AccessState.Unavailable));
    let quiet = false;
    void volume.quiesce(5_000).then(() => {
      quiet = true;
    });
    await clock.advance(1_000);
    expect(quiet).toBe(false);
    a.ops.find(({ kind }) => kind === 'write')!.resolve();
    await clock.advance(0);
    expect(quiet).toBe(true);
  });
});

describe('a flush after the only path that takes I/O was away', () => {
  async function backAgain() {
    const a = addPath(0, AccessState.Optimized);
    const b = addPath(1, AccessState.Standby);
    await clock.advance(250);
    await finishAll(a, b);
    writes(1);
    await finishAll(a);
    a.lose();
    await volume.fenced(0);
    const seen: string[] = [];
    volume.flush(NO_DEADLINE).then(
      () => seen.push('ok'),
      (error: Error) => seen.push(error.message),
    );
    const again = addPath(0, AccessState.Optimized);
    await clock.advance(0);
    // Its session is new: whether the target kept its power meanwhile, only the other one knows.
    expect(io(again)).toHaveLength(0);
    await clock.advance(250);
    return { again, b, seen };
  }

  test('waits for the word of the port in standby, and succeeds', async () => {
    const { again, b, seen } = await backAgain();
    b.ops.splice(0).forEach((op) => void op.resolve());
    await clock.advance(0);
    expect(io(again).map(({ kind }) => kind)).toEqual(['flush']);
    await finishAll(again);
    expect(seen).toEqual(['ok']);
    expect(events.filter((text) => text.startsWith('cache'))).toEqual([]);
  });

  test('tells that the cache may be lost when that port does not know either', async () => {
    const { again, b, seen } = await backAgain();
    b.lose();
    await clock.advance(250);
    await finishAll(again);
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatch(/may have lost acknowledged writes/);
  });
});

describe('a unit that grows', () => {
  test('is larger when all paths say so, and never smaller', () => {
    const a = addPath(0, AccessState.Any);
    const b = addPath(1, AccessState.Any);
    a.grown(2 * 1024 * 1024);
    expect(volume.caps.sizeBytes).toBe(1024 * 1024);
    b.grown(2 * 1024 * 1024);
    expect(volume.caps.sizeBytes).toBe(2 * 1024 * 1024);
    expect(events.at(-2)).toMatch(/^resized: 2097152/);
    a.grown(512);
    expect(volume.caps.sizeBytes).toBe(2 * 1024 * 1024);
  });
});

test('an access state from another process is checked', () => {
  expect(asPathAccess(at(AccessState.Standby, true))).toEqual(at(AccessState.Standby, true));
  for (const bad of [
    null,
    'standby',
    { state: 'fast', group: 1 },
    { state: 'standby', group: 'x' },
  ]) {
    expect(asPathAccess(bad)).toBeNull();
  }
});
