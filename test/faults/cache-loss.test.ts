// Acknowledged is not durable: a target with a volatile cache loses what was not flushed with its power. The promise is
// that a flush never says "all is safe" about what is gone, whoever has died meanwhile.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NO_DEADLINE, WriteFlag } from '#block/device.ts';
import { SimCluster, TARGET_HOST } from '../sim/cluster.ts';

const BLOCK_BYTES = 512;
const READY_MS = 60_000;
const DOWN_MS = 500;
/** Long enough for probes to go round, and for the record to hold what they showed. */
const SETTLED_MS = 8_000;
/** Nobody that was not heard for this long is a member any more. */
const FORGOTTEN_MS = 15_000;

let cluster: SimCluster;

async function isServed(): Promise<void> {
  await cluster.clock.runUntil(() => cluster.volume?.device.readyCount === 2, READY_MS);
}

function write(flags: number = WriteFlag.None): Promise<void> {
  const data = Buffer.alloc(BLOCK_BYTES, 0x5a);
  return cluster.during(cluster.volume!.device.write(0, data, flags, NO_DEADLINE));
}

function flush(): Promise<void> {
  return cluster.during(cluster.volume!.device.flush(NO_DEADLINE));
}

async function restartGateway(): Promise<void> {
  await cluster.crash('n1-g0');
  cluster.startGateway('n1-g0');
  await isServed();
}

beforeEach(async () => {
  cluster = new SimCluster({ seed: 5, writeCache: true });
  await cluster.start();
  await isServed();
  await cluster.clock.advance(SETTLED_MS);
});

afterEach(() => cluster.stop());

describe('after the target has lost its power', () => {
  test('the next flush fails, and the one after it succeeds', async () => {
    await write();
    await cluster.during(cluster.restartTarget(DOWN_MS, true));
    await isServed();
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
    await flush();
  });

  test('nothing fails when all had been flushed, or written with FUA', async () => {
    await write();
    await flush();
    await write(WriteFlag.Fua);
    await flush();
    await cluster.during(cluster.restartTarget(DOWN_MS, true));
    await isServed();
    await flush();
  });

  test('a flush fails although one path seems to have lived on, cut off from the target', async () => {
    await write();
    const parted = cluster.volume!.pathStatus()[0]!.worker;
    cluster.network.partition(parted, TARGET_HOST);
    await cluster.during(cluster.restartTarget(0, true));
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
    cluster.network.heal();
  });

  test('a gateway that took over meanwhile fails the first flush', async () => {
    await write();
    await cluster.crash('n1-g0');
    await cluster.during(cluster.restartTarget(DOWN_MS, true));
    cluster.startGateway('n1-g0');
    await isServed();
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
    await flush();
  });

  test('so does one whose predecessor had noticed and died before a flush could say so', async () => {
    await write();
    await cluster.during(cluster.restartTarget(DOWN_MS, true));
    await isServed();
    await restartGateway();
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
  });

  test('so does one that finds the store of the bus empty', async () => {
    await write();
    const before = cluster.volume;
    cluster.hub.wipe();
    await cluster.during(cluster.restartTarget(DOWN_MS, true));
    await cluster.clock.runUntil(
      () => cluster.volume !== undefined && cluster.volume !== before,
      READY_MS,
    );
    await isServed();
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
  });
});

describe('when the records are lost as well', () => {
  test('a gateway that was cut off from the bus meanwhile fails the first flush', async () => {
    await write();
    await cluster.during(cluster.restartTarget(DOWN_MS, true));
    await cluster.crash('n1-c0');
    cluster.hub.wipe();
    const before = cluster.volume;
    cluster.cutFromBus('n1-g0');
    await cluster.clock.advance(FORGOTTEN_MS);
    await cluster.startCoordinator();
    cluster.healBus();
    await cluster.clock.runUntil(
      () => cluster.volume !== undefined && cluster.volume !== before,
      READY_MS,
    );
    await isServed();
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
    await flush();
  });

  test('the coordinator remembers what they said of the cache, when all others have died', async () => {
    await write();
    cluster.hub.wipe();
    const others = [...cluster.gatewayIds, ...cluster.workerIds];
    for (const id of others) await cluster.crash(id);
    await cluster.during(cluster.restartTarget(DOWN_MS, true));
    for (const id of cluster.workerIds) await cluster.startWorker(id);
    cluster.startGateway('n1-g0');
    await isServed();
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
    await flush();
  });
});

describe('while the target lives', () => {
  test('the death of a gateway fails no flush: its sessions vouch, and are flushed when it is sealed', async () => {
    await write();
    await restartGateway();
    // What the dead gateway had acknowledged is durable now.
    await cluster.during(cluster.restartTarget(DOWN_MS, true));
    await isServed();
    await flush();
    const found = Buffer.alloc(BLOCK_BYTES);
    await cluster.during(cluster.volume!.device.read(0, found, NO_DEADLINE));
    expect(found.equals(Buffer.alloc(BLOCK_BYTES, 0x5a))).toBe(true);
  });

  test('the death of one worker after the other fails no flush', async () => {
    await write();
    for (const id of cluster.workerIds) {
      await cluster.crash(id);
      await cluster.startWorker(id);
      await isServed();
      await cluster.clock.advance(SETTLED_MS);
    }
    await flush();
  });

  test('the death of all workers fails one flush: nobody knows that the target lived', async () => {
    await write();
    for (const id of cluster.workerIds) await cluster.crash(id);
    for (const id of cluster.workerIds) await cluster.startWorker(id);
    await isServed();
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
    await flush();
  });

  test('an owner that ends in good order leaves nothing to doubt, even if the target loses its power then', async () => {
    await write();
    const { volume } = cluster;
    await cluster.during(volume!.close({ release: true }));
    await cluster.crash('n1-g0');
    await cluster.during(cluster.restartTarget(DOWN_MS, true));
    cluster.startGateway('n1-g0');
    await isServed();
    await flush();
    const found = Buffer.alloc(BLOCK_BYTES);
    await cluster.during(cluster.volume!.device.read(0, found, NO_DEADLINE));
    expect(found.equals(Buffer.alloc(BLOCK_BYTES, 0x5a))).toBe(true);
  });
});
