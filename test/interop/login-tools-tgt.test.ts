import { chmodSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startOrion } from '#testkit/orion.ts';
import { runProcess } from '#testkit/process.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { type TempDir, tempDir } from '#testkit/tmp.ts';

/** What somebody does first with a target that is new to them: discover, try a login, and find out why it fails. */

const NODE = 'node_modules/.bin/node';
const OURS = 'alice-has-a-secret';
const THEIRS = 'tgt-has-another-one';
const WRONG = 'nobody-has-this-one';

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function cli(...args: string[]): Promise<Ran> {
  return runProcess({ command: NODE, args: ['bin/orion-iscsi', ...args] });
}

describeWith(['tgtd'], 'discover and login-test on tgtd', () => {
  let tgtd: Tgtd;
  let dir: TempDir;
  const said: string[] = [];

  beforeAll(async () => {
    dir = tempDir('login-tools');
    tgtd = await startTgtd({
      luns: [{ sizeBytes: 1 << 26 }, { sizeBytes: 1 << 30, blockBytes: 4096 }],
      chap: { user: 'alice', password: OURS },
      chapOutgoing: { user: 'storage', password: THEIRS },
    });
  });
  afterAll(async () => {
    await tgtd?.stop();
    await dir?.remove();
  });

  function secret(name: string, text: string): string {
    const path = dir.file(name);
    writeFileSync(path, text);
    chmodSync(path, 0o600);
    return path;
  }

  function config(own: string, theirs: string): string {
    const path = dir.file(`${own}-${theirs}.toml`);
    writeFileSync(
      path,
      `[[targets]]
name = "${tgtd.targetName}"
portals = ["${tgtd.portals[0]}"]
[targets.auth]
user = "alice"
secret_file = "${secret('own', own)}"
mutual_user = "storage"
mutual_secret_file = "${secret('theirs', theirs)}"
`,
    );
    return path;
  }

  async function tell(...args: string[]): Promise<Ran> {
    const ran = await cli(...args);
    said.push(ran.stdout, ran.stderr);
    return ran;
  }

  test('discovery shows targets, groups and portals, for people and as JSON', async () => {
    const [portal] = tgtd.portals;
    const people = await tell('discover', portal!);
    expect(people.code).toBe(0);
    expect(people.stdout).toMatch(/^TARGET +GROUP +PORTAL\niqn\.2026-11\.lab:disk1 +1 +127/);
    expect(people.stdout).toContain(`login-test ${tgtd.targetName} ${portal}`);
    const json = await tell('discover', portal!, '--json', '--target', tgtd.targetName);
    expect(JSON.parse(json.stdout)).toMatchObject({
      portal,
      targets: [{ name: tgtd.targetName, groups: [{ tpgt: 1, portals: [portal] }] }],
    });
    const mapped = await tell('discover', portal!, '--map', `${portal}=192.0.2.7`);
    expect(mapped.stdout).toMatch(/ 1 +192\.0\.2\.7:3260/);
    const map = `address_map.0.from=${portal}`;
    const set = await tell(
      'discover',
      portal!,
      '--set',
      map,
      '--set',
      'address_map.0.to=192.0.2.8',
    );
    expect(set.stdout).toContain('192.0.2.8:3260');
    const none = await tell('discover', portal!, '--target', 'iqn.2026-11.lab:other');
    expect(none.stdout).toMatch(/no targets for iqn/);
  });

  test.each([
    ['a closed port', ['discover', '127.0.0.1:1'], 1, /ECONNREFUSED.*Check the address/],
    ['no portal', ['discover', 'not a portal'], 2, /is no portal.*192\.0\.2\.1/],
    ['no mapping', ['discover', '127.0.0.1', '--map', 'a'], 2, /FROM=TO/],
    ['no target name', ['login-test', 'disk1', '127.0.0.1'], 2, /begins with iqn/],
    ['no portals at all', ['login-test', 'iqn.2026-11.lab:x'], 2, /portals have to be given/],
  ] as const)('%s is told in one line', async (_, args, code, text) => {
    const ran = await tell(...args);
    expect(ran.code).toBe(code);
    expect(ran.stderr).toMatch(text);
    expect(ran.stderr.trim().split('\n')).toHaveLength(1);
  });

  test('a login is told step by step, with every key, and with what stands behind it', async () => {
    const file = config(OURS, THEIRS);
    const { code, stdout } = await tell('login-test', tgtd.targetName, '--config', file);
    expect(code).toBe(0);
    expect(stdout).toMatch(/security +-> InitiatorName=.* AuthMethod=CHAP\n/);
    expect(stdout).toMatch(/identity +CHAP with md5 as "alice"; the target has proven .*"storage"/);
    expect(stdout).toMatch(/InitialR2T +No +Yes +Yes +Yes where either side says Yes +§13\.10/);
    expect(stdout).toMatch(/TaskReporting .*RFC3720 +NotUnderstood +RFC3720 .*§13\.23/);
    expect(stdout).toMatch(/^ +1 +disk +IET VIRTUAL-DISK.* 64 MiB +512 +ready$/m);
    expect(stdout).toMatch(/^ +2 +disk .* 1 GiB +4096 +ready$/m);
    const json = await tell('login-test', tgtd.targetName, '--config', file, '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({
      ok: true,
      portals: [{ ok: true, error: null, luns: [{ lun: '0' }, { lun: '1' }, { lun: '2' }] }],
    });
  });

  test.each<[string, () => string[], RegExp[]]>([
    [
      'no authentication',
      () => [tgtd.targetName, tgtd.portals[0]!],
      [/status 0201 authentication failure/, /needs auth in its \[\[targets\]\] table/],
    ],
    [
      'a wrong secret',
      () => [tgtd.targetName, '--config', config(WRONG, THEIRS)],
      [/CHAP_N=alice/, /status 0201 authentication failure/, /secrets on both sides/],
    ],
    [
      'a target that does not know its secret',
      () => [tgtd.targetName, '--config', config(OURS, WRONG)],
      [/does not know the secret/, /outgoing or mutual/],
    ],
    [
      'a wrong name',
      () => ['iqn.2026-11.lab:disk7', tgtd.portals[0]!],
      [/status 0203 target not found/, /orion-iscsi discover PORTAL/],
    ],
    [
      'a closed port',
      () => [tgtd.targetName, '127.0.0.1:1'],
      [/FAILED +no connection/, /Check the address/],
    ],
  ])('%s is told with the step, the status and what to do', async (_, args, texts) => {
    const { code, stdout, stderr } = await tell('login-test', ...args());
    expect(code).toBe(1);
    for (const text of texts) expect(stdout).toMatch(text);
    expect(stderr).toMatch(/1 of 1 portals failed/);
  });

  test('no secret is in anything that is said, in any form', async () => {
    await using orion = await startOrion({
      portals: tgtd.portals,
      targetName: tgtd.targetName,
      target: `auth = { user = "alice", secret_file = "${secret('own', OURS)}", mutual_user = "storage", mutual_secret_env = "THEIR_SECRET" }`,
      extra: '[telemetry]\nlog_level = "trace"\nsample_ratio = 1',
      env: { THEIR_SECRET: THEIRS },
    });
    for (const args of [
      ['status', '--json'],
      ['config', 'show', '--json'],
      ['session', 'info', '--json'],
      ['doctor', '--json'],
    ]) {
      const ran = await orion.cli(...args);
      said.push(ran.stdout, ran.stderr);
    }
    said.push(await (await fetch(new URL('/metrics', orion.http))).text());
    said.push((await runProcess({ command: 'ps', args: ['-eo', 'args'] })).stdout);
    await orion.stop();
    said.push(orion.process.stdout(), orion.process.stderr());
    expect(orion.process.stderr()).toContain('logged in');
    for (const text of [OURS, THEIRS, WRONG]) {
      const bytes = Buffer.from(text);
      for (const form of [text, bytes.toString('hex'), bytes.toString('base64')]) {
        expect(said.some((one) => one.toLowerCase().includes(form.toLowerCase()))).toBe(false);
      }
    }
  });
});
