import { expect, test } from 'vitest';
import { decodeAttention } from './hello.ts';

const attention = { asc: 0x0c, ascq: 0, text: 'write error' };

function decoded(value: object) {
  return decodeAttention(Buffer.from(JSON.stringify(value)));
}

test('a deferred error is told as one, and nothing else is', () => {
  expect(decoded({ ...attention, deferred: true })).toEqual({ ...attention, deferred: true });
  expect(decoded(attention)).toEqual(attention);
  expect(decoded({ ...attention, deferred: 'yes' })).toEqual(attention);
});

test('a cache that was switched on is told as such', () => {
  const found = { ...attention, volatileCache: true };
  expect(decoded(found)).toEqual(found);
  expect(decoded({ ...attention, volatileCache: false })).toEqual(attention);
});
