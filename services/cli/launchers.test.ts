import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { runProcess, startProcess } from '#testkit/process.ts';
import { waitFor } from '#testkit/wait.ts';
import { run } from './program.ts';

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
    let help = '';
    const streams = { out: (part: string) => void (help += part), err: () => {} };
    expect(await run([...words, '--help'], streams)).toBe(0);
    expect(help).toContain(`Usage: orion-iscsi ${words.join(' ')}`);
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
    'a program behind a launcher ends when that gets %s',
    async (signal) => {
      await using launcher = await startProcess({
        command: process.execPath,
        args: [...OLD, `${ROOT}bin/launch-probe.cjs`],
      });
      const [, pid] = await launcher.untilOutput(/program (\d+)/);
      launcher.kill(signal);
      await launcher.exited;
      await waitFor('the end of the program', () => !isAlive(Number(pid)));
    },
  );
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
