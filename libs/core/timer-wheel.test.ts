import { describe, expect, test } from 'vitest';
import type { Clock } from './clock.ts';
import { TimerWheel, WheelEntry } from './timer-wheel.ts';

/** A clock that stands still until `advance`. */
class ManualClock implements Clock {
  #now = 0;
  #timers: { at: number; fn: () => void }[] = [];
  armedTimers(): number {
    return this.#timers.length;
  }
  nowMs(): number {
    return this.#now;
  }
  wallMs(): number {
    return this.#now;
  }
  after(delayMs: number, fn: () => void) {
    const timer = { at: this.#now + delayMs, fn };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#now = next.at;
      next.fn();
    }
    this.#now = end;
  }
  /** Time passes without anything having run: a stalled event loop. */
  stall(ms: number): void {
    this.#now += ms;
  }
}

class Probe extends WheelEntry {
  readonly fired: number[] = [];
  readonly #clock: Clock;
  afterwards: () => void = () => {};
  constructor(clock: Clock) {
    super();
    this.#clock = clock;
  }
  override onTimeout(): void {
    this.fired.push(this.#clock.nowMs());
    this.afterwards();
  }
}

describe('a timer wheel', () => {
  test('fires never early and at most two ticks late, also beyond one turn of the wheel', () => {
    for (const delay of [1, 249, 250, 1000, 30_000, 64_000, 200_000]) {
      const clock = new ManualClock();
      const wheel = new TimerWheel(clock);
      const probe = new Probe(clock);
      clock.advance(123);
      wheel.arm(probe, delay);
      clock.advance(delay + 1000);
      expect(probe.fired).toHaveLength(1);
      expect(probe.fired[0]! - 123).toBeGreaterThanOrEqual(delay);
      expect(probe.fired[0]! - 123).toBeLessThanOrEqual(delay + 500 + 250);
    }
  });

  test('does not fire what was disarmed, and lets it be armed again', () => {
    const clock = new ManualClock();
    const wheel = new TimerWheel(clock);
    const [a, b, c] = [new Probe(clock), new Probe(clock), new Probe(clock)];
    for (const probe of [a, b, c]) wheel.arm(probe, 1000);
    wheel.disarm(b);
    wheel.disarm(b);
    clock.advance(2000);
    expect([a.fired.length, b.fired.length, c.fired.length]).toEqual([1, 0, 1]);
    wheel.arm(b, 1000);
    clock.advance(2000);
    expect(b.fired).toHaveLength(1);
    expect(wheel.size).toBe(0);
  });

  test('holds no timer of the clock when nothing is armed', () => {
    const clock = new ManualClock();
    const wheel = new TimerWheel(clock);
    const probe = new Probe(clock);
    wheel.arm(probe, 1000);
    wheel.disarm(probe);
    clock.advance(1000);
    expect(clock.armedTimers()).toBe(0);
    clock.advance(10_000);
    wheel.arm(probe, 1000);
    clock.advance(999);
    expect(probe.fired).toHaveLength(0);
    clock.advance(1000);
    expect(probe.fired).toHaveLength(1);
  });

  test('fires everything that became due while the event loop stood still', () => {
    const clock = new ManualClock();
    const wheel = new TimerWheel(clock);
    const probes = [300, 5000, 70_000].map((delay) => {
      const probe = new Probe(clock);
      wheel.arm(probe, delay);
      return probe;
    });
    clock.stall(90_000);
    clock.advance(250);
    expect(probes.map((probe) => probe.fired.length)).toEqual([1, 1, 1]);
  });

  test('an entry that fires may disarm another of its slot and arm itself again', () => {
    const clock = new ManualClock();
    const wheel = new TimerWheel(clock);
    const [a, b] = [new Probe(clock), new Probe(clock)];
    wheel.arm(b, 1000);
    wheel.arm(a, 1000);
    a.afterwards = () => {
      wheel.disarm(b);
      if (a.fired.length === 1) wheel.arm(a, 1000);
    };
    clock.advance(5000);
    expect([a.fired.length, b.fired.length]).toEqual([2, 0]);
  });
});
