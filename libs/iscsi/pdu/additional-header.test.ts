import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  AHS_BYTES_MAX,
  decodeCommandExtension,
  EXTENDED_CDB_BYTES_MAX,
  encodeCommandExtension,
  parseAdditionalHeaders,
} from './additional-header.ts';

const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex');

describe('additional headers', () => {
  // By hand from the diagrams of RFC 7143 §11.2.2.3 and §11.2.2.4.
  test.each([
    {
      name: 'the rest of a CDB of 32 bytes',
      chain: `0011 01 00 ${'ab'.repeat(16)}`,
      value: { cdbRest: bytes('ab'.repeat(16)), readLength: null },
    },
    {
      name: 'the rest of a CDB of 17 bytes, with its padding',
      chain: '0002 01 00 cd 000000',
      value: { cdbRest: bytes('cd'), readLength: null },
    },
    {
      name: 'a bidirectional read length',
      chain: '0005 02 00 00020000',
      value: { cdbRest: Buffer.alloc(0), readLength: 0x20000 },
    },
    {
      name: 'both',
      chain: '0003 01 00 abcd 0000 0005 02 00 00000200',
      value: { cdbRest: bytes('abcd'), readLength: 512 },
    },
    { name: 'none', chain: '', value: { cdbRest: Buffer.alloc(0), readLength: null } },
  ])('$name: is written and read as the RFC draws it', ({ chain, value }) => {
    expect(encodeCommandExtension(value).toString('hex')).toBe(chain.replaceAll(' ', ''));
    expect(decodeCommandExtension(bytes(chain))).toEqual(value);
  });

  test('of any CDB and read length come out as they went in, in whole words', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: EXTENDED_CDB_BYTES_MAX - 16 }),
        fc.option(fc.nat(0xffffffff)),
        (rest, readLength) => {
          const value = { cdbRest: Buffer.from(rest), readLength };
          const chain = encodeCommandExtension(value);
          expect(chain.length % 4).toBe(0);
          expect(chain.length).toBeLessThanOrEqual(AHS_BYTES_MAX);
          expect(decodeCommandExtension(chain)).toEqual(value);
        },
      ),
    );
  });

  test('of kinds that nobody knows are passed over', () => {
    const chain = bytes('0001 3f ee 0005 02 00 00000200 0002 c5 0102 000000');
    expect(decodeCommandExtension(chain)).toEqual({ cdbRest: Buffer.alloc(0), readLength: 512 });
    expect(parseAdditionalHeaders(chain)).toMatchObject([{ type: 63 }, { type: 2 }, { type: 5 }]);
  });

  test.each([
    ['longer than the chain', '0011 01 00 abcdabcd'],
    ['with a read length of another size', '0004 02 00 000002'.concat('00')],
    ['twice an extended CDB', '0002 01 00 ab000000 0002 01 00 ab000000'],
    ['twice a read length', '0005 02 00 00000200 0005 02 00 00000200'],
    ['with an extended CDB that is empty', '0001 01 00'],
  ])('%s are refused, with the clause', (_what, chain) => {
    expect(decodeCommandExtension(bytes(chain))).toMatch(/§11\.2\.2/);
  });

  test('that are any bytes at all are cut or refused, without an endless loop', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: AHS_BYTES_MAX }), (any) => {
        const chain = Buffer.from(any);
        const found = parseAdditionalHeaders(chain);
        if (typeof found === 'string') return;
        const total = found.reduce((sum, { body }) => sum + ((body.length + 6) & ~3), 0);
        expect(total).toBeGreaterThanOrEqual(chain.length);
      }),
    );
  });
});
