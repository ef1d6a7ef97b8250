import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type NatsServer, startNatsServer } from '#testkit/nats-server.ts';
import { type Orion, type OrionStatus, startOrion } from '#testkit/orion.ts';
import { freePort } from '#testkit/ports.ts';
import { check, type RunResult, runProcess } from '#testkit/process.ts';
import { describeWith, requires } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { type TempDir, tempDir } from '#testkit/tmp.ts';
import { pause, waitFor } from '#testkit/wait.ts';
import { StallMeter } from './stall-meter.ts';

/** A node without its bus, or without its addresses: a clear line at the start; I/O that goes on later. */

const ROOT = resolve(import.meta.dirname, '../..');
const NODE = join(ROOT, 'node_modules/.bin/node');
const LAUNCHER = join(ROOT, 'bin/orion-iscsi');
const RECOVERY_MS = 60_000;
/** Longest I/O of a client while the bus is away: nothing in its way may wait for the bus. */
const STALL_MS_MAX = 5_000;

describe('up does not start, and says why in one line,', () => {
  let dir: TempDir;

  afterEach(async () => {
    await waitFor('no process is left', async () => {
      const running = await check('ps', ['-eo', 'args']);
      return !running.includes(dir.path);
    });
    await dir.remove();
  });

  interface UpOptions {
    readonly nbd?: string;
    readonly http?: string;
    readonly bus?: string;
    readonly flags?: readonly string[];
    /** A command in front, and its environment. */
    readonly wrap?: readonly string[];
    readonly env?: Readonly<Record<string, string>>;
  }

  async function up(options: UpOptions): Promise<RunResult> {
    dir = tempDir('badbus');
    const file = dir.file('orion.toml');
    const nbd = options.nbd ?? `127.0.0.1:${await freePort()}`;
    const http = options.http ?? `127.0.0.1:${await freePort()}`;
    const bus = options.bus === undefined ? '' : `[bus]\nurl = "${options.bus}"`;
    writeFileSync(
      file,
      `[node]
name = "n1"
state_dir = "${dir.file('state')}"
${bus}
[gateway]
nbd_listen = ["${nbd}"]
http_listen = "${http}"
[[targets]]
name = "iqn.2026-11.test:away"
portals = ["127.0.0.1:${await freePort()}"]
[[volumes]]
name = "vol1"
target = "iqn.2026-11.test:away"
lun = 1
`,
    );
    const { flags = [], wrap = [], env = {} } = options;
    const line = [...wrap, NODE, LAUNCHER, 'up', ...flags, '--config', file];
    return runProcess({ command: line[0]!, args: line.slice(1), env, timeoutMs: RECOVERY_MS });
  }

  /** What is not a line of the log. */
  function told({ code, stdout, stderr }: RunResult): string {
    expect(code).toBe(1);
    expect(stdout).toBe('');
    const lines = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
    expect(lines).toHaveLength(1);
    return lines[0]!;
  }

  async function taken<T>(run: (address: string) => Promise<T>): Promise<T> {
    const holder = net.createServer().listen(0, '127.0.0.1');
    await new Promise((listening) => holder.once('listening', listening));
    try {
      return await run(`127.0.0.1:${(holder.address() as net.AddressInfo).port}`);
    } finally {
      holder.close();
    }
  }

  test('when nats-server is not installed: names the package and the key', async (context) => {
    // Servers are found in /usr/sbin even when it is not on PATH: an empty directory is put in its place.
    const hide = ['-rm', 'sh', '-c', 'mount -t tmpfs none /usr/sbin && exec "$@"', 'sh'];
    const probe = await runProcess({ command: 'unshare', args: [...hide, 'true'] });
    if (probe.code !== 0) context.skip(`no mount namespace: ${probe.stderr.trim()}`);
    const line = told(await up({ wrap: ['unshare', ...hide], env: { PATH: '/usr/bin:/bin' } }));
    expect(line).toMatch(/BUS_UNREACHABLE: nats-server is not on PATH/);
    expect(line).toContain('Debian package nats-server');
    expect(line).toContain('bus.url');
  });

  test('when nobody listens on bus.url', async () => {
    const bus = `nats://127.0.0.1:${await freePort()}`;
    const line = told(await up({ bus }));
    expect(line).toContain('BUS_UNREACHABLE');
    expect(line).toContain(bus);
    expect(line).toContain('bus.url');
  });

  describe.each([
    ['in one process', ['--embedded']],
    ['as processes', []],
  ])('%s,', (_, flags) => {
    test('when the address of nbd_listen is in use', async (context) => {
      if (flags.length === 0) requires(context, 'nats-server');
      await taken(async (nbd) => {
        const line = told(await up({ nbd, flags }));
        expect(line).toContain(`CLI_ADDRESS: cannot listen on ${nbd}: the address is in use`);
      });
    });

    test('when the address of http_listen is in use', async (context) => {
      if (flags.length === 0) requires(context, 'nats-server');
      await taken(async (http) => {
        const line = told(await up({ http, flags }));
        expect(line).toContain(`HTTP_LISTEN_FAILED: the HTTP address ${http}`);
        expect(line).toContain('address already in use');
      });
    });
  });
});

describeWith(['tgtd', 'tgtadm', 'nats-server'], 'I/O goes on', () => {
  let target: Tgtd;
  let orion: Orion;

  beforeAll(async () => {
    target = await startTgtd({ portals: 2 });
  });
  afterAll(() => target?.stop());
  afterEach(() => orion.stop());

  const start = async (extra = ''): Promise<void> => {
    const { portals, targetName } = target;
    orion = await startOrion({ portals, targetName, extra });
    await bothPaths();
  };

  /** A process that is busy is left out of a status: only one in which all are says what is so. */
  function bothPaths(): Promise<OrionStatus> {
    return waitFor(
      'both paths, and all processes',
      async () => {
        const status = await orion.status();
        const ready = status.paths.filter(({ state }) => state === 'ready').length === 2;
        return ready && status.processes.length === 4 ? status : null;
      },
      RECOVERY_MS,
    );
  }

  async function unnoticed(breakIt: () => Promise<void>): Promise<void> {
    const { epoch } = (await bothPaths()).volumes[0]!;
    const meter = await StallMeter.start(orion.socket, 0);
    await pause(500);
    await breakIt();
    await bothPaths();
    const stall = await meter.stop();
    expect(stall.errors).toEqual([]);
    expect(stall.longestMs).toBeLessThan(STALL_MS_MAX);
    const status = await bothPaths();
    // The owner was not taken for dead.
    expect(status.volumes[0]).toMatchObject({ state: 'active', epoch });
  }

  async function readiness(): Promise<{ status: number; text: string }> {
    const response = await fetch(new URL('/readyz?verbose', orion.http));
    return { status: response.status, text: await response.text() };
  }

  test('while nats-server hangs for 10 s', async () => {
    await start();
    await unnoticed(async () => {
      const pid = orion.natsPid();
      process.kill(pid, 'SIGSTOP');
      await pause(10_000);
      process.kill(pid, 'SIGCONT');
    });
  });

  test('while the NATS server of bus.url is away for 15 s; /readyz says so, and the log', async () => {
    const nats: NatsServer = await startNatsServer();
    try {
      await start(`[bus]\nurl = "${nats.url}"`);
      await unnoticed(async () => {
        await nats.kill('SIGKILL');
        await waitFor('/readyz', async () => (await readiness()).status === 503);
        expect((await readiness()).text).toContain('"name":"bus","ok":false');
        await pause(15_000);
        await nats.restart();
        await waitFor('/readyz', async () => (await readiness()).status === 200);
        for (const id of ['n1-c0', 'n1-w0', 'n1-w1', 'n1-g0']) {
          await waitFor(`both lines in the log of ${id}`, () => {
            const own = orion.process
              .stderr()
              .split('\n')
              .filter((line) => line.includes(`"id":"${id}"`));
            const says = (text: string): boolean => own.some((line) => line.includes(text));
            return says('the bus is away: I/O goes on') && says('the bus is back');
          });
        }
      });
    } finally {
      await nats.stop();
    }
  });
});
