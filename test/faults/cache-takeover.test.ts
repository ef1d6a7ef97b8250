// A former owner that lives on, cut off from the bus with one of the workers, goes on to acknowledge writes until that
// worker's session is fenced. What was flushed when another worker was sealed does not hold them: the new owner must not
// say that they are durable before that is so.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { sleep } from '#core/clock.ts';
import type { Volume } from '../../services/gateway/volume.ts';
import { SimCluster } from '../sim/cluster.ts';

const BLOCK_BYTES = 512;
const BLOCKS = 1_000;
const READY_MS = 60_000;
const SETTLED_MS = 8_000;
const DOWN_MS = 500;
const PACE_MS = 20;
const WRITE_ERROR = [0x3, 0x0c, 0x00] as const;
const SYNCHRONIZE_CACHE = 0x35;
const PARTED_WORKER = 'n1-w1';

let cluster: SimCluster;
let old: Volume;
let owner: string;

beforeEach(async () => {
  cluster = new SimCluster({ seed: 5, writeCache: true, gateways: 2 });
  await cluster.start();
  await cluster.clock.runUntil(() => cluster.volume?.device.readyCount === 2, READY_MS);
  await cluster.clock.advance(SETTLED_MS);
  old = cluster.volume!;
  owner = old.status().owner;
});

afterEach(() => cluster.stop());

function fill(i: number): number {
  return (i % 250) + 1;
}

/** Writes one block after the other through the old owner until `stop`; returns the last that was acknowledged. */
async function writeOn(stop: () => boolean): Promise<number> {
  let last = -1;
  for (let i = 0; i < BLOCKS && !stop(); i++) {
    const data = Buffer.alloc(BLOCK_BYTES, fill(i));
    const done = await old.device.write(i * BLOCK_BYTES, data, 0, NO_DEADLINE).then(
      () => true,
      () => false,
    );
    if (done) last = i;
    await sleep(cluster.clock, PACE_MS);
  }
  return last;
}

function other(): Volume | undefined {
  return cluster.volumes.find((volume) => volume !== old);
}

/** What the new owner says, and holds, after the target has lost its power. */
async function afterPowerLoss(last: number): Promise<{ flush: string; isThere: boolean }> {
  const next = other()!;
  await cluster.during(cluster.restartTarget(DOWN_MS, true));
  await cluster.clock.runUntil(() => next.device.readyCount >= 1, READY_MS);
  const flush = await cluster.during(next.device.flush(NO_DEADLINE)).then(
    () => 'ok',
    (error) => error.code as string,
  );
  const found = Buffer.alloc(BLOCK_BYTES);
  await cluster.during(next.device.read(last * BLOCK_BYTES, found, NO_DEADLINE));
  return { flush, isThere: found[0] === fill(last) };
}

describe('what an owner acknowledges while it is cut off from the bus with a worker', () => {
  test('is durable when the new owner says so', async () => {
    cluster.hub.partition([[owner, PARTED_WORKER]]);
    const writing = writeOn(() => other() !== undefined);
    await cluster.clock.runUntil(() => other() !== undefined, READY_MS);
    const last = await cluster.during(writing);
    expect(last).toBeGreaterThan(100);
    expect(await afterPowerLoss(last)).toEqual({ flush: 'ok', isThere: true });
  });

  test('is told to be lost when nobody could make it durable in time', async () => {
    cluster.hub.partition([[owner, PARTED_WORKER]]);
    const writing = writeOn(() => other() !== undefined);
    // The session that could vouch is asked to when the other one has been taken over.
    const isTaken = (): boolean => old.device.readyCount < 2;
    await cluster.clock.runUntil(isTaken, READY_MS);
    const fault = cluster.target.faults.checkCondition(WRITE_ERROR, { opcode: SYNCHRONIZE_CACHE });
    await cluster.clock.runUntil(() => other() !== undefined, READY_MS);
    const last = await cluster.during(writing);
    fault.remove();
    expect(await afterPowerLoss(last)).toEqual({ flush: 'MULTIPATH_CACHE_LOST', isThere: false });
  });
});

describe('the death of a gateway together with a worker', () => {
  test('fails no flush: the session that lives is flushed once more when the other is fenced', async () => {
    const last = await cluster.during(
      writeOn(() => old.device.paths.every(({ writes }) => writes > 2)),
    );
    await Promise.all([cluster.crash(owner), cluster.crash(PARTED_WORKER)]);
    await cluster.clock.runUntil(() => other() !== undefined, READY_MS);
    await cluster.during(other()!.device.flush(NO_DEADLINE));
    expect(await afterPowerLoss(last)).toEqual({ flush: 'ok', isThere: true });
  });
});
