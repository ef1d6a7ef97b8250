import { describe, expect, test } from 'vitest';
import { putCompareAndWrite } from './compare-and-write.ts';
import { putExtendedCopy, putReceiveCopyParameters } from './extended-copy.ts';
import { putInquiry } from './inquiry.ts';
import { putGetLbaStatus } from './lba-status.ts';
import { formatLun, lunFromNumber } from './lun.ts';
import { putModeSense6 } from './mode-sense.ts';
import { opName, ScsiOp } from './opcodes.ts';
import {
  putReserveIn,
  putReserveOut,
  ReservationType,
  ReserveIn,
  ReserveOut,
} from './persistent-reserve.ts';
import { putReadCapacity10, putReadCapacity16 } from './read-capacity.ts';
import { putReadWrite } from './read-write.ts';
import { putReportLuns } from './report-luns.ts';
import { putSynchronizeCache10, putSynchronizeCache16 } from './synchronize-cache.ts';
import { putReportTargetPortGroups, putSetTargetPortGroups } from './target-port-groups.ts';
import { putTestUnitReady } from './test-unit-ready.ts';
import { putUnmap, unmapParameters } from './unmap.ts';
import { putWriteSame10, putWriteSame16 } from './write-same.ts';

/** The CDB that is written at offset 5 of a dirty buffer; what is around it must stay. */
function cdb(put: (into: Buffer, at: number) => void): string {
  const into = Buffer.alloc(26, 0xee);
  put(into, 5);
  expect(into.subarray(0, 5).equals(Buffer.alloc(5, 0xee))).toBe(true);
  expect(into.subarray(21).equals(Buffer.alloc(5, 0xee))).toBe(true);
  return into.subarray(5, 21).toString('hex');
}

const TIB = 2 ** 40 / 512;

describe('commands, byte by byte', () => {
  test.each([
    ['TEST UNIT READY', putTestUnitReady, '00000000000000000000000000000000'],
    [
      'INQUIRY',
      (b: Buffer, at: number) => putInquiry(b, at, null, 255),
      `12000000ff00${'00'.repeat(10)}`,
    ],
    [
      'INQUIRY of a page',
      (b: Buffer, at: number) => putInquiry(b, at, 0x83, 0x1234),
      `120183123400${'00'.repeat(10)}`,
    ],
    [
      'REPORT LUNS',
      (b: Buffer, at: number) => putReportLuns(b, at, 0x8008),
      `a0${'00'.repeat(5)}00008008${'00'.repeat(6)}`,
    ],
    ['READ CAPACITY(10)', putReadCapacity10, `25${'00'.repeat(15)}`],
    ['READ CAPACITY(16)', putReadCapacity16, `9e10${'00'.repeat(8)}000000200000`],
    ['MODE SENSE(6)', putModeSense6, `1a080800c0${'00'.repeat(11)}`],
    ['SYNCHRONIZE CACHE(10)', putSynchronizeCache10, `35${'00'.repeat(15)}`],
    ['SYNCHRONIZE CACHE(16)', putSynchronizeCache16, `91${'00'.repeat(15)}`],
    [
      'UNMAP',
      (b: Buffer, at: number) => putUnmap(b, at, 24),
      `42${'00'.repeat(6)}0018${'00'.repeat(7)}`,
    ],
    [
      'WRITE SAME(16)',
      (b: Buffer, at: number) => putWriteSame16(b, at, 5 * TIB, 7, true),
      '9308' + '0000000280000000' + '00000007' + '0000',
    ],
    [
      'WRITE SAME(10)',
      (b: Buffer, at: number) => putWriteSame10(b, at, 0x12345678, 0xffff, true),
      `41081234567800ffff00${'00'.repeat(6)}`,
    ],
    [
      'REPORT TARGET PORT GROUPS',
      (b: Buffer, at: number) => putReportTargetPortGroups(b, at, true, 1024),
      'a32a0000000000000400000000000000',
    ],
    [
      'SET TARGET PORT GROUPS',
      (b: Buffer, at: number) => putSetTargetPortGroups(b, at, 8),
      'a40a0000000000000008000000000000',
    ],
    [
      'PERSISTENT RESERVE IN',
      (b: Buffer, at: number) => putReserveIn(b, at, ReserveIn.ReadFullStatus, 0x1234),
      '5e030000000000123400000000000000',
    ],
    [
      'PERSISTENT RESERVE OUT',
      (b: Buffer, at: number) =>
        putReserveOut(
          b,
          at,
          ReserveOut.PreemptAndAbort,
          ReservationType.WriteExclusiveRegistrantsOnly,
          24,
        ),
      '5f050500000000001800000000000000',
    ],
    [
      'GET LBA STATUS',
      (b: Buffer, at: number) => putGetLbaStatus(b, at, 5 * TIB, 4104),
      '9e12' + '0000000280000000' + '00001008' + '0000',
    ],
    [
      'EXTENDED COPY',
      (b: Buffer, at: number) => putExtendedCopy(b, at, 108),
      `83${'00'.repeat(9)}0000006c0000`,
    ],
    ['RECEIVE COPY RESULTS', putReceiveCopyParameters, `8403${'00'.repeat(8)}0000012c0000`],
    [
      'COMPARE AND WRITE',
      (b: Buffer, at: number) => putCompareAndWrite(b, at, 9, 3, true),
      '8908' + '0000000000000009' + '000000' + '03' + '0000',
    ],
    [
      'READ(10)',
      (b: Buffer, at: number) => putReadWrite(b, at, false, 0x12345678, 8, false),
      `280012345678000008${'00'.repeat(7)}`,
    ],
    [
      'WRITE(10) with FUA',
      (b: Buffer, at: number) => putReadWrite(b, at, true, 0xffffffff, 1, true),
      `2a08ffffffff000001${'00'.repeat(7)}`,
    ],
    [
      'READ(16) for its length',
      (b: Buffer, at: number) => putReadWrite(b, at, false, 1, 65536, false),
      '8800' + '0000000000000001' + '00010000' + '0000',
    ],
    [
      'WRITE(16) for its place',
      (b: Buffer, at: number) => putReadWrite(b, at, true, 0xffffffff, 2, true),
      '8a08' + '00000000ffffffff' + '00000002' + '0000',
    ],
  ])('%s', (_, put, hex) => expect(cdb(put)).toBe(hex));

  test('the list of an UNMAP', () => {
    const list = unmapParameters([
      { lba: 1, blocks: 2 },
      { lba: 5 * TIB, blocks: 0xffffffff },
    ]);
    expect(list.toString('hex')).toBe(
      '0026002000000000' + '00000000000000010000000200000000' + '0000000280000000ffffffff00000000',
    );
  });

  test('an operation has a name for people', () => {
    expect(opName(ScsiOp.Read16)).toBe('Read16');
    expect(opName(0x4d)).toBe('operation 0x4d');
  });
});

describe('LUNs', () => {
  test.each([
    [0, '0000000000000000'],
    [1, '0001000000000000'],
    [255, '00ff000000000000'],
    [256, '4100000000000000'],
    [16383, '7fff000000000000'],
  ])('%i is %s', (number, hex) => {
    expect(lunFromNumber(number).toString('hex')).toBe(hex);
    expect(formatLun(lunFromNumber(number))).toBe(String(number));
  });

  test('one of several levels is shown as it came', () => {
    expect(formatLun(Buffer.from('0101000200000000', 'hex'))).toBe('0101000200000000');
  });
});
