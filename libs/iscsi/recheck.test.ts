import { expect, test } from 'vitest';
import { Recheck } from './recheck.ts';

/** Looks that end when told to. */
function looks() {
  const open: (() => void)[] = [];
  let count = 0;
  const recheck = new Recheck(() => {
    count += 1;
    return new Promise((resolve) => open.push(resolve));
  });
  return { recheck, end: () => open.shift()!(), count: () => count };
}

test('what is asked for during a look is looked at once more, however often it was asked for', async () => {
  const { recheck, end, count } = looks();
  const first = recheck.run();
  void recheck.run();
  void recheck.run();
  end();
  await Promise.resolve();
  await Promise.resolve();
  expect(count()).toBe(2);
  end();
  await first;
  expect(count()).toBe(2);
});

test('what is asked for in the turns in which a look ends is not lost', async () => {
  for (let turns = 0; turns < 8; turns++) {
    const { recheck, end, count } = looks();
    const first = recheck.run();
    end();
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    void recheck.run();
    await new Promise((resolve) => setImmediate(resolve));
    expect(count(), `asked ${turns} turns after the answer`).toBe(2);
    end();
    await first;
  }
});

test('a device that reports a change at every look is looked at a bounded number of times', async () => {
  let count = 0;
  const recheck: Recheck = new Recheck(async () => {
    count += 1;
    void recheck.run();
  });
  await recheck.run();
  expect(count).toBe(8);
});

test('a look that fails is no reason not to look again', async () => {
  let count = 0;
  const recheck = new Recheck(async () => {
    count += 1;
    throw new Error('scripted');
  });
  await expect(recheck.run()).rejects.toThrow('scripted');
  await expect(recheck.run()).rejects.toThrow('scripted');
  expect(count).toBe(2);
});
