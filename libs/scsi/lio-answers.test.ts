import { describe, expect, test } from 'vitest';
import { canCopyBlocks, parseCopyLimits } from './extended-copy.ts';
import { parseInquiry } from './inquiry.ts';
import { parseModeSense6 } from './mode-sense.ts';
import {
  parseFullStatus,
  parseReadKeys,
  parseReadReservation,
  parseReserveCapabilities,
} from './persistent-reserve.ts';
import { quirksOf } from './quirks.ts';
import { parseReadCapacity16 } from './read-capacity.ts';
import { AluaState, parseTargetPortGroups } from './target-port-groups.ts';
import {
  copyDesignatorOf,
  parseBlockLimits,
  parseDesignators,
  parseProvisioning,
  parseSerialNumber,
  parseSupportedPages,
  targetPortOf,
  wwidOf,
} from './vpd.ts';

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

/** Answers of the kernel target of Linux 6.1: a file of 64 MiB, two port groups, two initiators with a key each. */
const lio = {
  inquiry:
    '000006025bb810024c494f2d4f52472046494c45494f20202020202020202020342e30200000000000000000000000000000000000000000000000000a00960046004c00',
  pages: '0000000800808386b0b1b2b3',
  serial: '0080001130303030303030302d6c696f2d6c756e00',
  identification:
    '0083008c0103001060014050000000000000000000000000020100204c494f2d4f52472046494c45494f3a30303030303030302d6c696f2d6c756e005194000400000001519500040000001101060004000000005398002069716e2e323032362d31312e6c61623a6c696f2c742c3078303030310000000053a8001469716e2e323032362d31312e6c61623a6c696f00',
  limits:
    '00b0003c010100010000400000004000000000000000200000000001000000010000000000000000000010000000000000000000000000000000000000000000',
  provisioning: '00b2000400e00000',
  groups: '0000001800cf0011000000010000000102cf00120002000100000002',
  groupsExtended: '000000181000000000cf0011000000010000000102cf001200020001',
  copyLimits: `0000002a0100000000020001000004001000000000000000000000000000000000000001010909090000000202e4${'00'.repeat(20)}`,
  capacity16: '000000000001ffff000002000000800000000000000000000000000000000000',
  mode: '170000000812000000000000000000002000000000000000',
  keys: '000000020000001000000000000000010000000000000002',
  reservation: '000000020000001000000000000000010000000000050000',
  capabilities: '00081d90ea010000',
  fullStatus:
    '000000020000008800000000000000010000000001050000000000010000002c4500002869716e2e323032362d31312e6c61623a6f6c642c692c30783830316165396566303030310000000000000000000000020000000000000000000000020000002c4500002869716e2e323032362d31312e6c61623a6e6578742c692c3078383031616539656630303032000000',
};

describe('the answers of LIO', () => {
  test('about itself are understood', () => {
    const inquiry = parseInquiry(hex(lio.inquiry))!;
    expect(inquiry).toMatchObject({
      vendor: 'LIO-ORG',
      product: 'FILEIO',
      tpgs: 3,
      thirdPartyCopy: true,
    });
    expect(quirksOf(inquiry).profile).toBe('lio');
    expect(parseSupportedPages(hex(lio.pages))).toEqual([
      0, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2, 0xb3,
    ]);
    expect(parseSerialNumber(hex(lio.serial))).toBe('00000000-lio-lun');
    const designators = parseDesignators(hex(lio.identification))!;
    expect(wwidOf(designators)).toBe('naa:60014050000000000000000000000000');
    expect(targetPortOf(designators)).toEqual({ relativePort: 1, group: 0x11 });
    expect(copyDesignatorOf(designators)!.bytes).toHaveLength(16);
    expect(parseBlockLimits(hex(lio.limits))).toMatchObject({
      writeSameNonZero: true,
      maxCompareAndWriteBlocks: 1,
      maxTransferBlocks: 0x4000,
      maxUnmapBlocks: 0x2000,
      maxUnmapDescriptors: 1,
      maxWriteSameBlocks: 0x1000,
    });
    expect(parseProvisioning(hex(lio.provisioning))).toMatchObject({
      unmap: true,
      readsZeroes: false,
    });
    expect(parseReadCapacity16(hex(lio.capacity16))).toMatchObject({
      blocks: 131072,
      provisioned: true,
    });
    expect(parseModeSense6(hex(lio.mode))).toEqual({
      writeProtected: false,
      dpoFua: false,
      writeCache: false,
    });
  });

  test('about port groups say the same with both headers, though one is not counted in its length', () => {
    const [first, second] = [
      { group: 0x11, state: AluaState.ActiveOptimized, preferred: false, ports: [1] },
      { group: 0x12, state: AluaState.Standby, preferred: false, ports: [2] },
    ];
    expect(parseTargetPortGroups(hex(lio.groups))!.groups).toEqual([first, second]);
    // The last port is cut off there: groups are found by their numbers first.
    const extended = parseTargetPortGroups(hex(lio.groupsExtended))!;
    expect(extended.groups).toEqual([first, { ...second, ports: [] }]);
    expect(extended.transitionSeconds).toBeNull();
  });

  test('about copies and reservations are understood', () => {
    const limits = parseCopyLimits(hex(lio.copyLimits))!;
    expect(limits).toEqual({
      ends: 2,
      segments: 1,
      listBytes: 1024,
      segmentBytes: 1 << 28,
      types: [2, 0xe4],
    });
    expect(canCopyBlocks(limits)).toBe(true);
    expect(parseReadKeys(hex(lio.keys))).toEqual({ generation: 2, keys: [1n, 2n], totalBytes: 24 });
    expect(parseReadReservation(hex(lio.reservation))!.held).toEqual({
      key: 1n,
      type: 5,
      scope: 0,
    });
    expect(parseReserveCapabilities(hex(lio.capabilities))).toMatchObject({
      persistCapable: true,
      persistActive: false,
      types: [1, 3, 5, 6, 7, 8],
    });
    expect(parseFullStatus(hex(lio.fullStatus))!.registrations).toMatchObject([
      {
        key: 1n,
        holder: true,
        type: 5,
        relativePort: 1,
        initiator: 'iqn.2026-11.lab:old,i,0x801ae9ef0001',
      },
      {
        key: 2n,
        holder: false,
        relativePort: 2,
        initiator: 'iqn.2026-11.lab:next,i,0x801ae9ef0002',
      },
    ]);
  });

  test('cut off or changed anywhere are parsed or refused', () => {
    const parsers = {
      inquiry: parseInquiry,
      pages: parseSupportedPages,
      serial: parseSerialNumber,
      identification: (data: Uint8Array) => wwidOf(parseDesignators(data) ?? []),
      limits: parseBlockLimits,
      provisioning: parseProvisioning,
      groups: parseTargetPortGroups,
      groupsExtended: parseTargetPortGroups,
      copyLimits: parseCopyLimits,
      capacity16: parseReadCapacity16,
      mode: parseModeSense6,
      keys: parseReadKeys,
      reservation: parseReadReservation,
      capabilities: parseReserveCapabilities,
      fullStatus: parseFullStatus,
    } satisfies Record<keyof typeof lio, (data: Uint8Array) => unknown>;
    for (const [name, parse] of Object.entries(parsers)) {
      const bytes = hex(lio[name as keyof typeof lio]);
      for (let i = 0; i <= bytes.length; i++) parse(bytes.subarray(0, i));
      for (let i = 0; i < bytes.length; i++) {
        for (const mask of [0x01, 0x80, 0xff]) {
          const changed = Buffer.from(bytes);
          changed[i]! ^= mask;
          parse(changed);
        }
      }
    }
  });
});
