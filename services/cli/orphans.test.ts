import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { systemClock } from '#core/clock.ts';
import { tempDir } from '#testkit/tmp.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { untilOrphansEnd } from './orphans.ts';
import { isAlive, writeNodeFile } from './state-dir.ts';

function nodeFile(stateDir: string, pids: number[]) {
  const processes = pids.map((pid) => ({ role: 'worker', id: 'n1-w0', pid, restarts: 0 }));
  const pid = 2 ** 22 + 1; // of no process
  writeNodeFile(stateDir, { v: 1, mode: 'processes', cluster: 'c', pid, url: '', processes });
}

async function sleeper(argument: string) {
  const child = spawn(process.execPath, ['--eval', 'setInterval(() => {}, 1000)', argument]);
  await once(child, 'spawn');
  return { child, pid: child.pid!, ended: once(child, 'exit') };
}

test('a killed "up" leaves processes that are waited for, and killed when they hang', async () => {
  await using dir = tempDir('orphans');
  const hanging = await sleeper(`${dir.path}/effective.toml`);
  const stranger = await sleeper('/somewhere/else.toml');
  nodeFile(dir.path, [hanging.pid, stranger.pid, 0]);
  const clock = new VirtualClock();
  const told: string[] = [];
  const log = { warn: (_fields: object, text: string) => told.push(text) };
  const done = untilOrphansEnd(dir.path, clock, log);
  await clock.advance(19_000);
  expect(isAlive(hanging.pid)).toBe(true);
  await clock.advance(2000);
  await done;
  expect((await hanging.ended)[1]).toBe('SIGKILL');
  expect(isAlive(stranger.pid)).toBe(true);
  stranger.child.kill('SIGKILL');
  await stranger.ended;
  expect(told).toHaveLength(2);
});

test('nothing is waited for where nothing was left', async () => {
  await using dir = tempDir('orphans');
  await untilOrphansEnd(dir.path, systemClock, { warn: () => expect.unreachable() });
});
