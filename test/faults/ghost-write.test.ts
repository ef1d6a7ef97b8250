import { afterEach, describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import type { TargetBehaviour } from '#target/target.ts';
import { LUN, SimCluster, TARGET_HOST } from '../sim/cluster.ts';

const BLOCK_BYTES = 512;
const OLD = Buffer.alloc(BLOCK_BYTES, 0xaa);
const NEW = Buffer.alloc(BLOCK_BYTES, 0xbb);
const READY_MS = 30_000;
/** Long after the failover, and long before anybody gives up. */
const RELEASE_AFTER_MS = 4_000;
const SETTLE_MS = 20_000;

let cluster: SimCluster;

afterEach(() => cluster.stop());

/** The worker that has the one write in flight. */
function workerOfWrite(): string {
  const path = cluster.volume!.pathStatus().find(({ inflight }) => inflight === 1);
  if (path === undefined) throw new Error('no path has the write in flight');
  return path.worker;
}

/**
 * The target takes a write of OLD and sits on it; its path dies; the client writes NEW to the same block, and only then
 * the target executes what it sat on. Returns what the disk holds in the end.
 */
async function ghost(
  behaviour: TargetBehaviour,
  fencing: boolean,
  breakPath: (worker: string) => Promise<void>,
): Promise<Buffer> {
  cluster = new SimCluster({ seed: 7, behaviour, fencing });
  await cluster.start();
  const { clock, target } = cluster;
  await clock.runUntil(() => cluster.volume?.device.readyCount === 2, READY_MS);
  const { device } = cluster.volume!;
  const hold = target.faults.holdWrites({ lun: LUN, lbaFrom: 0, lbaTo: 1, count: 1 });
  const first = device.write(0, OLD, 0, NO_DEADLINE);
  await clock.runUntil(() => hold.waiting === 1, READY_MS);
  await breakPath(workerOfWrite());
  const second = device.write(0, NEW, 0, NO_DEADLINE);
  await clock.advance(RELEASE_AFTER_MS);
  hold.release();
  await cluster.during(Promise.all([first, second]));
  await clock.advance(SETTLE_MS);
  const found = Buffer.alloc(BLOCK_BYTES);
  await cluster.during(device.read(0, found, NO_DEADLINE));
  return found;
}

const cutConnections = async (worker: string): Promise<void> => {
  expect(cluster.network.cutLink(worker, TARGET_HOST)).toBeGreaterThan(0);
};
const crashWorker = (worker: string): Promise<void> => cluster.crash(worker);

const BEHAVIOURS: readonly TargetBehaviour[] = [
  { onReinstatement: 'keep', onLunReset: 'wait' },
  { onReinstatement: 'keep', onLunReset: 'abort' },
  { onReinstatement: 'abort', onLunReset: 'wait' },
  { onReinstatement: 'abort', onLunReset: 'abort' },
];
const BREAKS = [
  ['its connection is cut', cutConnections],
  ['its worker dies', crashWorker],
] as const;

describe.each(BEHAVIOURS)(
  'a target that holds a write back ($onReinstatement at login, $onLunReset at reset)',
  (behaviour) => {
    test.each(BREAKS)('cannot put it over a newer one when %s', async (_, breakPath) => {
      const found = await ghost(behaviour, true, breakPath);
      expect(found.equals(NEW)).toBe(true);
    });
  },
);

describe('with the fence switched off', () => {
  test.each(BREAKS)('the old write comes back over the newer one when %s', async (_, breakPath) => {
    const found = await ghost({ onReinstatement: 'keep', onLunReset: 'abort' }, false, breakPath);
    expect(found.equals(OLD)).toBe(true);
  });
});
