import { expect, test } from 'vitest';
import { BACK } from './abuse-episode.ts';
import { abuse, GROWTH_BYTES_MAX, renderReport } from './abuse-run.ts';

/** Half a minute of what `abuse.ts` does for as long as one likes; counted in episodes, so that it is the same anywhere. */
const EPISODES = 500;
const SEED = 20_261_122;
/** A slow machine takes longer than a minute. */
const TEST_TIMEOUT_MS = 1_800_000;

test(
  'sessions that are abused at random crash nothing, lose nothing, hold nothing',
  async () => {
    const report = await abuse(SEED, (episodes) => episodes < EPISODES);
    expect(report.faults, renderReport(report)).toEqual([]);
    expect(report.episodes).toBe(EPISODES);
    // It did reach what it is about.
    expect(report.done).toBeGreaterThan(EPISODES);
    expect(report.failed).toBeGreaterThan(EPISODES);
    expect(report.checkedBlocks).toBeGreaterThan(EPISODES);
    const kinds = Object.keys(report.kinds);
    for (const level of [0, 1, 2]) {
      for (const connections of [1, 2, 3, 4]) {
        for (const reporting of ['FastAbort', 'RFC3720']) {
          expect(kinds).toContain(`level ${level}, ${connections} connections, ${reporting}`);
        }
      }
    }
    expect(report.kinds[BACK]).toBeGreaterThan(EPISODES / 10);
    expect(report.memory.last - report.memory.warm).toBeLessThan(GROWTH_BYTES_MAX);
  },
  TEST_TIMEOUT_MS,
);
