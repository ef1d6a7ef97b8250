import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ERRORS_DOC, loadErrorTables, renderErrors } from '../../scripts/docs-errors.ts';
import { ROOT } from './sources.ts';

const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  readonly bin: Readonly<Record<string, string>>;
  readonly scripts: Readonly<Record<string, string>>;
};

function markdownFiles(): string[] {
  const docs = existsSync(join(ROOT, 'docs'))
    ? readdirSync(join(ROOT, 'docs'), { recursive: true }).map((name) => `docs/${String(name)}`)
    : [];
  return ['README.md', 'SECURITY.md', ...docs].filter(
    (name) => name.endsWith('.md') && existsSync(join(ROOT, name)),
  );
}

describe('errors', () => {
  test('codes are AREA_WHAT and no two tables share one', async () => {
    const codes = (await loadErrorTables()).flatMap((table) => Object.keys(table.specs));
    expect(codes.filter((code) => !/^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$/.test(code))).toEqual([]);
    expect(codes.filter((code, index) => codes.indexOf(code) !== index)).toEqual([]);
  });

  test('docs/errors.md is what the tables say (npm run docs)', async () => {
    expect(existsSync(ERRORS_DOC) ? readFileSync(ERRORS_DOC, 'utf8') : '').toBe(
      await renderErrors(),
    );
  });
});

describe('documentation', () => {
  test('every command of the package exists and may be executed', () => {
    const missing = Object.values(manifest.bin).filter((path) => {
      try {
        accessSync(join(ROOT, path), constants.X_OK);
        return false;
      } catch {
        return true;
      }
    });
    expect(missing).toEqual([]);
  });

  test.each(markdownFiles())('%s names only commands that exist', (name) => {
    const text = readFileSync(join(ROOT, name), 'utf8');
    const scripts = [...text.matchAll(/\bnpm run ([\w:-]+)/g)].map((match) => match[1]!);
    expect(scripts.filter((script) => manifest.scripts[script] === undefined)).toEqual([]);
    const commands = [...text.matchAll(/(?<![\w/.-])(?:\.\/)?bin\/([\w-]+)/g)].map(
      (match) => match[1]!,
    );
    expect(commands.filter((command) => !existsSync(join(ROOT, 'bin', command)))).toEqual([]);
  });

  test.each(markdownFiles())('%s links only to files that exist', (name) => {
    const text = readFileSync(join(ROOT, name), 'utf8');
    const links = [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
      .map((match) => match[1]!)
      .filter((link) => !/^[a-z]+:/.test(link));
    expect(links.filter((link) => !existsSync(join(ROOT, dirname(name), link)))).toEqual([]);
  });
});
