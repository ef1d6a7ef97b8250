import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { runProcess } from '#testkit/process.ts';
import { type TempDir, tempDir } from '#testkit/tmp.ts';
import { waitFor } from '#testkit/wait.ts';
import { run } from './program.ts';
import { isAlive, readNodeFile } from './state-dir.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const MANIFEST = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as {
  bin: Record<string, string>;
};
/** A Node without TypeScript, as an old one is. */
const OLD = ['--no-strip-types'];

describe('launchers', () => {
  const names = Object.keys(MANIFEST.bin).filter((name) => name !== 'orion-iscsi');

  test('there is one for each management command of the specification', () => {
    expect(names).toHaveLength(13);
  });

  test.each(names)('%s is the subcommand of the same name', async (name) => {
    const text = readFileSync(`${ROOT}bin/${name}`, 'utf8');
    const words = JSON.parse(/launch\.js'\)\((\[.*\])\)/.exec(text)![1]!.replaceAll("'", '"'));
    expect(`iscsi-${words.join('-')}`).toBe(name);
    const help: string[] = [];
    const streams = { out: (part: string) => void help.push(part), err: () => {} };
    expect(await run([...words, '--help'], streams)).toBe(0);
    expect(help.join('')).toContain(`Usage: orion-iscsi ${words.join(' ')}`);
  });

  test('none has syntax that an old Node cannot parse', () => {
    for (const name of ['launch.js', 'launch-here.js']) {
      const text = readFileSync(`${ROOT}bin/${name}`, 'utf8');
      expect(text).not.toMatch(/\?\.|\?\?|\bimport .* from\b|\basync\b|\bclass\b/);
    }
    expect(readFileSync(`${ROOT}bin/launch.js`, 'utf8')).not.toContain('import(');
  });

  test.each([
    ['the running Node', []],
    ['the pinned Node when the running one is too old', OLD],
  ])("work with %s: output and exit code are the program's", async (_name, flags) => {
    const args = [...flags, `${ROOT}bin/iscsi-target-add`, 'x'];
    const result = await runProcess({ command: process.execPath, args });
    expect(result.stderr).toContain('"target add" is not available yet');
    expect(result.code).toBe(69);
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'a program behind a launcher ends in order when that gets %s',
    async (signal) => {
      await using dir = tempDir('launch');
      // Not with the test kit's launcher: that one ends the whole group, and here the program must do it itself.
      const launcher = spawn(
        process.execPath,
        [...OLD, `${ROOT}bin/orion-iscsi`, 'up', '--embedded', '--config', idle(dir)],
        { stdio: 'ignore' },
      );
      const ended = once(launcher, 'exit');
      const nodeFile = dir.file('state/bus.json');
      const { pid } = await waitFor('the program', () => readNodeFile(dir.file('state')));
      expect(pid).not.toBe(launcher.pid);
      launcher.kill(signal);
      const [code] = (await ended) as [number | null];
      if (signal === 'SIGTERM') expect(code).toBe(0);
      await waitFor('the end of the program', () => !isAlive(pid) && !existsSync(nodeFile));
    },
  );
});

/** A node without volumes. */
function idle(dir: TempDir): string {
  const path = dir.file('idle.toml');
  const gateway = 'nbd_listen = []\nhttp_listen = "127.0.0.1:0"';
  writeFileSync(path, `[node]\nstate_dir = "${dir.path}/state"\n[gateway]\n${gateway}\n`);
  return path;
}
