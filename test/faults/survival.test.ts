import { afterEach, beforeEach, expect, test } from 'vitest';
import { startFio } from '#testkit/fio.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { pause, waitFor } from '#testkit/wait.ts';
import { StallMeter } from './stall-meter.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 96 * MIB;
/** fio verifies the lower part; the meter writes a few blocks of the rest. */
const FIO_BYTES = 64 * MIB;
const RECOVERY_MS = 60_000;

let target: Tgtd;
let orion: Orion;

async function pathsReady(count: number): Promise<void> {
  await waitFor(
    `${count} paths ready`,
    async () => {
      const { paths } = await orion.status();
      return paths.filter(({ state }) => state === 'ready').length === count;
    },
    RECOVERY_MS,
  );
}

/** Runs fio with verification and a stall meter, breaks something, and expects that no client noticed. */
async function unnoticed(what: string, breakIt: () => Promise<void>): Promise<void> {
  const meter = await StallMeter.start(orion.nbdUnix, FIO_BYTES);
  const fio = await startFio({
    uri: orion.nbdUnix,
    rw: 'randwrite',
    blockBytes: 4096,
    depth: 16,
    sizeBytes: FIO_BYTES,
    rateIops: 2000,
    verify: true,
    timeoutMs: 240_000,
  });
  await pause(1_500);
  await breakIt();
  const result = await fio.result;
  expect(result.error).toBe(0);
  expect(result.totalErrors).toBe(0);
  const stall = await meter.stop();
  expect(stall.errors).toEqual([]);
  console.log(`${what}: longest write of a client took ${Math.round(stall.longestMs)} ms`);
}

describeWith(['tgtd', 'tgtadm', 'nats-server', 'fio'], 'a volume under load goes on', () => {
  beforeEach(async () => {
    target = await startTgtd({ portals: 2, luns: [{ sizeBytes: SIZE_BYTES }] });
    orion = await startOrion({ portals: target.portals, targetName: target.targetName });
    await pathsReady(2);
  });

  afterEach(async () => {
    await orion.stop();
    await target.stop();
  });

  test('when a worker is killed; its path comes back', async () => {
    const victim = await orion.pid('n1-w0');
    await unnoticed('worker killed', async () => {
      process.kill(victim, 'SIGKILL');
    });
    await pathsReady(2);
    expect(await orion.pid('n1-w0')).not.toBe(victim);
    const { paths } = await orion.status();
    await waitFor(
      'the paths are spread over both workers again',
      async () => new Set((await orion.status()).paths.map(({ worker }) => worker)).size === 2,
      RECOVERY_MS,
    );
    expect(paths).toHaveLength(2);
  });

  test('when a worker hangs and wakes up again', async () => {
    const victim = await orion.pid('n1-w1');
    await unnoticed('worker hung', async () => {
      process.kill(victim, 'SIGSTOP');
      await pause(6_000);
      process.kill(victim, 'SIGCONT');
    });
    await pathsReady(2);
  });

  test('when the target is killed and comes back', async () => {
    await unnoticed('target restarted', async () => {
      target.kill('SIGKILL');
      await pause(1_000);
      await target.restart();
    });
    await pathsReady(2);
  });

  test('when NATS is killed', async () => {
    const victim = await orion.natsPid();
    await unnoticed('NATS killed', async () => {
      process.kill(victim, 'SIGKILL');
    });
    await pathsReady(2);
  });
});
