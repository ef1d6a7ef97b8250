import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nameInvalidReason } from './names.ts';
import {
  encodeText,
  parseBinary,
  parseNumber,
  parseText,
  splitText,
  TEXT_BYTES_MAX,
  type TextPair,
} from './text.ts';

const key = fc.stringMatching(/^[A-Z][A-Za-z0-9.\-+@_]{0,62}$/);
const value = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'));
const pairs = fc.array(fc.tuple(key, value) as fc.Arbitrary<TextPair>, { maxLength: 20 });

describe('key=value text', () => {
  test('comes back as it was, also when a value holds "="', () => {
    fc.assert(
      fc.property(pairs, (list) => {
        expect(parseText(encodeText(list)).pairs).toEqual(list);
      }),
    );
  });

  test('cut into segments for the C bit, comes back when joined, even cut inside a key', () => {
    fc.assert(
      fc.property(pairs, fc.integer({ min: 1, max: 50 }), (list, size) => {
        const parts = splitText(encodeText(list), size);
        expect(parts.every((part) => part.length <= size)).toBe(true);
        expect(parts.length).toBeGreaterThan(0);
        expect(parseText(Buffer.concat(parts)).pairs).toEqual(list);
      }),
    );
  });

  test('any bytes are parsed or refused with the clause, never thrown at', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const parsed = parseText(bytes);
        expect(parsed.error === null || parsed.error.includes('§')).toBe(true);
      }),
    );
  });

  test.each([
    ['no final zero', 'A=1'],
    ['no equals sign', 'Abc\0'],
    ['an empty key', '=1\0'],
    ['a key that begins small', 'abc=1\0'],
    ['a key of 64 characters', `${'A'.repeat(64)}=1\0`],
    ['too much', `A=${'x'.repeat(TEXT_BYTES_MAX)}\0`],
  ])('refuses %s', (_, text) => {
    expect(parseText(Buffer.from(text)).error).toMatch(/§6\.1/);
  });

  test('refuses what is not UTF-8', () => {
    expect(parseText(Buffer.from([0x41, 0x3d, 0xff, 0])).error).toMatch(/UTF-8/);
  });
});

describe('values', () => {
  test.each([
    ['0', 0],
    ['8192', 8192],
    ['0x10', 16],
    ['0X1f', 31],
    ['08', null],
    ['-1', null],
    ['1e3', null],
    ['', null],
    ['99999999999999999999', null],
  ])('%j as a number is %j', (text, number) => expect(parseNumber(text)).toBe(number));

  test.each([
    ['0x0aff', '0aff'],
    ['0xaff', '0aff'],
    ['0bCv8=', '0aff'],
    ['12', null],
    ['0x', null],
    ['0b', null],
  ])('%j as binary is %j', (text, hex) => {
    expect(parseBinary(text)?.toString('hex') ?? null).toBe(hex);
  });
});

describe('names', () => {
  test.each(['iqn.2026-11.lab:disk1', 'iqn.2001-04.com.example', 'eui.02004567a425678d'])(
    '%s is one',
    (name) => expect(nameInvalidReason(name)).toBeNull(),
  );
  test.each([
    '',
    'disk1',
    'iqn.2026-13.lab:x',
    'iqn.26.lab',
    'eui.12',
    `iqn.2026-11.${'a'.repeat(223)}`,
  ])('%j is none', (name) => expect(nameInvalidReason(name)).not.toBeNull());
});
