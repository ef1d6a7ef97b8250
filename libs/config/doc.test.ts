import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { configDoc } from './doc.ts';

test('docs/config.md says what the schema says (node scripts/docs-config.ts makes it anew)', () => {
  const path = new URL('../../docs/config.md', import.meta.url);
  expect(readFileSync(path, 'utf8')).toBe(configDoc());
});
