import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { FakeTarget } from '#iscsi/testing/fake-target.ts';
import { run } from './program.ts';

/** Clears the screen and renames the window, where it reaches a terminal. */
const ESCAPES = '\x1b[2J\x1b]0;owned\x07';
const NAME = 'iqn.2026-11.lab:disk1';

let server: Server;
afterEach(() => {
  server.close();
});

/** A target on a port of this machine that says what we tell it; returns its portal. */
async function listen(setUp: (target: FakeTarget) => void): Promise<string> {
  server = createServer(async (socket) => {
    const target = new FakeTarget();
    setUp(target);
    const into = Buffer.alloc(64 * 1024);
    const stream = await target.connect(
      { kind: 'tcp', host: 'here', port: 0 },
      {
        buffer: () => into,
        data: (bytes, length) => void socket.write(Buffer.from(bytes.subarray(0, length))),
        closed: () => socket.destroy(),
      },
    );
    socket.on('data', (bytes: Buffer) => stream.writev([bytes], () => {}));
    socket.on('error', () => {}); // the other side has heard enough
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function orion(...args: string[]) {
  const told = { stdout: '', stderr: '' };
  const code = await run(args, {
    out: (text) => {
      told.stdout += text;
    },
    err: (text) => {
      told.stderr += text;
    },
  });
  return { code, ...told };
}

const CONTROL = /(?!\n)\p{Cc}/u;

test('a value that a target makes up moves no cursor in discover', async () => {
  const portal = await listen((target) => {
    target.wants = { MaxRecvDataSegmentLength: ESCAPES as never };
  });
  const { code, stdout, stderr } = await orion('discover', portal);
  expect(code).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toContain('MaxRecvDataSegmentLength=?[2J?]0;owned?');
  expect(stderr).not.toMatch(CONTROL);
});

test('a value that a target makes up moves no cursor in login-test', async () => {
  const portal = await listen((target) => {
    target.answers = { MaxBurstLength: ESCAPES };
  });
  const { code, stdout, stderr } = await orion('login-test', NAME, portal);
  expect(code).toBe(1);
  expect(stdout).toContain('MaxBurstLength=?[2J?]0;owned?');
  expect(stdout + stderr).not.toMatch(CONTROL);
});

test('a value that a target makes up stands in no JSON as it is', async () => {
  const portal = await listen((target) => {
    target.answers = { MaxBurstLength: ESCAPES };
  });
  const { stdout } = await orion('login-test', NAME, portal, '--json');
  const [story] = JSON.parse(stdout).portals;
  expect(story.error.message).toMatch(/: MaxBurstLength=\?\[2J/);
});
