import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { errorText, type OrionError } from '../core/errors.ts';
import { tempDir } from '../testkit/tmp.ts';
import type { Secret } from './secret.ts';
import { readSecret } from './secret-source.ts';

const dir = tempDir('secrets');
afterAll(() => dir.remove());

function file(name: string, content: string | Uint8Array, mode = 0o600): string {
  const path = dir.file(name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

const fromFile = (path: string) => readSecret({ kind: 'file', path }, {});
const textOf = (secret: Secret) => secret.use((bytes) => Buffer.from(bytes).toString('latin1'));
const failure = (promise: Promise<unknown>): Promise<OrionError> =>
  promise.then(
    () => Promise.reject(new Error('it was read')),
    (error: OrionError) => error,
  );

describe('a secret', () => {
  test('is what stands in the file, without the newline at its end', async () => {
    expect(textOf(await fromFile(file('plain', 'correct horse')))).toBe('correct horse');
    expect(textOf(await fromFile(file('unix', 'correct horse\n', 0o400)))).toBe('correct horse');
    expect(textOf(await fromFile(file('dos', 'correct horse\r\n')))).toBe('correct horse');
    expect(textOf(await fromFile(file('binary', Uint8Array.of(0, 255, 10, 7))))).toBe(
      '\0\xff\n\x07',
    );
    symlinkSync(dir.file('plain'), dir.file('link'));
    expect(textOf(await fromFile(dir.file('link')))).toBe('correct horse');
  });

  test('is what the environment variable holds', async () => {
    const source = { kind: 'env', name: 'CHAP_SECRET' } as const;
    expect(textOf(await readSecret(source, { CHAP_SECRET: 'tr0ub4dor' }))).toBe('tr0ub4dor');
    expect((await failure(readSecret(source, {}))).code).toBe('SECRET_NOT_SET');
    expect((await failure(readSecret(source, { CHAP_SECRET: '' }))).code).toBe('SECRET_BAD');
  });

  test.each([0o640, 0o604, 0o660, 0o700, 0o444])(
    'is not taken from a file with mode %o',
    async (mode) => {
      const error = await failure(fromFile(file(`mode${mode}`, 'hunter2hunter2', mode)));
      expect(error.code).toBe('SECRET_EXPOSED');
      expect(error.hint).toMatch(/chmod 600/);
      expect(errorText(error)).not.toContain('hunter2');
    },
  );

  test('is not taken from what is missing, a directory, empty, or too long', async () => {
    mkdirSync(dir.file('directory'));
    const cases = [
      [dir.file('missing'), 'SECRET_UNREADABLE'],
      [dir.file('directory'), 'SECRET_UNREADABLE'],
      [file('empty', '\n'), 'SECRET_BAD'],
      [file('long', 'x'.repeat(1025)), 'SECRET_BAD'],
    ] as const;
    for (const [path, code] of cases) {
      const error = await failure(fromFile(path));
      expect(error.code).toBe(code);
      expect(error.message).toContain(path);
    }
    expect((await fromFile(file('longest', `${'x'.repeat(1024)}\n`))).length).toBe(1024);
  });
});
