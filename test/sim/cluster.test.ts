import { describe, expect, test } from 'vitest';
import { seededRng } from '#core/rng.ts';
import { SimCluster } from './cluster.ts';
import { START_MS, simulate } from './simulate.ts';
import { Workload } from './workload.ts';

/** More by hand: test/sim/run.ts. */
const SEEDS = 8;

describe('a simulated cluster', () => {
  test('takes a volume into service and serves it', async () => {
    const cluster = new SimCluster({ seed: 1 });
    await cluster.start();
    await cluster.clock.runUntil(() => cluster.volume !== undefined, START_MS);
    const workload = new Workload(cluster, seededRng(1));
    workload.start(2);
    await cluster.clock.advance(2_000);
    workload.stop();
    await cluster.clock.runUntil(() => workload.idle, 10_000);
    expect(workload.errors).toEqual([]);
    expect(workload.history.violations()).toEqual([]);
    expect(workload.history.acknowledged).toBeGreaterThan(20);
    await cluster.stop();
  });

  test.each(Array.from({ length: SEEDS }, (_, i) => i + 1))(
    'loses no acknowledged write and brings none back, whatever dies (seed %i)',
    async (seed) => {
      const result = await simulate(seed);
      expect(result.errors).toEqual([]);
      expect(result.violations).toEqual([]);
      expect(result.acknowledged).toBeGreaterThan(50);
    },
  );

  test('is caught losing writes when the fence is switched off', async () => {
    const only = ['writes land late', 'connections are cut', 'worker dies'];
    let found = 0;
    for (let seed = 1; seed <= 12 && found === 0; seed++) {
      const result = await simulate(seed, { fencing: false, only });
      found += result.violations.length;
    }
    expect(found).toBeGreaterThan(0);
  });
});
