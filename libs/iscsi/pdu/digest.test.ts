import { describe, expect, test } from 'vitest';
import { isDigest, putDigest, SEALED_BHS_BYTES, sealHeader } from './digest.ts';

/** RFC 7143 appendix A.4: the header of a SCSI Read (10) command and its digest. */
const SEALED =
  '01c00000000000000000000000000000' +
  '14000000000004000000001400000018' +
  '28000000000000000200000000000000' +
  '563a96d9';

describe('digests of PDUs', () => {
  test('stand behind the header, low byte first, as in the appendix of RFC 7143', () => {
    const around = Buffer.alloc(SEALED_BHS_BYTES + 2, 0xee);
    Buffer.from(SEALED, 'hex').copy(around, 1, 0, 48);
    sealHeader(around, 1);
    expect(around.toString('hex')).toBe(`ee${SEALED}ee`);
  });

  test('are compared in all four bytes, also where the highest bit is set', () => {
    for (const digest of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xd9963a56]) {
      const bytes = Buffer.alloc(6);
      putDigest(bytes, 1, digest);
      expect(bytes.readUInt32LE(1)).toBe(digest);
      expect(isDigest(bytes, 1, digest)).toBe(true);
      for (let at = 1; at <= 4; at++) {
        bytes[at]! ^= 0x10;
        expect(isDigest(bytes, 1, digest)).toBe(false);
        bytes[at]! ^= 0x10;
      }
    }
  });
});
