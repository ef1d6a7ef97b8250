import { beforeEach, expect, test } from 'vitest';
import type { Clock } from '../core/clock.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import type { Connection } from './connection.ts';
import { Keepalive } from './keepalive.ts';
import type { SessionTimeouts } from './session-options.ts';

const TIMEOUTS = { nopIntervalMs: 1_000, nopTimeoutMs: 2_000 } as SessionTimeouts;

let clock: VirtualClock;
/** For how long this process has stood still: its timers come late by that. */
let stoodStillMs: number;
let connection: { rxEvents: number };
let seen: string[];

beforeEach(() => {
  clock = new VirtualClock();
  stoodStillMs = 0;
  connection = { rxEvents: 0 };
  seen = [];
  const ours: Clock = {
    nowMs: () => clock.nowMs() + stoodStillMs,
    wallMs: () => clock.wallMs(),
    after: (delayMs, fn) => clock.after(delayMs, fn),
  };
  new Keepalive(connection as Connection, ours, TIMEOUTS, {
    ping: () => seen.push('ping'),
    silent: () => seen.push('silent'),
  });
});

test('a connection that is silent is pinged, and given up when no answer comes in time', async () => {
  await clock.advance(2_100);
  expect(seen).toEqual(['ping']);
  await clock.advance(1_800);
  expect(seen).toEqual(['ping']);
  await clock.advance(200);
  expect(seen).toEqual(['ping', 'silent']);
});

test('whatever arrives is life', async () => {
  for (let i = 0; i < 20; i++) {
    await clock.advance(1_000);
    connection.rxEvents += 1;
  }
  expect(seen).not.toContain('silent');
});

test('an answer that came while this process stood still counts, though it is read after the timer', async () => {
  await clock.advance(3_900);
  expect(seen).toEqual(['ping']);
  stoodStillMs = 5_000;
  await clock.advance(200);
  expect(seen).toEqual(['ping']);
  connection.rxEvents += 1;
  await clock.advance(2_000);
  expect(seen).not.toContain('silent');
});

test('a connection that stays silent after that is given up all the same', async () => {
  await clock.advance(3_900);
  stoodStillMs = 5_000;
  await clock.advance(2_300);
  expect(seen).toEqual(['ping', 'silent']);
});
