import { expect, test } from 'vitest';
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
