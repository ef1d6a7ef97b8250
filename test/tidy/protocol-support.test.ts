import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  PROTOCOL_DOC,
  README,
  renderProtocol,
  withComparison,
} from '../../scripts/docs-protocol.ts';
import { allRows, GROUP_SIZES, groups, isDone } from '../protocol/table.ts';
import { ROOT } from './sources.ts';

/** Whether a file has a test of this name that is not skipped; behind `each(...)` there is no name before the bracket. */
function hasTest(file: string, name: string): boolean {
  const path = join(ROOT, file);
  if (!file.endsWith('.test.ts') || !existsSync(path)) return false;
  const escaped = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll("'", "\\\\?'");
  const call = new RegExp(`([\\w.]*)\\(\\s*(['"\`])${escaped}\\2\\s*,`, 'g');
  return [...readFileSync(path, 'utf8').matchAll(call)].some(
    ([, callee]) => /^(?:(?:test|it)(?:\.\w+)?)?$/.test(callee!) && !/skip|todo/.test(callee!),
  );
}

describe('the table of the protocol', () => {
  test('has every row once, in order', () => {
    const wanted = Object.entries(GROUP_SIZES).flatMap(([letter, size]) =>
      Array.from({ length: size }, (_, i) => `${letter}${String(i + 1).padStart(2, '0')}`),
    );
    expect(allRows.map(({ id }) => id)).toEqual(wanted);
    for (const { letter, rows } of groups) {
      expect(rows.every(({ id }) => id.startsWith(letter))).toBe(true);
    }
  });

  test('has for each row a test that shows it, or a reason why none does', () => {
    const silent = allRows.filter(({ status, tests, reason }) =>
      isDone(status) ? tests.length === 0 : reason === '',
    );
    expect(silent.map(({ id }) => id)).toEqual([]);
    expect(allRows.filter(({ source }) => source === '').map(({ id }) => id)).toEqual([]);
  });

  test('names only tests that exist and run', () => {
    const missing = allRows.flatMap(({ id, tests }) =>
      tests
        .filter(([file, name]) => !hasTest(file, name))
        .map(([file, name]) => `${id}: ${file}: ${name}`),
    );
    expect(missing).toEqual([]);
  });

  test('is what docs/protocol-support.md says (npm run docs)', () => {
    expect(existsSync(PROTOCOL_DOC) ? readFileSync(PROTOCOL_DOC, 'utf8') : '').toBe(
      renderProtocol(),
    );
  });

  test('is what README.md says in its comparison (npm run docs)', () => {
    const readme = readFileSync(README, 'utf8');
    expect(withComparison(readme)).toBe(readme);
  });
});
