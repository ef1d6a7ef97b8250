import { describe, expect, test } from 'vitest';
import { BusyPoll } from './busy-poll.ts';

function rig() {
  const turns: (() => void)[] = [];
  const workload = { inflight: 1 };
  const clock = { nowMs: 0 };
  const poll = new BusyPoll({
    windowMs: 0.1,
    workload,
    nowMs: () => clock.nowMs,
    nextTurn: (fn) => turns.push(fn),
  });
  const turn = (): void => {
    for (const fn of turns.splice(0)) fn();
  };
  return { turns, workload, clock, poll, turn };
}

describe('after something arrived', () => {
  test('the loop looks for more until the window is over, and not longer', () => {
    const { turns, clock, poll, turn } = rig();
    poll.heard();
    for (const nowMs of [0.02, 0.05, 0.07, 0.09]) {
      clock.nowMs = nowMs;
      turn();
      expect(turns).toHaveLength(1);
    }
    clock.nowMs = 0.1;
    turn();
    expect(turns).toHaveLength(0);
    poll.heard();
    expect(turns).toHaveLength(1);
  });

  test('each further event begins the window anew, and never makes a second look per turn', () => {
    const { turns, clock, poll, turn } = rig();
    poll.heard();
    clock.nowMs = 0.09;
    poll.heard();
    poll.heard();
    expect(turns).toHaveLength(1);
    clock.nowMs = 0.15;
    turn();
    expect(turns).toHaveLength(1);
  });

  /** Events every 80 us, between which there is one look; every so manieth takes longer than it should. */
  function run(events: number, interruptedOf: number) {
    const one = rig();
    let looked = 0;
    for (let event = 0; event < events; event++) {
      one.poll.heard();
      looked += one.turns.length;
      one.turn();
      one.clock.nowMs += event % interruptedOf === 0 ? 0.05 : 0.002;
      one.turn();
      one.clock.nowMs += 0.01;
    }
    return { ...one, looked };
  }

  test('an interruption now and then keeps nobody from looking', () => {
    expect(run(1_000, 8).looked).toBe(1_000);
  });

  test('nobody looks for a while when every second look is interrupted', () => {
    const { turns, clock, poll, looked } = run(1_000, 2);
    expect(looked).toBeLessThan(200);
    expect(turns).toHaveLength(0);
    clock.nowMs += 51;
    poll.heard();
    expect(turns).toHaveLength(1);
  });

  test('nobody looks while more requests are under way than one would wait for', () => {
    const { turns, workload, poll, turn } = rig();
    workload.inflight = 3;
    poll.heard();
    expect(turns).toHaveLength(0);
    workload.inflight = 2;
    poll.heard();
    expect(turns).toHaveLength(1);
    workload.inflight = 3;
    turn();
    expect(turns).toHaveLength(0);
  });
});
