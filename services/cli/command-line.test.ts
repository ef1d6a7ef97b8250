import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type TempDir, tempDir } from '#testkit/tmp.ts';
import { run } from './program.ts';

let temporary: TempDir;
beforeAll(() => {
  temporary = tempDir('cli');
});
afterAll(() => temporary.remove());

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

let files = 0;
function file(text: string): string {
  files += 1;
  const path = temporary.file(`config-${files}.toml`);
  writeFileSync(path, text);
  return path;
}

const idle = (): string => file(`[node]\nstate_dir = "${temporary.path}/idle"\n`);

describe('the command line', () => {
  test.each<[string, () => string[], number, string]>([
    [
      'a missing file',
      () => ['up', '--config', '/no/such.toml'],
      78,
      '/no/such.toml: there is no such file',
    ],
    [
      'an unknown key',
      () => ['up', '--config', file('[workers]\ncuont = 2\n')],
      78,
      ':2: workers.cuont: unknown key; did you mean "count"?',
    ],
    ['a file that is no TOML', () => ['up', '--config', file('workers: 2\n')], 78, '.toml:1:8: '],
    [
      'a bad override',
      () => ['status', '--set', 'workers.count=zero'],
      78,
      'flag: workers.count: is the text "zero"',
    ],
    ['an unknown command', () => ['statsu'], 2, '(Did you mean status?)'],
    ['an unknown option', () => ['status', '--jsno'], 2, '(Did you mean --json?)'],
    ['an argument too many', () => ['status', 'now'], 2, 'too many arguments'],
    ['no command', () => [], 2, 'Usage: orion-iscsi'],
    ['half a command', () => ['session'], 2, 'Usage: orion-iscsi session'],
    ['the status of nothing', () => ['status', '--config', idle()], 1, 'nothing runs on'],
    ['the sessions of nothing', () => ['session', 'info', '--config', idle()], 1, 'nothing runs'],
    [
      'the status of a bus that is not there',
      () => ['status', '--config', idle(), '--set', 'bus.url=nats://127.0.0.1:1'],
      1,
      'BUS_UNREACHABLE',
    ],
    [
      'a command of a later version',
      () => ['target', 'add', 'iqn.x', '--portal', 'y'],
      69,
      '"target add" is not available yet',
    ],
  ])('answers %s with one clear line and an exit code', async (_name, args, code, text) => {
    const result = await orion(...args());
    expect(result.stderr).toContain(text);
    expect(result.stderr).not.toMatch(/^\s+at /m);
    expect(result.stdout).toBe('');
    expect(result.code).toBe(code);
  });

  test('says of a bad configuration in JSON what is wrong', async () => {
    const path = file('[workers]\ncount = 0\n');
    const result = await orion('config', 'check', '--json', '--config', path);
    expect(result.code).toBe(78);
    expect(JSON.parse(result.stdout)).toEqual({
      ok: false,
      problems: [
        {
          where: `${path}:2`,
          path: 'workers.count',
          text: 'is the number 0; allowed: a whole number, 1 to 64',
        },
      ],
    });
  });

  test('says of a good configuration that it is', async () => {
    const path = idle();
    const result = await orion('config', 'check', '--config', path);
    expect(result).toEqual({
      code: 0,
      stdout: `${path} is good: 0 targets, 0 volumes\n`,
      stderr: '',
    });
  });

  test('shows every value with its origin, and which keys do nothing yet', async () => {
    const path = file('[workers]\ncount = 3\n');
    const result = await orion('config', 'show', '--config', path);
    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(new RegExp(`workers\\.count +3 +${path}:2`));
    expect(result.stdout).toMatch(/iscsi\.network_encryption +true +default +no effect yet/);
  });

  test('checks what a node needs, and fails when a portal cannot be reached', async () => {
    const path = file(
      [
        '[node]',
        `state_dir = "${temporary.path}/doctor"`,
        '[gateway]',
        'nbd_listen = []',
        'http_listen = "127.0.0.1:0"',
        '[[targets]]',
        'name = "iqn.2026-11.lab:a"',
        'portals = ["127.0.0.1:1"]',
      ].join('\n'),
    );
    const result = await orion('doctor', '--json', '--config', path, '--set', 'bus.embedded=true');
    expect(result.code).toBe(1);
    const findings = JSON.parse(result.stdout) as { check: string; verdict: string }[];
    const verdict = (check: string) => findings.find((f) => f.check === check)?.verdict;
    expect(verdict('configuration')).toBe('warn');
    expect(verdict('state directory')).toBe('ok');
    expect(verdict('bus')).toBe('ok');
    expect(verdict('portal 127.0.0.1:1')).toBe('fail');
  });

  test('has help for every command, with the options that all take', async () => {
    for (const command of ['demo', 'up', 'worker', 'status', 'doctor']) {
      const { code, stdout } = await orion(command, '--help');
      expect(code).toBe(0);
      expect(stdout).toMatch(/--config <file>[\s\S]*--set <key=value>[\s\S]*--json/);
    }
  });
});
