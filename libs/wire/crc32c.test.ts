import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc32c, crc32cTables, hasNativeCrc32c } from './crc32c.ts';

const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);

/** RFC 7143 appendix A.4: the digests as they stand on the wire, low byte first. */
const VECTORS: readonly (readonly [name: string, bytes: Uint8Array, wire: string])[] = [
  ['32 bytes of zeroes', new Uint8Array(32), 'aa36918a'],
  ['32 bytes of ones', new Uint8Array(32).fill(0xff), '43aba862'],
  ['32 incrementing bytes', ascending, '4e79dd46'],
  ['32 decrementing bytes', ascending.toReversed(), '5cdb3f11'],
  [
    'an iSCSI SCSI Read (10) command PDU',
    Buffer.from(
      '01c0000000000000000000000000000014000000000004000000001400000018' +
        '2800000000000000' +
        '0200000000000000',
      'hex',
    ),
    '563a96d9',
  ],
];

function onWire(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(crc);
  return bytes.toString('hex');
}

describe('CRC32C', () => {
  test.each(VECTORS)('gives the digest of RFC 7143 for %s', (_, bytes, wire) => {
    expect(onWire(crc32cTables(bytes))).toBe(wire);
    expect(onWire(crc32c(bytes))).toBe(wire);
  });

  test('is the same natively and by tables, whole and in pieces', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), fc.nat(2_000), (bytes, cut) => {
        const whole = crc32cTables(bytes);
        expect(crc32c(bytes)).toBe(whole);
        const at = Math.min(cut, bytes.length);
        expect(crc32c(bytes.subarray(at), crc32c(bytes.subarray(0, at)))).toBe(whole);
      }),
    );
  });

  test('has its native form on the platforms that we test on', () => {
    expect(hasNativeCrc32c).toBe(true);
  });
});
