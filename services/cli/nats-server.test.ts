import { statSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '#core/clock.ts';
import { systemRng } from '#core/rng.ts';
import { startProcess } from '#testkit/process.ts';
import { describeWith } from '#testkit/requires.ts';
import { type TempDir, tempDir } from '#testkit/tmp.ts';
import { waitFor } from '#testkit/wait.ts';
import { connectBus } from './buses.ts';
import { greets, type NatsPlan, planNats, spawnNats, untilNatsGreets } from './nats-server.ts';
import { isAlive } from './state-dir.ts';
import type { ExitStatus } from './supervised.ts';

const quiet = { debug: () => {}, warn: () => {}, error: () => {} };
const never = new AbortController().signal;
const bus = (url: string) => connectBus({ url, name: 'test', clock: systemClock, rng: systemRng });

let dir: TempDir;
beforeAll(() => {
  dir = tempDir('nats');
});
afterAll(() => dir.remove());

test('a missing nats-server is told with its package and the key that stands in for it', async () => {
  const planned = planNats(dir.path, 'n1', systemRng, null);
  await expect(planned).rejects.toMatchObject({
    code: 'BUS_UNREACHABLE',
    message: 'nats-server is not on PATH',
    hint: expect.stringMatching(/package nats-server.*bus\.url/),
  });
});

describeWith(['nats-server'], 'our own nats-server', () => {
  let plan: NatsPlan;
  beforeAll(async () => {
    plan = await planNats(dir.path, 'n1', systemRng);
  });

  test('lets in who has the secret of this run, and nobody else', async () => {
    const child = spawnNats(plan, systemClock, quiet);
    const ended = new Promise<ExitStatus>((resolve) => child.onExit(resolve));
    await untilNatsGreets(plan, systemClock, never);
    const client = await bus(plan.url);
    const records = await client.keyValue('k');
    await records.create('key', 1);
    await client.close();
    await expect(bus(`nats://127.0.0.1:${plan.port}`)).rejects.toMatchObject({
      code: 'BUS_UNREACHABLE',
    });
    expect(statSync(plan.configFile).mode & 0o777).toBe(0o600);
    child.drain();
    expect((await ended).signal).toBeNull();
    expect(await greets(plan.port)).toBe(false);
  });

  test('keeps what it stored when it is killed and started again', async () => {
    const child = spawnNats(plan, systemClock, quiet);
    const ended = new Promise<ExitStatus>((resolve) => child.onExit(resolve));
    await untilNatsGreets(plan, systemClock, never);
    const client = await bus(plan.url);
    expect((await (await client.keyValue('k')).get('key'))?.value).toBe(1);
    await client.close();
    child.kill('SIGKILL');
    expect((await ended).signal).toBe('SIGKILL');
  });

  test('ends with its supervisor, even when that is killed', async () => {
    const module = new URL('./nats-server.ts', import.meta.url).href;
    const clock = new URL('../../libs/core/clock.ts', import.meta.url).href;
    await using supervisor = await startProcess({
      command: process.execPath,
      args: [
        '--input-type=module',
        '--eval',
        `const { spawnNats } = await import(${JSON.stringify(module)});
         const { systemClock } = await import(${JSON.stringify(clock)});
         const log = { debug() {}, warn() {}, error() {} };
         console.log('nats', spawnNats(${JSON.stringify(plan)}, systemClock, log).pid);
         setInterval(() => {}, 1000);`,
      ],
    });
    const [, pid] = await supervisor.untilOutput(/nats (\d+)/);
    await waitFor('nats-server', () => greets(plan.port));
    supervisor.kill('SIGKILL');
    await waitFor('the end of nats-server', () => !isAlive(Number(pid)));
  });
});
