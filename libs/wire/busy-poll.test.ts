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

  test('nobody looks for a while after the processor was taken away', () => {
    const { turns, clock, poll, turn } = rig();
    poll.heard();
    clock.nowMs = 0.01;
    turn();
    clock.nowMs = 0.08;
    turn();
    expect(turns).toHaveLength(0);
    clock.nowMs = 40;
    poll.heard();
    expect(turns).toHaveLength(0);
    clock.nowMs = 51;
    poll.heard();
    expect(turns).toHaveLength(1);
  });

  test('time that went into what arrived is not taken for time that was taken away', () => {
    const { turns, clock, poll, turn } = rig();
    poll.heard();
    clock.nowMs = 0.08;
    turn();
    expect(turns).toHaveLength(1);
    poll.heard();
    clock.nowMs = 0.16;
    turn();
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
