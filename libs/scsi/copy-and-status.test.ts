import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  canCopyBlocks,
  extendedCopyParameters,
  parseCopyLimits,
  parseThirdPartyCopy,
} from './extended-copy.ts';
import { lbaStatusBytes, parseLbaStatus } from './lba-status.ts';
import { quirkProfileNames, quirkProfiles, quirksOf } from './quirks.ts';
import { copyDesignatorOf, parseDesignators } from './vpd.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

const NAA = '6001405aaaaaaaaaaaaaaaaaaaaaaaaa';

describe('EXTENDED COPY', () => {
  const designator = copyDesignatorOf(
    parseDesignators(
      hex(`0083 0024 02010008 4142434445464748 0103 0010 ${NAA} 51940004 00000001`),
    )!,
  )!;

  test('names both ends by their NAA and the blocks of each segment', () => {
    expect(designator.bytes.toString('hex')).toBe(NAA);
    const list = extendedCopyParameters(
      { designator, blockBytes: 512 },
      { designator, blockBytes: 4096 },
      [{ fromLba: 0x123456789, toLba: 2, blocks: 0xffff }],
    );
    expect(list.toString('hex')).toBe(
      `0018004000000000${'0000001c'}00000000` +
        `e400000001030010${NAA}00000000${'00000200'}` +
        `e400000001030010${NAA}00000000${'00001000'}` +
        `02000018000000010000ffff${'0000000123456789'}${'0000000000000002'}`,
    );
  });

  test('limits are read, and a device that lists no descriptor of ours cannot copy', () => {
    const limits = hex(
      `00000030 01000000 0002 0001 00000200 10000000 00000000 00000000 00000000 0000 0001 01 09 0909 000000 03 02e4f1`,
    );
    const parsed = parseCopyLimits(limits)!;
    expect(parsed).toEqual({
      ends: 2,
      segments: 1,
      listBytes: 512,
      segmentBytes: 0x10000000,
      types: [2, 0xe4, 0xf1],
    });
    expect(canCopyBlocks(parsed)).toBe(true);
    expect(canCopyBlocks({ ...parsed, types: [2] })).toBe(false);
    expect(canCopyBlocks({ ...parsed, types: [0xe4] })).toBe(false);
    expect(canCopyBlocks({ ...parsed, types: [] })).toBe(true);
    expect(canCopyBlocks({ ...parsed, ends: 1 })).toBe(false);
    expect(parseCopyLimits(limits.subarray(0, 43))).toBeNull();
  });

  test('the third-party copy page lists commands with their service actions', () => {
    const page = hex('008f 0010 0001 000c 09 83 02 0010 84 03 030405 0000 00');
    expect(parseThirdPartyCopy(page)).toEqual([
      [0x83, 0],
      [0x83, 0x10],
      [0x84, 3],
      [0x84, 4],
      [0x84, 5],
    ]);
    for (let cut = 4; cut < page.length; cut++) {
      expect(parseThirdPartyCopy(page.subarray(0, cut))!.length).toBeLessThanOrEqual(5);
    }
    expect(parseThirdPartyCopy(hex('00b00000'))).toBeNull();
  });
});

describe('GET LBA STATUS', () => {
  const one = (lba: number, blocks: number, status: number): string =>
    lba.toString(16).padStart(16, '0') +
    blocks.toString(16).padStart(8, '0') +
    status.toString(16).padStart(2, '0') +
    '000000';
  const answer = (...ranges: string[]): Buffer =>
    hex(`${(4 + 16 * ranges.length).toString(16).padStart(8, '0')}00000000${ranges.join('')}`);

  test('anchored blocks hold no data, and a status that is not known may be data', () => {
    const data = answer(one(8, 8, 0), one(16, 8, 1), one(24, 8, 2), one(32, 8, 3));
    expect(data).toHaveLength(lbaStatusBytes(4));
    expect(parseLbaStatus(data)!.map(({ mapped }) => mapped)).toEqual([true, false, false, true]);
  });

  test('ends at a gap, an overlap, an empty range and an address beyond all', () => {
    for (const bad of [one(17, 8, 1), one(15, 8, 1), one(16, 0, 1), `ff${'00'.repeat(15)}`]) {
      expect(parseLbaStatus(answer(one(8, 8, 0), bad))).toHaveLength(1);
    }
  });
});

describe('answers of anybody', () => {
  test('are parsed or refused, whatever they hold', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        parseLbaStatus(bytes);
        parseCopyLimits(bytes);
        parseThirdPartyCopy(bytes);
        parseThirdPartyCopy(Buffer.concat([hex('008f00ff'), bytes]));
      }),
    );
  });
});

describe('quirks', () => {
  test('are chosen by INQUIRY, or by name', () => {
    const tgt = { vendor: 'IET', product: 'VIRTUAL-DISK', revision: '0001' };
    const other = { vendor: 'ORION', product: 'RAM DISK', revision: '0001' };
    expect(quirksOf(tgt)).toMatchObject({ profile: 'tgt', compareAndWrite: false });
    expect(quirksOf(other)).toMatchObject({ profile: 'standard', compareAndWrite: true });
    expect(quirksOf(tgt, 'standard').compareAndWrite).toBe(true);
    expect(quirksOf(other, 'equallogic').fastAbort).toBe(false);
    expect(quirksOf({ ...tgt, revision: '0' })).toMatchObject({ profile: 'iet', fastAbort: true });
  });

  test('have a reason and a name of their own each', () => {
    expect(new Set(quirkProfileNames).size).toBe(quirkProfileNames.length);
    for (const { name, reasons } of quirkProfiles) {
      expect(reasons.length).toBeGreaterThan(0);
      expect(quirksOf({ vendor: '', product: '', revision: '' }, name).profile).toBe(name);
    }
  });
});
