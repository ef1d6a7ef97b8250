import net from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type TempDir, tempDir } from '#testkit/tmp.ts';
import { waitFor } from '#testkit/wait.ts';
import type { Listener } from '#wire/network.ts';
import { askControl, serveControl } from './control.ts';

describe('the control socket', () => {
  let dir: TempDir;
  let path: string;
  let server: Listener;
  let status: () => Promise<unknown>;

  beforeEach(async () => {
    dir = tempDir('control');
    path = dir.file('control.sock');
    status = async () => [{ role: 'worker' }];
    server = await serveControl(path, {
      status: () => status(),
      echo: async (request) => request,
    });
  });
  afterEach(async () => {
    await server.close();
    await dir.remove();
  });

  function raw(bytes: string | Buffer): Promise<string> {
    return new Promise((resolve, reject) => {
      let got = '';
      const socket = net.connect({ path }, () => socket.write(bytes));
      socket.on('data', (chunk) => {
        got += chunk;
      });
      socket.on('close', () => resolve(got));
      socket.on('error', reject);
    });
  }

  test('answers with the status', async () => {
    expect(await askControl(path, 'status')).toEqual([{ role: 'worker' }]);
  });

  test('hands on what a request holds', async () => {
    expect(await askControl(path, 'echo', { volume: 'vol1' })).toEqual({ volume: 'vol1' });
  });

  test('carries an answer of many packets', async () => {
    const long = 'x'.repeat(3_000_000);
    status = async () => long;
    expect(await askControl(path, 'status')).toBe(long);
  });

  test('answers with the reason when it cannot', async () => {
    status = async () => {
      throw new Error('no idea');
    };
    await expect(askControl(path, 'status')).rejects.toThrow(/no idea/);
    await expect(askControl(path, 'dance')).rejects.toThrow(/unknown request/);
  });

  test.each([
    ['no JSON', 'hello\n', 'unknown request'],
    ['null', 'null\n', 'unknown request'],
    ['a line without end', 'x'.repeat(5000), 'too long'],
  ])('survives %s', async (_name, bytes, reason) => {
    expect(await raw(bytes)).toContain(reason);
    expect(await askControl(path, 'status')).toEqual([{ role: 'worker' }]);
  });

  test('refuses more connections than it has room for, and serves again when some are gone', async () => {
    const held = Array.from({ length: 32 }, () => net.connect({ path }));
    await Promise.all(
      held.map((socket) => new Promise((resolve) => socket.once('connect', resolve))),
    );
    await expect(askControl(path, 'status')).rejects.toThrow(/hung up/);
    await Promise.all(
      held.map((socket) => {
        socket.destroy();
        return new Promise((resolve) => socket.once('close', resolve));
      }),
    );
    await waitFor('an answer', () => askControl(path, 'status'));
  });

  test('that is not there is told as nothing running', async () => {
    await expect(askControl(dir.file('none.sock'), 'status')).rejects.toMatchObject({
      code: 'CLI_NOT_RUNNING',
    });
  });
});
