import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { OrionError } from '../core/errors.ts';
import { JSON_BYTES_MAX } from '../link/frame.ts';
import type { UnitAttention } from '../multipath/path.ts';
import { buildSense } from '../scsi/sense.ts';
import type { Designator } from '../scsi/vpd.ts';
import { IscsiLun } from './lun.ts';
import { EXTENTS_MAX } from './lun-extents.ts';
import type { ScsiCommand } from './pdu/index.ts';
import { Opcode } from './pdu/opcodes.ts';
import { reportLuns } from './report-luns.ts';
import { facts, LUN, pattern, type Rig, rig, watch } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const refused = (ascq: 0x20 | 0x24) => ({ sense: buildSense(5, ascq, 0) });

/** Answers every command by `answer`: sense, data, or nothing for GOOD. */
function serve(
  r: Rig,
  answer: (pdu: ScsiCommand, data: Buffer) => { sense?: Buffer; data?: Buffer } | undefined,
): void {
  const firstData = new Map<number, Buffer>();
  r.target.onPdu = ({ pdu, data }) => {
    if (pdu.opcode !== Opcode.ScsiCommand) return;
    firstData.set(pdu.itt, data);
    const what = answer(pdu, data) ?? {};
    if (what.data === undefined) return r.target.respond(pdu, what);
    const short = pdu.edtl - what.data.length;
    r.target.dataIn(pdu, what.data.subarray(0, pdu.edtl), {
      status: 0,
      flags:
        short > 0
          ? { underflow: true, residual: short }
          : short < 0
            ? { overflow: true, residual: -short }
            : {},
    });
  };
}

describe('zeroes and trim', () => {
  const ops = (r: Rig) =>
    r.commands().map(({ cdb }) => `${cdb[0]!.toString(16)}${(cdb[1]! & 8) !== 0 ? 'u' : ''}`);

  test('WRITE SAME(16) with UNMAP, without, WRITE SAME(10), plain writes: what is refused is not tried again', async () => {
    const r = await rig();
    serve(r, ({ cdb }) => {
      if (cdb[0] === 0x93) return refused(0x24);
      return cdb[0] === 0x41 ? refused(0x20) : undefined;
    });
    await r.lun.writeZeroes(0, 4096, 0, NO_DEADLINE);
    expect(ops(r)).toEqual(['93u', '93', '41', '2a']);
    await r.lun.writeZeroes(0, 4096, 0, NO_DEADLINE);
    expect(ops(r).slice(4)).toEqual(['2a']);
  });

  test('UNMAP is asked for only where blocks then read as zeroes', async () => {
    const r = await rig(
      undefined,
      {},
      { caps: { ...facts.caps, fastZero: false }, readsZeroes: false },
    );
    serve(r, () => undefined);
    await r.lun.writeZeroes(0, 4096, 0, NO_DEADLINE);
    expect(ops(r)).toEqual(['93']);
  });

  test('a trim that the device refuses after all writes nothing', async () => {
    const r = await rig(undefined, {}, { unmapBlocks: 0 });
    serve(r, () => refused(0x24));
    await r.lun.trim(0, 4096, 0, NO_DEADLINE);
    expect(ops(r)).toEqual(['93u']);
  });

  test('pieces of an UNMAP keep to its length, and end at its granularity', async () => {
    const r = await rig(
      undefined,
      {},
      { unmapBlocks: 100, unmapGranularityBlocks: 32, unmapAlignmentBlock: 8 },
    );
    const pieces: [number, number][] = [];
    serve(r, (_, data) => {
      pieces.push([Number(data.readBigUInt64BE(8)), data.readUInt32BE(16)]);
      return undefined;
    });
    await r.lun.trim(10 * 512, 300 * 512, 0, NO_DEADLINE);
    expect(pieces.reduce((sum, [, blocks]) => sum + blocks, 0)).toBe(300);
    expect(pieces.every(([, blocks]) => blocks <= 100)).toBe(true);
    let next = 10;
    for (const [index, [lba, blocks]] of pieces.entries()) {
      expect(lba).toBe(next);
      next = lba + blocks;
      if (index < pieces.length - 1) expect((next - 8) % 32).toBe(0);
    }
  });
});

describe('extents', () => {
  const withExtents = { caps: { ...facts.caps, extents: true } };
  const status = (...ranges: [lba: number, blocks: number, status: number][]): Buffer => {
    const data = Buffer.alloc(8 + 16 * ranges.length);
    data.writeUInt32BE(data.length - 4, 0);
    for (const [i, [lba, blocks, provisioning]] of ranges.entries()) {
      data.writeBigUInt64BE(BigInt(lba), 8 + 16 * i);
      data.writeUInt32BE(blocks, 16 + 16 * i);
      data[20 + 16 * i] = provisioning;
    }
    return data;
  };

  test('are asked for page by page, merged and cut to what was asked', async () => {
    const r = await rig(undefined, {}, withExtents);
    serve(r, ({ cdb }) => {
      const lba = Number(cdb.readBigUInt64BE(2));
      if (lba === 8) return { data: status([0, 16, 0], [16, 8, 0]) };
      return { data: status([lba, 8, 1], [lba + 8, 1000, 2]) };
    });
    expect(await r.lun.extents(8 * 512, 100 * 512, NO_DEADLINE)).toEqual([
      { offset: 8 * 512, length: 16 * 512, allocated: true, zero: false },
      { offset: 24 * 512, length: 84 * 512, allocated: false, zero: true },
    ]);
  });

  test('of a device whose deallocated blocks read as anything are not called zero', async () => {
    const r = await rig(undefined, {}, { ...withExtents, readsZeroes: false });
    serve(r, () => ({ data: status([0, 1000, 1]) }));
    expect(await r.lun.extents(0, 512, NO_DEADLINE)).toEqual([
      { offset: 0, length: 512, allocated: false, zero: false },
    ]);
  });

  test.each([
    ['refuses the command', () => refused(0x20)],
    ['fails', () => ({ sense: buildSense(4, 0x44, 0) })],
    ['tells of another place', () => ({ data: status([500, 8, 1]) })],
    ['tells of nothing', () => ({ data: status() })],
    ['says too little', () => ({ data: Buffer.alloc(4) })],
  ])('count as allocated where the device %s', async (_, answer) => {
    const r = await rig(undefined, {}, withExtents);
    serve(r, answer);
    expect(await r.lun.extents(0, 8192, NO_DEADLINE)).toEqual([
      { offset: 0, length: 8192, allocated: true, zero: false },
    ]);
  });

  test('are not asked for again where the command is not known', async () => {
    const r = await rig(undefined, {}, withExtents);
    serve(r, () => refused(0x20));
    await r.lun.extents(0, 8192, NO_DEADLINE);
    await r.lun.extents(0, 8192, NO_DEADLINE);
    expect(r.commands()).toHaveLength(1);
  });

  test('are no more than fit a frame of the link, and the rest can be asked for', async () => {
    const r = await rig(undefined, {}, withExtents);
    serve(r, ({ cdb }) => {
      const lba = Number(cdb.readBigUInt64BE(2));
      const one = (_: unknown, i: number): [number, number, number] => [lba + i, 1, i & 1];
      return { data: status(...Array.from({ length: 256 }, one)) };
    });
    const from = (1 << 30) - 4096 * 512;
    const found = await r.lun.extents(from, 4096 * 512, NO_DEADLINE);
    expect(found).toHaveLength(EXTENTS_MAX);
    expect(JSON.stringify(found).length).toBeLessThan(JSON_BYTES_MAX);
    const { offset, length } = found.at(-1)!;
    const rest = await r.lun.extents(offset + length, 512, NO_DEADLINE);
    expect(rest).toMatchObject([{ offset: offset + length, length: 512 }]);
  });

  test('stop after a bounded number of pages, with what is known so far', async () => {
    const r = await rig(undefined, {}, withExtents);
    serve(r, ({ cdb }) => ({ data: status([Number(cdb.readBigUInt64BE(2)), 1, 1]) }));
    expect(await r.lun.extents(0, 1 << 20, NO_DEADLINE)).toEqual([
      { offset: 0, length: 16 * 512, allocated: false, zero: true },
    ]);
  });
});

describe('copies', () => {
  const designator: Designator = {
    type: 3,
    codeSet: 1,
    association: 0,
    bytes: Buffer.alloc(16, 6),
  };
  const LUN2 = Buffer.from('0002000000000000', 'hex');

  async function pair(over = {}) {
    const r = await rig(undefined, {}, { copyDesignator: designator, ...over });
    const identity = { ...facts.identity, wwid: 'naa:2' };
    const to = new IscsiLun(r.session, LUN2, {
      ...facts,
      copyDesignator: designator,
      identity,
      ...over,
    });
    return { r, to };
  }

  /** Limits of one segment of `blocks` blocks. */
  const limits = (segments: number, blocks: number): Buffer => {
    const data = Buffer.alloc(46);
    data.writeUInt16BE(2, 8);
    data.writeUInt16BE(segments, 10);
    data.writeUInt32BE(blocks * 512, 16);
    data[43] = 2;
    data[44] = 0x02;
    data[45] = 0xe4;
    return data;
  };

  test('are done by the target, in segments that it takes', async () => {
    const { r, to } = await pair();
    const segments: number[][] = [];
    serve(r, ({ cdb }, data) => {
      if (cdb[0] === 0x84) return { data: limits(2, 100) };
      expect(cdb[0]).toBe(0x83);
      expect(data.readUInt32BE(8)).toBe(data.length - 80);
      for (let at = 80; at < data.length; at += 28) {
        segments.push([
          data.readUInt16BE(at + 10),
          Number(data.readBigUInt64BE(at + 12)),
          Number(data.readBigUInt64BE(at + 20)),
        ]);
      }
      return undefined;
    });
    const result = await r.lun.copyTo(to, 512, 1024, 250 * 512, NO_DEADLINE);
    expect(result).toEqual({ offloadedBytes: 250 * 512 });
    expect(segments).toEqual([
      [100, 1, 2],
      [100, 101, 102],
      [50, 201, 202],
    ]);
    expect(r.commands().every(({ lun }) => lun.equals(LUN2))).toBe(true);
  });

  test('go through this process where the target refuses', async () => {
    const { r, to } = await pair();
    const bytes = pattern(4096);
    const written: Buffer[] = [];
    serve(r, ({ cdb }, data) => {
      if (cdb[0] === 0x84) return refused(0x24);
      if (cdb[0] === 0x83) return { sense: buildSense(0xa, 0, 0) };
      if (cdb[0] === 0x28) return { data: bytes };
      written.push(Buffer.from(data));
      return undefined;
    });
    expect(await r.lun.copyTo(to, 0, 0, 4096, NO_DEADLINE)).toEqual({ offloadedBytes: 0 });
    expect(Buffer.concat(written).equals(bytes)).toBe(true);
  });

  test('of a part of a block, beyond the end, onto themselves or to a unit that may not be written are refused', async () => {
    const { r, to } = await pair();
    const end = facts.caps.sizeBytes;
    for (const copy of [
      r.lun.copyTo(to, 1, 0, 512, NO_DEADLINE),
      r.lun.copyTo(to, end, 0, 512, NO_DEADLINE),
      r.lun.copyTo(to, 0, end, 512, NO_DEADLINE),
      r.lun.copyTo(r.lun, 0, 512, 1024, NO_DEADLINE),
    ]) {
      await expect(copy).rejects.toBeInstanceOf(OrionError);
    }
    const readOnly = new IscsiLun(r.session, LUN, {
      ...facts,
      caps: { ...facts.caps, readOnly: true },
    });
    await expect(r.lun.copyTo(readOnly, 0, 0, 512, NO_DEADLINE)).rejects.toMatchObject({
      errno: 'EPERM',
    });
    expect(r.commands()).toEqual([]);
  });

  test('that may have run are not sent again', async () => {
    const { r, to } = await pair();
    let copies = 0;
    serve(r, ({ cdb }) => {
      if (cdb[0] === 0x83) {
        copies += 1;
        return { sense: buildSense(0xb, 0, 0) };
      }
      return cdb[0] === 0x28
        ? { data: pattern(512) }
        : cdb[0] === 0x84
          ? { data: limits(1, 100) }
          : undefined;
    });
    await r.lun.copyTo(to, 0, 0, 512, NO_DEADLINE);
    expect(copies).toBe(1);
  });
});

describe('COMPARE AND WRITE', () => {
  test('finds the place itself where the device tells none, or one that cannot be', async () => {
    const r = await rig();
    const expected = pattern(512);
    const held = Buffer.from(expected);
    held[300] = 255 - held[300]!;
    for (const information of [null, 4096]) {
      serve(r, ({ cdb }) =>
        cdb[0] === 0x89 ? { sense: buildSense(0xe, 0x1d, 0, information) } : { data: held },
      );
      expect(await r.lun.compareAndWrite(0, expected, pattern(512), NO_DEADLINE)).toBe(300);
    }
  });
});

describe('REPORT LUNS', () => {
  const list = (count: number): Buffer => {
    const data = Buffer.alloc(8 + 8 * count);
    data.writeUInt32BE(8 * count, 0);
    for (let i = 0; i < count; i++) data.writeUInt32BE(i, 8 + 8 * i + 4);
    return data;
  };

  test('is asked for again in full when it is longer, and LUNs are what the target wrote', async () => {
    const r = await rig();
    serve(r, () => ({ data: list(300) }));
    const luns = await reportLuns(r.session);
    expect(luns).toHaveLength(300);
    expect(luns[299]!.toString('hex')).toBe('000000000000012b');
    expect(r.commands().map(({ edtl }) => edtl)).toEqual([8 + 8 * 256, 8 + 8 * 300]);
  });

  test('of a target that never stops growing, or promises gigabytes, ends', async () => {
    const r = await rig();
    serve(r, ({ edtl }) => {
      const data = list(256);
      data.writeUInt32BE(edtl + 8, 0);
      return { data };
    });
    await reportLuns(r.session);
    expect(r.commands()).toHaveLength(4);
    serve(r, () => ({ data: Buffer.from('fffffff800000000', 'hex') }));
    expect(await reportLuns(r.session)).toEqual([]);
    expect(Math.max(...r.commands().map(({ edtl }) => edtl))).toBe(8 + 8 * 16384);
  });
});

describe('deferred errors', () => {
  test('are about an earlier command for every command: this one is sent again', async () => {
    const r = await rig();
    const sense = buildSense(3, 0x0c, 0);
    sense[0] = 0x71;
    let tries = 0;
    const heard: UnitAttention[] = [];
    r.lun.onUnitAttention((attention) => heard.push(attention));
    serve(r, () => (tries++ === 0 ? { sense } : undefined));
    const seen = watch(r.lun.trim(0, 512, 0, NO_DEADLINE));
    await settle();
    expect(seen.state).toBe('done');
    expect(tries).toBe(2);
    // It is told at once: the next flush may go another way.
    expect(heard).toMatchObject([{ asc: 0x0c, deferred: true }]);
    await expect(r.lun.flush(NO_DEADLINE)).rejects.toMatchObject({ code: 'SCSI_DEFERRED_ERROR' });
  });
});
