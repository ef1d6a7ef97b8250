import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { findIn, isTest, libOf, type Source, sources } from './sources.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const FILE_LINES_MAX = 450;

/** The places that hand time, randomness and the network to all others. */
const GIVERS = [
  'libs/core/clock.ts',
  'libs/core/rng.ts',
  'libs/wire/node-network.ts',
  'libs/wire/tls-network.ts',
];
const GLOBALS =
  /\b(?:setTimeout|setInterval|setImmediate|Date\.now|new Date\(\)|performance\.now|Math\.random|randomBytes|randomUUID|randomInt|randomFill)\b/;

const libSources = sources.filter(
  (source) => libOf(source.path) !== null && !isTest(source.path) && !GIVERS.includes(source.path),
);

function all(list: readonly Source[], pattern: RegExp, raw = false): string[] {
  return list.flatMap((source) => findIn(source, pattern, raw ? source.text : source.code));
}

test('libs take time and randomness from their caller', () => {
  expect(all(libSources, GLOBALS)).toEqual([]);
});

test('libs take the network from their caller', () => {
  const found = libSources.flatMap((source) =>
    source.imports
      .filter(({ specifier, typeOnly }) => !typeOnly && /^node:(net|tls|dgram)$/.test(specifier))
      .map(({ specifier }) => `${source.path} imports ${specifier}`),
  );
  expect(found).toEqual([]);
});

test(`no file is longer than ${FILE_LINES_MAX} lines, tests and vectors apart`, () => {
  const long = sources
    .filter((source) => !source.path.endsWith('.test.ts') && !source.path.includes('/vectors/'))
    .map((source) => ({ path: source.path, lines: source.text.split('\n').length }))
    .filter(({ lines }) => lines > FILE_LINES_MAX);
  expect(long).toEqual([]);
});

test('no note of unfinished work is left', () => {
  const pattern = new RegExp(
    `\\b(?:${['TO', 'FIX'].map((a, i) => a + ['DO', 'ME'][i]).join('|')})\\b`,
  );
  expect(all(sources, pattern, true)).toEqual([]);
});

test('no enum, no namespace: Node runs the sources as they are', () => {
  expect(
    all(sources, /^\s*(?:export\s+)?(?:declare\s+)?(?:const\s+)?(?:enum|namespace)\s+\w+/),
  ).toEqual([]);
});

test('no test is left focused', () => {
  expect(all(sources, /\b(?:test|it|describe)\.only\(/)).toEqual([]);
});

test('the cluster in containers, whose test is skipped where there is no engine, sets what compose.yaml sets', () => {
  const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
  const names = [...read('compose.yaml').matchAll(/^\s+(ORION_[A-Z_]+):/gm)].map(
    ([, name]) => name,
  );
  expect(names).toContain('ORION_WORKERS_LINK_LISTEN');
  const containers = read('test/e2e/cluster.ts');
  expect(names.filter((name) => !containers.includes(`${name}:`))).toEqual([]);
});
