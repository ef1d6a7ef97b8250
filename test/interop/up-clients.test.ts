import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { seededRng } from '#core/rng.ts';
import { runFio } from '#testkit/fio.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { check } from '#testkit/process.ts';
import { describeWith, requires } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { pathsReady } from './up-load.ts';

/** Every client of the README against `orion-iscsi up` on a real target with two portals. */

const MIB = 1024 * 1024;
const SIZE_BYTES = 32 * MIB;

let target: Tgtd;
let orion: Orion;

function startNode(embedded: boolean): void {
  beforeAll(async () => {
    target = await startTgtd({ portals: 2, luns: [{ sizeBytes: SIZE_BYTES }] });
    // Without it tgt does not take UNMAP.
    const unit = ['--mode', 'logicalunit', '--tid', '1', '--lun', '1'];
    await target.tgtadm('--op', 'update', ...unit, '--params', 'thin_provisioning=1');
    const { portals, targetName } = target;
    orion = await startOrion({ portals, targetName, embedded });
    // A worker that started late gets its share some seconds after that.
    await pathsReady(orion, 2);
  });

  afterAll(async () => {
    const exit = await orion?.stop();
    await target?.stop();
    expect(exit).toEqual({ code: 0, signal: null });
  });
}

function randomFile(name: string, bytes: number, seed: number): string {
  const data = Buffer.alloc(bytes);
  const rng = seededRng(seed);
  // A tenth of it is data, in pieces: sparse copies have something to find.
  for (let at = 0; at < bytes; at += 10 * 65_536) rng.fill(data.subarray(at, at + 65_536));
  const path = orion.dir.file(name);
  writeFileSync(path, data);
  return path;
}

function qemuIo(uri: string, ...steps: string[]): Promise<string> {
  return check('qemu-io', ['-f', 'raw', ...steps.flatMap((step) => ['-c', step]), uri]);
}

function curl(...args: string[]): Promise<string> {
  return check('curl', ['-sS', '--fail-with-body', '--max-time', '20', ...args]);
}

/** The root of the HTTP API, from the address of the volume. */
function base(): string {
  return new URL(orion.http).origin;
}

/** What has to work in every mode. */
function coreClients(): void {
  test('nbdinfo shows size, name and what the volume can, over both kinds of socket', async (context) => {
    requires(context, 'nbdinfo');
    for (const uri of [orion.nbdUnix, orion.nbdTcp]) {
      const { exports } = JSON.parse(await check('nbdinfo', ['--json', uri]));
      expect(exports[0]).toMatchObject({
        'export-name': 'vol1',
        'export-size': SIZE_BYTES,
        is_read_only: false,
        can_flush: true,
        can_trim: true,
        can_zero: true,
        can_multi_conn: true,
      });
      expect((await check('nbdinfo', ['--size', uri])).trim()).toBe(String(SIZE_BYTES));
    }
    const listed = await check('nbdinfo', ['--list', '--json', orion.nbdTcp.replace(/vol1$/, '')]);
    expect(JSON.parse(listed).exports[0]['export-name']).toBe('vol1');
  });

  test('nbdcopy brings a file to the target and back unchanged', async (context) => {
    requires(context, 'nbdcopy');
    const source = randomFile('in.img', SIZE_BYTES, 1);
    const copy = orion.dir.file('out.img');
    await check('nbdcopy', ['--flush', source, orion.nbdUnix]);
    await check('nbdcopy', [orion.nbdTcp, copy]);
    expect(statSync(copy).size).toBe(SIZE_BYTES);
    expect(readFileSync(copy).equals(readFileSync(source))).toBe(true);
    // And it is on the target, not in a cache of ours.
    expect(readFileSync(target.backingFile(1)).equals(readFileSync(source))).toBe(true);
  });

  test('qemu-io writes, reads, discards and zeroes, on block boundaries and off', async (context) => {
    requires(context, 'qemu-io');
    const output = await qemuIo(
      orion.nbdUnix,
      ...['write -P 0x5a 0 2M', 'read -P 0x5a 0 2M'],
      ...['write -f -P 0x11 1000 3000', 'read -P 0x11 1000 3000', 'read -P 0x5a 0 1000'],
      ...['write -z 4096 65536', 'read -P 0 4096 65536', 'read -P 0x5a 69632 4096'],
      ...['write -z -u 128k 64k', 'read -P 0 128k 64k'],
      ...['discard 256k 256k', 'read -P 0 256k 256k', 'read -P 0x5a 512k 4k', 'flush'],
    );
    expect(output).not.toMatch(/verification failed|error/i);
  });

  test('fio finds every byte that it wrote, 4 KiB at random and 256 KiB in a row', async (context) => {
    requires(context, 'fio');
    for (const [rw, blockBytes] of [
      ['randwrite', 4096],
      ['write', 256 * 1024],
    ] as const) {
      const result = await runFio({
        uri: rw === 'write' ? orion.nbdTcp : orion.nbdUnix,
        ...{ rw, blockBytes, depth: 16, sizeBytes: 8 * MIB, verify: true },
      });
      expect(result.totalErrors).toBe(0);
      expect(result.read.ios).toBeGreaterThan(0);
    }
  });

  test('curl reads over HTTP what NBD wrote', async (context) => {
    requires(context, 'qemu-io', 'curl');
    await qemuIo(orion.nbdUnix, 'write -P 0xa7 0 64k');
    const file = orion.dir.file('http-read');
    await curl('-r', '0-4095', '-o', file, `${orion.http}/data`);
    expect(readFileSync(file).equals(Buffer.alloc(4096, 0xa7))).toBe(true);
  });

  test('NBD reads what curl wrote with PUT and made durable with a flush', async (context) => {
    requires(context, 'qemu-io', 'curl');
    const file = orion.dir.file('http-write');
    writeFileSync(file, Buffer.alloc(8192, 0x3c));
    const range = `Content-Range: bytes 65536-73727/${SIZE_BYTES}`;
    await curl('-T', file, '-H', range, `${orion.http}/data`);
    await curl('-X', 'POST', `${orion.http}/flush`);
    await qemuIo(orion.nbdTcp, 'read -P 0x3c 64k 8k');
  });

  test('/metrics counts the I/O and shows the state of each path', async (context) => {
    requires(context, 'curl', 'qemu-io');
    await qemuIo(orion.nbdUnix, 'read 0 4k');
    const metrics = await curl(`${base()}/metrics`);
    const value = (pattern: RegExp): number => Number(pattern.exec(metrics)?.[1] ?? Number.NaN);
    expect(value(/^orion_volume_read_ops_total\{volume="vol1"\} (\d+)$/m)).toBeGreaterThan(0);
    for (const path of ['0', '1']) {
      const line = `orion_path_state\\{volume="vol1",path="${path}",state="ready"\\} (\\d)`;
      expect(value(new RegExp(line, 'm'))).toBe(1);
    }
  });

  test('status --json shows processes, sessions, paths and volumes as they are', async (context) => {
    requires(context, 'qemu-io');
    await qemuIo(orion.nbdUnix, 'read 0 4k');
    const status = await orion.status();
    expect(status.node).toBe('n1');
    const roles = status.processes.map(({ role }) => role);
    expect(roles).toEqual(['coordinator', 'worker', 'worker', 'gateway']);
    for (const process of status.processes) {
      expect(orion.pids()).toContain(process.pid);
      expect(process.uptimeMs).toBeGreaterThan(0);
    }
    expect(status.sessions.map(({ portal }) => portal).sort()).toEqual([...target.portals].sort());
    for (const session of status.sessions) {
      expect(session).toMatchObject({ volume: 'vol1', target: target.targetName, state: 'open' });
      expect(session.isid).toMatch(/^[0-9a-f]{12}$/);
      expect(session.tsih).toBeGreaterThan(0);
      expect(session.commands).toBeGreaterThan(0);
    }
    expect(status.paths.map(({ portal }) => portal).sort()).toEqual([...target.portals].sort());
    expect(new Set(status.paths.map(({ worker }) => worker)).size).toBe(2);
    for (const path of status.paths) {
      expect(path).toMatchObject({ volume: 'vol1', state: 'ready', errors: 0, lastError: '' });
    }
    expect(status.paths.reduce((sum, { reads }) => sum + reads, 0)).toBeGreaterThan(0);
    expect(status.volumes).toHaveLength(1);
    expect(status.volumes[0]).toMatchObject({
      ...{ name: 'vol1', target: target.targetName, state: 'active', sizeBytes: SIZE_BYTES },
      ...{ blockBytes: 512, owner: 'n1-g0', pathsReady: 2, pathsTotal: 2, failovers: 0 },
    });
  });
}

const NEEDED = ['tgtd', 'tgtadm'] as const;

describeWith([...NEEDED, 'nats-server'], 'a node of processes on tgtd', () => {
  startNode(false);
  coreClients();

  test('qemu-img sees the volume, converts onto it and compares', async (context) => {
    requires(context, 'qemu-img');
    const info = JSON.parse(await check('qemu-img', ['info', '--output=json', orion.nbdTcp]));
    expect(info['virtual-size']).toBe(SIZE_BYTES);
    const source = randomFile('convert.img', SIZE_BYTES, 2);
    const raw = ['-f', 'raw', '-O', 'raw'];
    await check('qemu-img', ['convert', '-n', ...raw, source, orion.nbdUnix]);
    const compare = ['compare', '-f', 'raw', '-F', 'raw', source, orion.nbdTcp];
    expect(await check('qemu-img', compare)).toContain('identical');
  });

  test('nbd-client lists the volume', async (context) => {
    requires(context, 'nbd-client');
    const { port } = new URL(orion.nbdTcp);
    expect(await check('nbd-client', ['-l', '127.0.0.1', port])).toContain('vol1');
  });

  test('/livez, /readyz and the API document answer', async (context) => {
    requires(context, 'curl');
    expect(await curl(`${base()}/livez`)).toBe('ok\n');
    const ready = JSON.parse(await curl(`${base()}/readyz?verbose`));
    expect(ready.ready).toBe(true);
    expect(ready.checks).toContainEqual({ name: 'bus', ok: true, detail: 'connected' });
    expect(ready.checks).toContainEqual({ name: 'workers', ok: true, detail: '2 alive' });
    const document = JSON.parse(await curl(`${base()}/openapi.json`));
    expect(document.openapi).toMatch(/^3\./);
    expect(Object.keys(document.paths)).toContain('/v1/volumes/{volume}/data');
  });

  test('status without --json is a table for people', async () => {
    const { code, stdout } = await orion.cli('status');
    expect(code).toBe(0);
    expect(stdout).toContain('node n1, cluster orion');
    for (const word of ['n1-c0', 'n1-w0', 'n1-w1', 'n1-g0', 'leader', 'vol1', '2 of 2']) {
      expect(stdout).toContain(word);
    }
    for (const portal of target.portals) expect(stdout).toContain(portal);
    expect(stdout).toContain('32 MiB');
  });

  describe('the management commands', () => {
    test.for([
      ['session', 'info', 'ISID'],
      ['connection', 'info', 'CID'],
      ['target', 'info', 'TARGET'],
      ['multipath', 'info', 'policy latency'],
      ['performance', 'stats', 'LATENCY'],
      ['network', 'stats', 'DATA RECEIVED'],
    ] as const)('%s %s shows a table, and the same as JSON', async ([group, verb, word]) => {
      const text = await orion.cli(group, verb);
      expect(text.code).toBe(0);
      expect(text.stdout).toContain(word);
      const json = await orion.cli(group, verb, '--json');
      expect(json.code).toBe(0);
      const shown = JSON.stringify(JSON.parse(json.stdout));
      for (const portal of target.portals) {
        expect(text.stdout).toContain(portal);
        expect(shown).toContain(portal);
      }
    });

    test('one that this version does not have says so in one line, and exits with 69', async () => {
      const { code, stdout, stderr } = await orion.cli('session', 'remove');
      expect(code).toBe(69);
      expect(stdout).toBe('');
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect(stderr).toMatch(/CLI_NOT_YET: "session remove" is not available yet/);
    });
  });
});

describeWith(NEEDED, 'a node in one process on tgtd', () => {
  startNode(true);
  coreClients();
});
