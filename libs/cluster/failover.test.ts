import { expect, test } from 'vitest';
import type { SlotRecord } from '../contracts/records.ts';
import { OrionError } from '../core/errors.ts';
import { seededRng } from '../core/rng.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { Failover, type FailoverPorts } from './failover.ts';

/** When a slot that nobody can hold is tried, in a minute. */
async function triesOf(quickTries: number): Promise<number[]> {
  const clock = new VirtualClock();
  const abort = new AbortController();
  const at: number[] = [];
  const failover = new Failover({
    ports: { candidates: () => [] } as unknown as FailoverPorts,
    clock,
    rng: { ...seededRng(1), float: () => 1 },
    signal: abort.signal,
    fencing: true,
    quickTries,
    onEvent: () => {},
    onFailed: () => at.push(clock.nowMs()),
    isFatal: () => false,
    onFatal: () => {},
  });
  const done = failover.recover(0, false);
  await clock.advance(60_000);
  abort.abort();
  await done;
  return at;
}

const pauses = (at: readonly number[]) => at.slice(1).map((ms, index) => ms - at[index]!);

test('pauses between tries grow to a bound, after as many quick ones as are wanted', async () => {
  expect(pauses(await triesOf(0)).slice(0, 8)).toEqual([
    100, 200, 400, 800, 1600, 3200, 5000, 5000,
  ]);
  expect(pauses(await triesOf(3)).slice(0, 6)).toEqual([100, 100, 100, 100, 200, 400]);
});

test('a try that comes too early for the target is made again when its time is over, at the same worker', async () => {
  for (const [waitMs, againMs] of [
    [3000, 3000],
    [3_600_000, 30_000],
  ] as const) {
    const clock = new VirtualClock();
    const abort = new AbortController();
    const tries: [string, number][] = [];
    const ports: Partial<FailoverPorts> = {
      candidates: () => ['w0', 'w1'],
      assign: async (slot, worker) => ({ slot, worker, tpgt: -1 }) as SlotRecord,
      claim: async ({ worker }) => {
        tries.push([worker, clock.nowMs()]);
        throw new OrionError({
          code: 'WORKER_TARGET_WAITS',
          message: 'too early',
          outcome: 'not-executed',
          fields: { waitMs },
        });
      },
      needsFence: () => false,
    };
    const failover = new Failover({
      ports: ports as FailoverPorts,
      clock,
      rng: seededRng(1),
      signal: abort.signal,
      fencing: true,
      onEvent: () => {},
      onFailed: () => {},
      isFatal: () => false,
      onFatal: () => {},
    });
    const done = failover.recover(0, false);
    await clock.advance(againMs - 1);
    expect(tries).toEqual([['w0', 0]]);
    await clock.advance(1);
    expect(tries).toEqual([
      ['w0', 0],
      ['w0', againMs],
    ]);
    abort.abort();
    await done;
  }
});
