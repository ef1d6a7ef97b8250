import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '#config/load.ts';
import { findEnv, isOurEnv } from '#config/overrides.ts';
import { configRows } from '#config/rows.ts';
import { loadErrorTables } from '../../scripts/docs-errors.ts';
import { run } from '../../services/cli/program.ts';
import { ROOT, sources } from './sources.ts';

/** What people wrote by hand, and what it says that can be checked. Scripts, launchers and links: docs.test.ts. */

const GENERATED = ['docs/config.md', 'docs/errors.md'];
/** Named in the texts, and there only once something has run. */
const MADE_LATER = ['test/bench/out'];

interface Page {
  readonly name: string;
  readonly text: string;
  /** Fenced blocks by their language. */
  readonly blocks: readonly { readonly language: string; readonly text: string }[];
  /** What stands between single backticks, and the lines of `sh` blocks. */
  readonly code: readonly string[];
}

function readPage(name: string): Page {
  const text = readFileSync(join(ROOT, name), 'utf8');
  const fence = /^([ \t]*)```(\w*)\n([\s\S]*?)^\1```$/gm;
  const blocks = [...text.matchAll(fence)].map((m) => ({ language: m[2]!, text: m[3]! }));
  const inline = [...text.replaceAll(fence, '').matchAll(/`([^`\n]+)`/g)].map((m) => m[1]!);
  const shell = blocks
    .filter(({ language }) => language === 'sh')
    .flatMap((block) => block.text.split('\n'))
    .map((line) => line.replace(/(^|\s)# .*$/, ''));
  return { name, text, blocks, code: [...inline, ...shell] };
}

function handWritten(): string[] {
  const docs = readdirSync(join(ROOT, 'docs'), { recursive: true }).map((one) => `docs/${one}`);
  return ['README.md', 'SECURITY.md', ...docs]
    .filter((name) => name.endsWith('.md') && !GENERATED.includes(name))
    .sort();
}

const pages = handWritten().map(readPage);
const named = pages.map((page) => [page.name, page] as const);

/** "Usage: orion-iscsi session info", the first line of what `--help` prints after these words. */
async function usageOf(words: readonly string[]): Promise<string> {
  let out = '';
  const streams = {
    out: (text: string) => {
      out += text;
    },
    err: () => {},
  };
  await run([...words, '--help'], streams);
  return out.split('\n')[0]!;
}

function isThere(path: string): boolean {
  return existsSync(join(ROOT, path)) || MADE_LATER.includes(path.replace(/\/$/, ''));
}

describe.each(named)('%s', (_name, page) => {
  test('names only subcommands of orion-iscsi that exist', async () => {
    const lines = page.code.flatMap((code) => [
      ...code.matchAll(/(?<![\w/-])(?:bin\/)?orion-iscsi((?: [a-z][a-z-]*)+)/g),
    ]);
    const unknown: string[] = [];
    for (const [, rest] of lines) {
      const words = rest!.trim().split(' ').slice(0, 2);
      const known =
        (await usageOf(words)).startsWith(`Usage: orion-iscsi ${words.join(' ')} `) ||
        (await usageOf(words.slice(0, 1))).startsWith(`Usage: orion-iscsi ${words[0]} [options]`);
      if (!known) unknown.push(words.join(' '));
    }
    expect(unknown).toEqual([]);
  });

  test('names only files and folders that exist', () => {
    const paths = page.code.flatMap((code) =>
      [
        ...code.matchAll(/(?<![\w./:-])(?:bin|libs|services|test|deploy|docs|scripts)\/[\w./@-]*/g),
      ].map(([path]) => path.replace(/[.,]$/, '')),
    );
    expect(paths.filter((path) => !isThere(path))).toEqual([]);
  });

  test('shows only configurations that load', () => {
    for (const { text } of page.blocks.filter(({ language }) => language === 'toml')) {
      expect(() =>
        loadConfig({ file: 'shown.toml', readFile: () => text, hostname: 'host' }),
      ).not.toThrow();
    }
  });

  test('names only environment variables that mean something', () => {
    const names = [...page.text.matchAll(/\bORION_[A-Z0-9_]+\b/g)].map(([name]) => name);
    expect(names.filter((name) => isOurEnv(name) && findEnv(name) === null)).toEqual([]);
  });

  test('names only errors that exist', async () => {
    const codes = (await loadErrorTables()).flatMap((table) => Object.keys(table.specs));
    const areas = new Set(codes.map((code) => code.split('_')[0]!));
    const said = page.code.filter((code) => /^[A-Z]+(_[A-Z0-9]+)+$/.test(code));
    const unknown = said.filter((code) => areas.has(code.split('_')[0]!) && !codes.includes(code));
    expect(unknown).toEqual([]);
  });
});

test('the configuration of compose.yaml loads for each of its services', () => {
  const compose = readFileSync(join(ROOT, 'compose.yaml'), 'utf8');
  const shared = readFileSync(join(ROOT, 'deploy/compose/orion.toml'), 'utf8');
  const services = [...compose.matchAll(/^ +environment:\n((?: +[A-Z_]+: .*\n)+)/gm)];
  expect(services.length).toBeGreaterThan(3);
  for (const [, lines] of services) {
    const env = Object.fromEntries(
      lines!.split('\n').flatMap((line) => {
        const [, name, value] = /^ +([A-Z_]+): (.*)$/.exec(line) ?? [];
        return name === undefined ? [] : [[name, value!]];
      }),
    );
    const { config } = loadConfig({ file: 'f', env, readFile: () => shared, hostname: 'host' });
    expect(config.node.name).toBe(env.ORION_NODE_NAME);
  }
});

test('README.md lists exactly the keys that have no effect yet', () => {
  const rows = configRows(loadConfig({ readFile: () => '', hostname: 'host' }));
  const idle = rows.filter(({ hasEffect }) => !hasEffect).map(({ path }) => path);
  const { text } = pages.find(({ name }) => name === 'README.md')!;
  const part = /\*\*Accepted in the configuration, without effect\.\*\*[\s\S]*?\n\n/.exec(text)![0];
  const listed = [...part.matchAll(/`([a-z]\w*(?:\.\w+)?)`/g)]
    .map(([, key]) => (key!.includes('.') ? key! : `iscsi.${key}`))
    .filter((key) => rows.some(({ path }) => path === key));
  expect(listed.sort()).toEqual(idle.sort());
});

test('docs/operations.md lists every metric, and no other', () => {
  const { code } = pages.find(({ name }) => name === 'docs/operations.md')!;
  const listed = code.flatMap((one) => [...one.matchAll(/\borion_[a-z_]+/g)].map(([name]) => name));
  const made = sources
    .filter(({ path }) => /^(libs|services)\//.test(path) && !path.endsWith('.test.ts'))
    .flatMap((source) => [...source.code.matchAll(/'(orion_[a-z_]+)'/g)].map((match) => match[1]!));
  const volume = ['read', 'write'].flatMap((direction) =>
    ['ops_total', 'bytes_total', 'errors_total', 'seconds'].map(
      (what) => `orion_volume_${direction}_${what}`,
    ),
  );
  expect([...new Set(listed)].sort()).toEqual([...new Set([...made, ...volume])].sort());
});
