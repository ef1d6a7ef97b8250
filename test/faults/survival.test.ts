import { afterEach, beforeEach, expect, test } from 'vitest';
import { startFio } from '#testkit/fio.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { pause, waitFor } from '#testkit/wait.ts';
import { NbdPattern, StallMeter } from './stall-meter.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 48 * MIB;
/** fio verifies the lower part; the meter writes a few blocks of the rest. */
const FIO_BYTES = 32 * MIB;
const RECOVERY_MS = 60_000;
const FIO_BYTES_PER_SECOND = 8 * MIB;

/** Payloads that go with their frame between gateway and worker, and payloads in the memory that these share. */
const BLOCKS = [4096, 64 * 1024];

let target: Tgtd;
let orion: Orion;

/** Both paths are ready, each through a worker of its own. */
async function bothPaths(): Promise<void> {
  await waitFor(
    'two paths through two workers',
    async () => {
      const ready = (await orion.status()).paths.filter(({ state }) => state === 'ready');
      return ready.length === 2 && new Set(ready.map(({ worker }) => worker)).size === 2;
    },
    RECOVERY_MS,
  );
}

/** Runs fio with verification and a stall meter, breaks something, and expects that no client noticed. */
async function unnoticed(
  what: string,
  breakIt: () => Promise<void>,
  blockBytes = 4096,
): Promise<void> {
  const meter = await StallMeter.start(orion.socket, FIO_BYTES);
  const fio = await startFio({
    uri: orion.nbdUnix,
    rw: 'randwrite',
    blockBytes,
    depth: 16,
    sizeBytes: FIO_BYTES,
    rateIops: FIO_BYTES_PER_SECOND / blockBytes,
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
    await bothPaths();
  });

  afterEach(async () => {
    await orion.stop();
    await target.stop();
  });

  test.each(BLOCKS)('of %i bytes, when a worker is killed; its path comes back', async (bytes) => {
    const victim = await orion.pid('n1-w0');
    const kill = async (): Promise<void> => {
      process.kill(victim, 'SIGKILL');
    };
    await unnoticed('worker killed', kill, bytes);
    await bothPaths();
    expect(await orion.pid('n1-w0')).not.toBe(victim);
  });

  test.each(BLOCKS)('of %i bytes, when a worker hangs and wakes up again', async (bytes) => {
    const victim = await orion.pid('n1-w1');
    const hang = async (): Promise<void> => {
      process.kill(victim, 'SIGSTOP');
      await pause(6_000);
      process.kill(victim, 'SIGCONT');
    };
    await unnoticed('worker hung', hang, bytes);
    await bothPaths();
  });

  test('when the target is killed and comes back', async () => {
    await unnoticed('target restarted', async () => {
      target.kill('SIGKILL');
      await pause(1_000);
      await target.restart();
    });
    await bothPaths();
  });

  test('when the gateway is killed: clients connect again and find every acknowledged write', async () => {
    const before = await NbdPattern.write(orion.socket, FIO_BYTES);
    process.kill(await orion.pid('n1-g0'), 'SIGKILL');
    await waitFor('the gateway is back', () => before.verify(), RECOVERY_MS);
    await bothPaths();
  });

  test('when NATS is killed', async () => {
    const victim = await orion.natsPid();
    await unnoticed('NATS killed', async () => {
      process.kill(victim, 'SIGKILL');
    });
    await bothPaths();
  });
});
