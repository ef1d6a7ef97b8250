import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { every, sleep } from '../core/clock.ts';
import { VirtualClock } from './virtual-clock.ts';

describe('virtual clock', () => {
  test('timers fire in the order of their time, equal times in the order of arming', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 60 }),
        async (delays) => {
          const clock = new VirtualClock({ settleTurns: 1 });
          const fired: { delay: number; index: number }[] = [];
          delays.forEach((delay, index) => {
            clock.after(delay, () => fired.push({ delay, index }));
          });
          await clock.advance(20);
          const expected = delays
            .map((delay, index) => ({ delay, index }))
            .sort((a, b) => a.delay - b.delay || a.index - b.index);
          expect(fired).toEqual(expected);
          expect(clock.pending).toBe(0);
        },
      ),
      { numRuns: 50 },
    );
  });

  test('a chain of promises, ticks and immediates ends before the next timer fires', async () => {
    const clock = new VirtualClock();
    const log: string[] = [];
    clock.after(5, async () => {
      for (let i = 0; i < 200; i++) await Promise.resolve();
      await new Promise<void>((resolve) => process.nextTick(resolve));
      await new Promise<void>((resolve) => setImmediate(resolve));
      for (let i = 0; i < 200; i++) await null;
      log.push('chain');
    });
    clock.after(5, () => log.push('next timer'));
    await clock.advance(5);
    expect(log).toEqual(['chain', 'next timer']);
  });

  test('a timer armed on the way fires in the same advance when it falls due', async () => {
    const clock = new VirtualClock();
    const at: number[] = [];
    const timer = every(clock, 10, () => at.push(clock.nowMs()));
    await clock.advance(35);
    timer.cancel();
    expect(at).toEqual([10, 20, 30]);
    expect(clock.nowMs()).toBe(35);
    expect(clock.pending).toBe(0);
  });

  test('a cancelled timer does not fire and leaves nothing behind', async () => {
    const clock = new VirtualClock();
    let fired = 0;
    const timers = Array.from({ length: 10_000 }, () => clock.after(1000, () => fired++));
    for (const timer of timers) timer.cancel();
    for (const timer of timers) timer.cancel();
    expect(clock.pending).toBe(0);
    await clock.advance(2000);
    expect(fired).toBe(0);
  });

  test('runUntil stops at the instant at which the predicate holds', async () => {
    const clock = new VirtualClock();
    let done = false;
    void sleep(clock, 70).then(() => {
      done = true;
    });
    clock.after(80, () => expect.unreachable());
    await clock.runUntil(() => done, 1000);
    expect(clock.nowMs()).toBe(70);
  });

  test('runUntil rejects when the predicate does not hold in time', async () => {
    const clock = new VirtualClock();
    await expect(clock.runUntil(() => false, 50)).rejects.toThrow('not reached within 50 ms');
    expect(clock.nowMs()).toBe(50);
  });

  test('a stall makes timers late, a jump moves the date alone', async () => {
    const clock = new VirtualClock({ wallStartMs: 0 });
    let at = -1;
    clock.after(10, () => {
      at = clock.nowMs();
    });
    clock.stall(500);
    await clock.advance(0);
    expect(at).toBe(500);
    clock.jumpWall(60_000);
    expect(clock.nowMs()).toBe(500);
    expect(clock.wallMs()).toBe(60_500);
  });

  test('an error thrown by a timer comes out of advance, and the clock stays usable', async () => {
    const clock = new VirtualClock();
    clock.after(1, () => {
      throw new Error('broken');
    });
    await expect(clock.advance(5)).rejects.toThrow('broken');
    await clock.advance(5);
    expect(clock.nowMs()).toBe(6);
  });
});
