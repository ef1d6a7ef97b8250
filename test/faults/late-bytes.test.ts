import { afterEach, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { SimCluster, TARGET_HOST } from '../sim/cluster.ts';

const BLOCK_BYTES = 512;
const OLD = Buffer.alloc(BLOCK_BYTES, 0xaa);
const NEW = Buffer.alloc(BLOCK_BYTES, 0xbb);
const READY_MS = 60_000;
/** Longer than a failover, shorter than anybody's patience. */
const WIRE_MS = 2_500;
const SETTLE_MS = 20_000;

let cluster: SimCluster;

afterEach(() => cluster.stop());

/**
 * The room is not enough without the door: at the time of the LU reset the old write has not even reached the target.
 * Only the login with the same ISID, which makes the target drop the old connection, keeps it from being executed.
 */
test('a write that is still on the wire when its worker dies cannot land over a newer one', async () => {
  cluster = new SimCluster({
    seed: 3,
    behaviour: { onReinstatement: 'keep', onLunReset: 'abort' },
  });
  await cluster.start();
  const { clock, network, target } = cluster;
  await clock.runUntil(() => cluster.volume?.device.readyCount === 2, READY_MS);
  const { device } = cluster.volume!;
  // Paths take turns, so two of these go the way of the first. The first one to arrive after the reset is answered with
  // a unit attention and not executed; the write that matters comes behind it.
  const before = [8, 16].map((block) => device.write(block * BLOCK_BYTES, OLD, 0, NO_DEADLINE));
  const first = device.write(0, OLD, 0, NO_DEADLINE);
  const { worker } = cluster.volume!.pathStatus().find(({ inflight }) => inflight === 2)!;
  // What the dying process has sent stays on the wire for a while, and is delivered all the same.
  network.setLink(worker, TARGET_HOST, {
    latencyMinMs: WIRE_MS,
    latencyMaxMs: WIRE_MS,
    onDestroy: 'deliver',
  });
  await clock.advance(5);
  expect(target.writeLog).toHaveLength(1);
  await cluster.crash(worker);
  await cluster.during(Promise.all([...before, first]));
  expect(clock.nowMs()).toBeLessThan(READY_MS);
  await cluster.during(device.write(0, NEW, 0, NO_DEADLINE));
  await clock.advance(SETTLE_MS);
  const found = Buffer.alloc(BLOCK_BYTES);
  await cluster.during(device.read(0, found, NO_DEADLINE));
  expect(found.equals(NEW)).toBe(true);
});
