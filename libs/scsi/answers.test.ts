import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { scsiErrors } from './errors.ts';
import { parseInquiry } from './inquiry.ts';
import { parseModeSense6 } from './mode-sense.ts';
import { ScsiStatus } from './opcodes.ts';
import { isBlockSize, parseReadCapacity10, parseReadCapacity16 } from './read-capacity.ts';
import { parseReportLuns } from './report-luns.ts';
import { buildSense, parseSense } from './sense.ts';
import { judge, lookUpSense, senseTable, verdictError } from './sense-table.ts';
import {
  parseBlockCharacteristics,
  parseBlockLimits,
  parseDesignators,
  parseProvisioning,
  parseSerialNumber,
  parseSupportedPages,
  wwidOf,
} from './vpd.ts';

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

/** Answers of tgt 1.0.85, a 64 MiB LUN with thin provisioning. */
const tgt = {
  inquiry:
    '000005123d00000249455420202020205649525455414c2d4449534b20202020303030310000000000000000000000000000000000000000000004c0096003000000',
  pages: '00000006008083b0b1b2',
  serial: '00800024202020202020202020202020202020202020202020202020202020202020626561663131',
  identification:
    '00830048020100244945542020202020303030313030303100000000000000000000000000000000000000000103000830000001000000010103001060000000000000000e00000000010001',
  limits:
    '00b0003c00800000000000000000000000000000ffffffffffffffff000000000000000000000000000000000000000000000000000000000000000000000000',
  characteristics: '00b1004000000000000000000000000000',
  provisioning: '00b2000400e40200',
  mode: '1700100008121400ffff0000ffffffff8014000000000000',
  capacity16: '000000000001ffff000002000003c00000000000000000000000000000000000',
  capacity10: '0001ffff00000200',
  luns: '000000100000000000000000000000000001000000000000',
};

describe('the answers of tgt', () => {
  test('are understood', () => {
    expect(parseInquiry(hex(tgt.inquiry))).toEqual({
      qualifier: 0,
      deviceType: 0,
      vendor: 'IET',
      product: 'VIRTUAL-DISK',
      revision: '0001',
      tpgs: 0,
      thirdPartyCopy: false,
    });
    expect(parseSupportedPages(hex(tgt.pages))).toEqual([0, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
    expect(parseSerialNumber(hex(tgt.serial))).toBe('beaf11');
    const designators = parseDesignators(hex(tgt.identification))!;
    expect(designators.map(({ type }) => type)).toEqual([1, 3, 3]);
    expect(wwidOf(designators)).toBe('naa:60000000000000000e00000000010001');
    expect(parseBlockLimits(hex(tgt.limits))).toMatchObject({
      maxCompareAndWriteBlocks: 128,
      maxTransferBlocks: 0,
      maxUnmapBlocks: 0xffffffff,
      maxUnmapDescriptors: 0xffffffff,
      unmapAlignmentBlock: null,
      maxWriteSameBlocks: 0,
    });
    expect(parseBlockCharacteristics(hex(tgt.characteristics))).toEqual({ rotationRate: 0 });
    expect(parseProvisioning(hex(tgt.provisioning))).toEqual({
      unmap: true,
      writeSame16Unmap: true,
      writeSame10Unmap: true,
      readsZeroes: true,
      thin: true,
    });
    expect(parseModeSense6(hex(tgt.mode))).toEqual({
      writeProtected: false,
      dpoFua: true,
      writeCache: true,
    });
    expect(parseReadCapacity16(hex(tgt.capacity16))).toEqual({
      blocks: 131072,
      blockBytes: 512,
      physicalExponent: 3,
      provisioned: true,
      readsZeroes: true,
    });
    expect(parseReadCapacity10(hex(tgt.capacity10))).toMatchObject({ blocks: 131072 });
    expect(parseReportLuns(hex(tgt.luns))!.luns.map((lun) => lun.toString('hex'))).toEqual([
      '0000000000000000',
      '0001000000000000',
    ]);
  });

  test('cut off anywhere give less or nothing, and never throw', () => {
    const parsers = Object.entries({
      inquiry: parseInquiry,
      pages: parseSupportedPages,
      serial: parseSerialNumber,
      identification: parseDesignators,
      limits: parseBlockLimits,
      characteristics: parseBlockCharacteristics,
      provisioning: parseProvisioning,
      mode: parseModeSense6,
      capacity16: parseReadCapacity16,
      capacity10: parseReadCapacity10,
      luns: parseReportLuns,
    });
    for (const [name, parse] of parsers) {
      const bytes = hex(tgt[name as keyof typeof tgt]);
      for (let i = 0; i <= bytes.length; i++) parse(bytes.subarray(0, i));
    }
    expect(parsers).toHaveLength(11);
  });
});

describe('answers of anybody', () => {
  test('that deallocated blocks read as zeroes is believed of xx1b alone', () => {
    const page = (lbprz: number) => hex(`00b2000400${(0xe0 | (lbprz << 2)).toString(16)}0200`);
    expect([0, 1, 2, 3, 5].map((n) => parseProvisioning(page(n))!.readsZeroes)).toEqual([
      false,
      true,
      false,
      true,
      true,
    ]);
  });

  test('are parsed or refused, whatever they hold', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        for (const parse of [
          parseInquiry,
          parseSupportedPages,
          parseSerialNumber,
          parseDesignators,
          parseBlockLimits,
          parseBlockCharacteristics,
          parseProvisioning,
          parseModeSense6,
          parseReadCapacity16,
          parseReadCapacity10,
          parseReportLuns,
          parseSense,
        ]) {
          parse(bytes);
        }
      }),
    );
  });

  test('a capacity that cannot be is none', () => {
    expect(parseReadCapacity10(hex('0001ffff00000000'))).toBeNull();
    expect([512, 4096, 65536].every(isBlockSize)).toBe(true);
    expect([0, 256, 520, 528, 4104, 131072].some(isBlockSize)).toBe(false);
    expect(parseReadCapacity10(hex('ffffffff00000200'))).toBe('use-16');
    expect(parseReadCapacity16(hex('ffffffffffffffff00000200'))).toBeNull();
  });

  test('the logical unit is told from its port, and NAA is preferred', () => {
    const port = '0103000850000000000000ff'.replace('0103', '0113');
    const own = '02010004' + '41424344';
    const page = hex(`0083${(12 + 8).toString(16).padStart(4, '0')}${port}${own}`);
    expect(wwidOf(parseDesignators(page)!)).toBe('t10:ABCD');
  });
});

describe('sense data', () => {
  test('of both formats say the same', () => {
    const fixed = parseSense(buildSense(5, 0x21, 0, 0x1234));
    const descriptor = parseSense(hex('72052100' + '0000000c' + '000a8000' + '0000000000001234'));
    expect(fixed).toEqual({ key: 5, asc: 0x21, ascq: 0, deferred: false, information: 0x1234 });
    expect(descriptor).toEqual(fixed);
  });

  test('deferred errors are told apart', () => {
    for (const code of ['71', '73', 'f1']) {
      expect(parseSense(hex(`${code}0003000000000a0000000000000000000000`))?.deferred).toBe(true);
    }
  });

  test('that are short, foreign or empty', () => {
    expect(parseSense(hex(''))).toBeNull();
    expect(parseSense(hex('7f00'))).toBeNull();
    expect(parseSense(hex('700006'))).toMatchObject({ key: 6, asc: 0, ascq: 0 });
  });
});

describe('the sense table', () => {
  test('has for each line an error of the table, and no line is hidden by one before it', () => {
    for (const line of senseTable) {
      expect(scsiErrors.specs[line.code]).toBeDefined();
      expect(lookUpSense(line.key, line.asc ?? 0xfd, line.ascq ?? 0xfd)).toBe(line);
    }
  });

  test('has an answer to every sense and every status', () => {
    fc.assert(
      fc.property(fc.nat(255), fc.nat(15), fc.nat(255), fc.nat(255), (status, key, asc, ascq) => {
        const sense = { key, asc, ascq, deferred: false, information: null };
        const verdict = judge(status, sense);
        const error = verdictError(verdict, 0x2a, {});
        expect(error.outcome).toBe(verdict.outcome);
        // What may be sent again has not been carried out, or cannot be any more.
        if (['retry', 'delay', 'other-path'].includes(verdict.action)) {
          expect(['not-executed', 'terminated']).toContain(verdict.outcome);
        }
      }),
    );
  });

  test.each([
    [2, 4, 0x0a, 'delay', 'not-executed'],
    [2, 4, 0x0b, 'other-path', 'not-executed'],
    [6, 0x29, 7, 'retry', 'not-executed'],
    [6, 0x2a, 5, 'fail', 'not-executed'],
    [3, 0x11, 0, 'fail', 'final'],
    [5, 0x24, 0, 'fail', 'final'],
    [7, 0x27, 7, 'fail', 'final'],
    [0xb, 0, 0, 'retry', 'terminated'],
    [0xe, 0x1d, 0, 'fail', 'final'],
    [1, 0x17, 0, 'ok', 'final'],
  ])('%i/%i/%i: %s, %s', (key, asc, ascq, action, outcome) => {
    const sense = { key, asc, ascq, deferred: false, information: null };
    expect(judge(ScsiStatus.CheckCondition, sense)).toMatchObject({ action, outcome });
  });

  test.each([
    [ScsiStatus.Busy, 'delay', 'not-executed'],
    [ScsiStatus.TaskSetFull, 'delay', 'not-executed'],
    [ScsiStatus.ReservationConflict, 'fail', 'not-executed'],
    [ScsiStatus.TaskAborted, 'retry', 'terminated'],
    [0x77, 'fail', 'final'],
  ])('status %i: %s, %s', (status, action, outcome) => {
    expect(judge(status, null)).toMatchObject({ action, outcome });
  });
});
