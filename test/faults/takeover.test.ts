import { afterEach, describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { subjects } from '#contracts/subjects.ts';
import type { TargetBehaviour } from '#target/target.ts';
import { LUN, SimCluster, VOLUME } from '../sim/cluster.ts';

const BLOCK_BYTES = 512;
const OLD = Buffer.alloc(BLOCK_BYTES, 0xaa);
const NEW = Buffer.alloc(BLOCK_BYTES, 0xbb);
const READY_MS = 60_000;
const RELEASE_AFTER_MS = 4_000;
const SETTLE_MS = 20_000;

let cluster: SimCluster;

afterEach(() => cluster.stop());

async function started(options: { gateways: number; behaviour?: TargetBehaviour }): Promise<void> {
  cluster = new SimCluster({ seed: 11, ...options });
  await cluster.start();
  await cluster.clock.runUntil(() => cluster.volume?.device.readyCount === 2, READY_MS);
}

async function onDisk(): Promise<Buffer> {
  const found = Buffer.alloc(BLOCK_BYTES);
  await cluster.during(cluster.volumes.at(-1)!.device.read(0, found, NO_DEADLINE));
  return found;
}

describe('when a gateway dies with a write in flight', () => {
  const behaviours: readonly TargetBehaviour[] = [
    { onReinstatement: 'keep', onLunReset: 'abort' },
    { onReinstatement: 'keep', onLunReset: 'wait' },
  ];
  test.each(behaviours)(
    'its successor serves only after that write is fenced ($onLunReset at reset)',
    async (behaviour) => {
      await started({ gateways: 1, behaviour });
      const { clock, target } = cluster;
      const hold = target.faults.holdWrites({ lun: LUN, lbaFrom: 0, lbaTo: 1, count: 1 });
      const lost = cluster.volume!.device.write(0, OLD, 0, NO_DEADLINE);
      lost.catch(() => {}); // its client is gone with the gateway
      await clock.runUntil(() => hold.waiting === 1, READY_MS);
      await cluster.crash('n1-g0');
      cluster.startGateway('n1-g0');
      const release = clock.after(RELEASE_AFTER_MS, () => hold.release());
      await clock.runUntil(() => cluster.volume !== undefined, READY_MS);
      await cluster.during(cluster.volume!.device.write(0, NEW, 0, NO_DEADLINE));
      release.cancel();
      hold.release();
      await clock.advance(SETTLE_MS);
      expect((await onDisk()).equals(NEW)).toBe(true);
    },
  );
});

test('a path that the configuration has no longer is fenced, then forgotten', async () => {
  await started({ gateways: 1, behaviour: { onReinstatement: 'keep', onLunReset: 'abort' } });
  const { clock, target } = cluster;
  const hold = target.faults.holdWrites({ lun: LUN, lbaFrom: 0, lbaTo: 1, count: 2 });
  // Paths take turns: one of the two goes over the portal that will not be there any more.
  for (let i = 0; i < 2; i++) {
    cluster.volume!.device.write(i * 4096, OLD, 0, NO_DEADLINE).catch(() => {});
  }
  await clock.runUntil(() => hold.waiting >= 1, READY_MS);
  await cluster.crash('n1-g0');
  await cluster.crash('n1-c0');
  cluster.reconfigure([3261]);
  await cluster.startCoordinator();
  cluster.startGateway('n1-g0');
  await clock.runUntil(() => cluster.volume !== undefined, READY_MS);
  await cluster.during(cluster.volume!.device.write(0, NEW, 0, NO_DEADLINE));
  hold.release();
  await clock.advance(SETTLE_MS);
  expect(cluster.volume!.status()).toMatchObject({ pathsReady: 1, pathsTotal: 1 });
  expect((await onDisk()).equals(NEW)).toBe(true);
});

test('a volume goes on in a newer epoch when the store of the bus has lost its history', async () => {
  await started({ gateways: 1 });
  const { clock } = cluster;
  const before = cluster.volume!;
  await cluster.during(before.device.write(0, NEW, 0, NO_DEADLINE));
  cluster.hub.wipe();
  await clock.runUntil(() => cluster.volume !== undefined && cluster.volume !== before, READY_MS);
  expect(cluster.volume!.epoch).toBeGreaterThan(before.epoch);
  expect((await onDisk()).equals(NEW)).toBe(true);
});

test('a worker that has sealed a newer epoch refuses every frame of an older one', async () => {
  await started({ gateways: 1 });
  const { device, epoch } = cluster.volume!;
  await cluster.during(device.write(0, NEW, 0, NO_DEADLINE));
  const bus = cluster.hub.connect('test');
  const subject = subjects(cluster.config.node.cluster);
  for (const worker of cluster.workerIds) {
    const order = { volume: VOLUME, epoch: epoch + 1, timeoutMs: 1_000 };
    await cluster.during(bus.request(subject.seal(worker), order, { timeoutMs: 2_000 }));
  }
  const refused = cluster.during(device.write(0, OLD, 0, NO_DEADLINE));
  await expect(refused).rejects.toThrow();
  expect(cluster.target.writeLog).toHaveLength(1);
});

test('a gateway that was replaced while it was cut off from the bus can neither write nor read', async () => {
  await started({ gateways: 2 });
  const { clock } = cluster;
  const old = cluster.volume!;
  const owner = old.status().owner;
  cluster.hub.partition([[owner]]);
  await clock.runUntil(() => cluster.volumes.length === 2, READY_MS);
  const next = cluster.volumes.find((volume) => volume !== old)!;
  expect(next.epoch).toBeGreaterThan(old.epoch);
  await cluster.during(next.device.write(0, NEW, 0, NO_DEADLINE));
  const late = old.device.write(0, OLD, 0, NO_DEADLINE);
  await expect(cluster.during(late)).rejects.toThrow();
  const read = old.device.read(0, Buffer.alloc(BLOCK_BYTES), NO_DEADLINE);
  await expect(cluster.during(read)).rejects.toThrow();
  expect((await onDisk()).equals(NEW)).toBe(true);
  cluster.hub.heal();
  await clock.runUntil(() => cluster.volumes.length === 1, READY_MS);
  expect(cluster.volume).toBe(next);
});
