import { expect } from 'vitest';
import { startFio } from '#testkit/fio.ts';
import type { Orion } from '#testkit/orion.ts';
import { pause, waitFor } from '#testkit/wait.ts';
import { StallMeter } from '../faults/stall-meter.ts';

/** A volume of `orion-iscsi up` under load while something breaks. */

const RECOVERY_MS = 120_000;
const LOAD_MS = 1500;

/** As many paths as said are ready, each through a worker of its own, and with these digests. */
export async function pathsReady(orion: Orion, count: number): Promise<void> {
  await waitFor(
    `${count} paths through ${count} workers`,
    async () => {
      const ready = (await orion.status()).paths.filter(({ state }) => state === 'ready');
      return ready.length === count && new Set(ready.map(({ worker }) => worker)).size === count;
    },
    RECOVERY_MS,
  );
}

export interface Load {
  readonly orion: Orion;
  /** fio verifies the lower part; the meter writes a few blocks behind it. */
  readonly fioBytes: number;
  readonly rateIops: number;
}

/** Runs a verified load, breaks something, and expects that no client noticed. Returns the longest stall. */
export async function unnoticed(load: Load, breakIt: () => Promise<void>): Promise<number> {
  const meter = await StallMeter.start(load.orion.socket, load.fioBytes);
  const fio = await startFio({
    uri: load.orion.nbdUnix,
    rw: 'randwrite',
    blockBytes: 4096,
    depth: 8,
    sizeBytes: load.fioBytes,
    rateIops: load.rateIops,
    verify: true,
    timeoutMs: 300_000,
  });
  await pause(LOAD_MS);
  await breakIt();
  const result = await fio.result;
  expect(result.error).toBe(0);
  expect(result.totalErrors).toBe(0);
  const stall = await meter.stop();
  expect(stall.errors).toEqual([]);
  return Math.round(stall.longestMs);
}
