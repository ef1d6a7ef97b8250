import { describe, expect, test } from 'vitest';
import { decodeLun, encodeLun } from './commands/unit-info.ts';
import { DeviceServer } from './device-server.ts';
import { LogicalUnit, type LunOptions } from './logical-unit.ts';
import { Nexus } from './nexus.ts';
import { ScsiTask } from './scsi-task.ts';

const MIB = 1024 * 1024;
const NAME = 'iqn.2026-11.test:target';

function server(...luns: Partial<LunOptions>[]): DeviceServer {
  const device = new DeviceServer();
  const options = luns.length === 0 ? [{}] : luns;
  for (const lun of options) {
    const unit = new LogicalUnit(NAME, { lun: 0, sizeBytes: MIB, ...lun });
    device.units.set(unit.lun, unit);
  }
  return device;
}

interface Result {
  status: number;
  sense: string;
  data: Buffer;
  task: ScsiTask;
}

const nexus = new Nexus('iqn.2026-11.test:initiator', '800000000001', 1);

/** Runs a command to its end, with `dataOut` as its data. */
function run(device: DeviceServer, bytes: readonly number[], dataOut?: Buffer, lun = 0): Result {
  const cdb = Buffer.alloc(16);
  cdb.set(bytes);
  const lu = device.units.get(lun) ?? null;
  const task = new ScsiTask(cdb, nexus, lu, lun, dataOut?.length ?? 0);
  device.prepare(task);
  if (!task.failed && task.dataOutBytes > 0 && dataOut !== undefined) {
    task.dataOut = Buffer.from(dataOut.subarray(0, task.dataOutBytes));
    task.received = task.dataOut.length;
  }
  if (!task.failed) device.execute(task);
  const { sense } = task;
  let data = task.dataIn ?? Buffer.alloc(0);
  if (task.readBytes > 0) {
    data = Buffer.alloc(task.readBytes);
    lu!.disk.read(task.readOffset, data);
  }
  const text = sense === null ? '' : [sense[2]!, sense[12]!, sense[13]!].map(hex).join('/');
  return { status: task.status, sense: text, data, task };
}

const hex = (value: number): string => value.toString(16).padStart(2, '0');
const u32 = (value: number): number[] => [
  value >>> 24,
  (value >>> 16) & 255,
  (value >>> 8) & 255,
  value & 255,
];
const u16 = (value: number): number[] => [value >> 8, value & 255];
const cdb10 = (opcode: number, lba: number, blocks: number, flags = 0): number[] => [
  opcode,
  flags,
  ...u32(lba),
  0,
  ...u16(blocks),
  0,
];
const cdb16 = (opcode: number, lba: number, blocks: number, flags = 0): number[] => [
  opcode,
  flags,
  ...u32(0),
  ...u32(lba),
  ...u32(blocks),
  0,
  0,
];

describe('reading and writing', () => {
  test('every form of READ sees what every form of WRITE wrote', () => {
    const device = server();
    const writes = [
      [0x0a, 0, 0, 1, 2, 0],
      cdb10(0x2a, 1, 2),
      [0xaa, 0, ...u32(1), ...u32(2), 0, 0],
      cdb16(0x8a, 1, 2),
      cdb10(0x2e, 1, 2),
    ];
    const reads = [
      [0x08, 0, 0, 1, 2, 0],
      cdb10(0x28, 1, 2),
      [0xa8, 0, ...u32(1), ...u32(2), 0, 0],
      cdb16(0x88, 1, 2),
    ];
    writes.forEach((write, i) => {
      const data = Buffer.alloc(1024, i + 1);
      expect(run(device, write, data).status).toBe(0);
      for (const read of reads) expect(run(device, read).data.equals(data)).toBe(true);
    });
  });

  test('READ (6) and WRITE (6) of 0 blocks mean 256', () => {
    const device = server();
    expect(run(device, [0x08, 0, 0, 0, 0, 0]).data.length).toBe(256 * 512);
    expect(run(device, [0x0a, 0, 0, 0, 0, 0], Buffer.alloc(256 * 512)).task.dataOutBytes).toBe(
      256 * 512,
    );
  });

  test('the end of the unit is a border', () => {
    const device = server();
    expect(run(device, cdb10(0x28, 2047, 1)).status).toBe(0);
    expect(run(device, cdb10(0x28, 2048, 0)).status).toBe(0);
    for (const cdb of [
      cdb10(0x28, 2047, 2),
      cdb10(0x28, 2049, 0),
      cdb16(0x88, 0xffffffff, 1),
      [0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 1, 0, 0],
      cdb10(0x2a, 2048, 1),
      cdb10(0x2f, 2048, 1),
      cdb10(0x35, 2049, 0),
    ]) {
      expect(run(device, cdb).sense).toBe('05/21/00');
    }
  });

  test('protection fields, and transfers longer than the limit, are refused', () => {
    const device = server({ sizeBytes: 64 * MIB });
    expect(run(device, cdb10(0x28, 0, 1, 0x20)).sense).toBe('05/24/00');
    expect(run(device, cdb10(0x2a, 0, 1, 0x20)).sense).toBe('05/24/00');
    expect(run(device, cdb16(0x88, 0, 65536)).status).toBe(0);
    expect(run(device, cdb16(0x88, 0, 65537)).sense).toBe('05/24/00');
  });

  test('a write-protected unit reads and does not write', () => {
    const device = server({ readOnly: true });
    expect(run(device, cdb10(0x28, 0, 1)).status).toBe(0);
    for (const cdb of [cdb10(0x2a, 0, 1), cdb10(0x41, 0, 1), cdb10(0x42, 0, 24)]) {
      expect(run(device, cdb, Buffer.alloc(512)).sense).toBe('07/27/00');
    }
    expect(run(device, [0x1a, 0, 0x3f, 0, 255, 0]).data[2]! & 0x80).toBe(0x80);
  });

  test('COMPARE AND WRITE replaces what matches, and says where the rest differs', () => {
    const device = server();
    const cdb = [0x89, 0, ...u32(0), ...u32(4), 0, 0, 0, 2, 0, 0];
    const old = Buffer.alloc(1024);
    const young = Buffer.alloc(1024, 7);
    expect(run(device, cdb, Buffer.concat([old, young])).status).toBe(0);
    const wrong = Buffer.from(young);
    wrong[700] = 0;
    const miss = run(device, cdb, Buffer.concat([wrong, old]));
    expect(miss.sense).toBe('0e/1d/00');
    expect(miss.task.sense!.readUInt32BE(3)).toBe(700);
    expect(run(device, cdb10(0x28, 4, 2)).data.equals(young)).toBe(true);
    expect(run(device, cdb, Buffer.alloc(1024)).sense).toBe('05/24/00');
    const tooLong = [...cdb];
    tooLong[13] = 129;
    expect(run(device, tooLong, Buffer.alloc(129 * 1024)).sense).toBe('05/24/00');
  });

  test('VERIFY compares when it is told to', () => {
    const device = server();
    const data = Buffer.alloc(1024, 3);
    run(device, cdb10(0x2a, 0, 2), data);
    expect(run(device, cdb10(0x2f, 0, 2)).status).toBe(0);
    expect(run(device, cdb10(0x2f, 0, 2, 0x02), data).status).toBe(0);
    expect(run(device, cdb10(0x2f, 0, 2, 0x06), data.subarray(0, 512)).status).toBe(0);
    const wrong = Buffer.from(data);
    wrong[512] = 0;
    const miss = run(device, cdb10(0x2f, 0, 2, 0x02), wrong);
    expect(miss.sense).toBe('0e/1d/00');
    expect(miss.task.sense!.readUInt32BE(3)).toBe(512);
    expect(run(device, cdb10(0x2f, 0, 2, 0x04)).sense).toBe('05/24/00');
  });
});

describe('provisioning', () => {
  const unmapList = (...ranges: [lba: number, blocks: number][]): Buffer => {
    const list = Buffer.alloc(8 + 16 * ranges.length);
    list.writeUInt16BE(list.length - 2, 0);
    list.writeUInt16BE(16 * ranges.length, 2);
    ranges.forEach(([lba, blocks], i) => {
      list.writeUInt32BE(lba, 8 + 16 * i + 4);
      list.writeUInt32BE(blocks, 8 + 16 * i + 8);
    });
    return list;
  };

  test('UNMAP frees memory, reads as zeroes, and changes nothing when a range is wrong', () => {
    const device = server();
    const { disk } = device.units.get(0)!;
    disk.write(0, Buffer.alloc(MIB, 1));
    const bad = unmapList([0, 128], [2048, 1]);
    expect(run(device, cdb10(0x42, 0, bad.length), bad).sense).toBe('05/21/00');
    expect(disk.allocatedBytes).toBe(MIB);
    const list = unmapList([0, 128], [130, 2]);
    expect(run(device, cdb10(0x42, 0, list.length), list).status).toBe(0);
    expect(disk.allocatedBytes).toBe(MIB - 65536);
    const { data } = run(device, cdb10(0x28, 129, 4));
    expect([data[0], data[512], data[1024], data[1536]]).toEqual([1, 0, 0, 1]);
    expect(run(device, cdb10(0x42, 0, 0)).status).toBe(0);
    expect(run(device, cdb10(0x42, 0, 4), Buffer.alloc(4)).sense).toBe('05/1a/00');
    expect(run(device, cdb10(0x42, 0, 24, 1), Buffer.alloc(24)).sense).toBe('05/24/00');
    const many = unmapList(...Array.from({ length: 257 }, (): [number, number] => [0, 1]));
    expect(run(device, cdb10(0x42, 0, many.length), many).sense).toBe('05/26/00');
  });

  test('WRITE SAME writes its block, unmaps only zeroes, and goes to the end for 0 blocks', () => {
    const device = server();
    const { disk } = device.units.get(0)!;
    const block = Buffer.alloc(512, 9);
    expect(run(device, cdb10(0x41, 2, 3, 0x08), block).status).toBe(0);
    expect(run(device, cdb10(0x28, 1, 5)).data.filter((byte) => byte === 9).length).toBe(3 * 512);
    expect(run(device, cdb16(0x93, 0, 128, 0x08), Buffer.alloc(512)).status).toBe(0);
    expect(disk.allocatedBytes).toBe(0);
    expect(run(device, cdb16(0x93, 1920, 0), block).status).toBe(0);
    expect(disk.allocatedBytes).toBe(65536);
    expect(run(device, cdb16(0x93, 0, 0, 0x09)).status).toBe(0); // no data-out
    expect(disk.allocatedBytes).toBe(0);
    for (const flags of [0x20, 0x10, 0x04, 0x02, 0x01]) {
      expect(run(device, cdb10(0x41, 0, 1, flags), block).sense).toBe('05/24/00');
    }
    expect(run(device, cdb10(0x41, 0, 1), Buffer.alloc(1024)).sense).toBe('05/24/00');
  });

  test('GET LBA STATUS describes the unit from the block asked for', () => {
    const device = server();
    device.units.get(0)!.disk.write(65536, Buffer.alloc(1, 1));
    const cdb = [0x9e, 0x12, ...u32(0), ...u32(10), ...u32(512), 0, 0];
    const { data } = run(device, cdb);
    expect(data.readUInt32BE(0)).toBe(4 + 3 * 16);
    const rows = [0, 1, 2].map((i) => [
      data.readUInt32BE(8 + 16 * i + 4),
      data.readUInt32BE(8 + 16 * i + 8),
      data[8 + 16 * i + 12],
    ]);
    expect(rows).toEqual([
      [10, 118, 1],
      [128, 128, 0],
      [256, 1792, 1],
    ]);
    expect(run(device, [0x9e, 0x12, ...u32(0), ...u32(2048), ...u32(24)]).sense).toBe('05/21/00');
  });
});

describe('what the unit says of itself', () => {
  test('INQUIRY: the standard page, the pages it lists, and nothing else', () => {
    const device = server({ wwid: '3123456789abcdef' });
    const { data } = run(device, [0x12, 0, 0, 0, 255, 0]);
    expect(data[0]).toBe(0);
    expect(data.toString('ascii', 8, 36)).toBe('ORION   RAM DISK        0001');
    const pages = [...run(device, [0x12, 1, 0, 0, 255, 0]).data.subarray(4)];
    expect(pages).toEqual([0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
    for (const page of pages) {
      const answer = run(device, [0x12, 1, page, 0, 255, 0]).data;
      expect([answer[1], answer.readUInt16BE(2) + 4]).toEqual([page, answer.length]);
    }
    expect(run(device, [0x12, 1, 0x80, 0, 255, 0]).data.toString('ascii', 4)).toBe(
      '3123456789abcdef',
    );
    expect(run(device, [0x12, 1, 0x83, 0, 255, 0]).data.toString('hex', 4, 16)).toBe(
      '010300083123456789abcdef',
    );
    expect(run(device, [0x12, 1, 0xb9, 0, 255, 0]).sense).toBe('05/24/00');
    expect(run(device, [0x12, 0, 0x80, 0, 255, 0]).sense).toBe('05/24/00');
    expect(run(device, [0x12, 0, 0, 0, 5, 0]).data.length).toBe(5);
  });

  test('the same unit has the same identity on every portal, and two units differ', () => {
    const device = server({ lun: 0 }, { lun: 1 });
    const id = (lun: number): string => device.units.get(lun)!.wwid;
    expect(id(0)).not.toBe(id(1));
    expect(id(0)).toBe(server().units.get(0)!.wwid);
    expect(id(0)).toMatch(/^3[0-9a-f]{15}$/);
  });

  test('READ CAPACITY in both forms, for both block sizes', () => {
    for (const blockBytes of [512, 4096] as const) {
      const device = server({ blockBytes });
      const last = MIB / blockBytes - 1;
      const short = run(device, [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).data;
      expect([short.readUInt32BE(0), short.readUInt32BE(4)]).toEqual([last, blockBytes]);
      const long = run(device, [0x9e, 0x10, ...u32(0), ...u32(0), ...u32(32)]).data;
      expect([Number(long.readBigUInt64BE(0)), long.readUInt32BE(8)]).toEqual([last, blockBytes]);
      expect(blockBytes * 2 ** (long[13]! & 15)).toBe(4096);
      expect(long[14]).toBe(0xc0);
    }
    const huge = server({ sizeBytes: 2 ** 45 });
    expect(run(huge, [0x25]).data.readUInt32BE(0)).toBe(0xffffffff);
    expect(run(huge, [0x25, 0, 0, 0, 0, 1]).sense).toBe('05/24/00');
  });

  test('MODE SENSE: caching and control pages, write cache as it is, saved pages not', () => {
    for (const writeCache of [false, true]) {
      const device = server({ writeCache });
      const six = run(device, [0x1a, 0x08, 0x08, 0, 255, 0]).data;
      expect([six[0]! + 1, six[3], six[4], six[6]! & 4]).toEqual([24, 0, 8, writeCache ? 4 : 0]);
      expect(six[2]).toBe(0x10); // DPOFUA
    }
    const device = server();
    const ten = run(device, [0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255, 0]).data;
    expect(ten.readUInt16BE(0) + 2).toBe(ten.length);
    expect(ten.readUInt16BE(6)).toBe(8);
    expect(run(device, [0x1a, 0, 0xc8, 0, 255, 0]).sense).toBe('05/39/00');
    expect(run(device, [0x1a, 0, 0x1c, 0, 255, 0]).sense).toBe('05/24/00');
  });

  test('REPORT LUNS and INQUIRY work without a LUN 0, everything else says there is none', () => {
    const device = server({ lun: 1 }, { lun: 300 });
    const { data } = run(device, [0xa0, 0, 0, 0, 0, 0, ...u32(64), 0, 0]);
    expect(data.toString('hex')).toBe('00000010000000000001000000000000412c000000000000');
    expect(run(device, [0x12, 0, 0, 0, 255, 0]).data[0]).toBe(0x7f);
    expect(run(device, [0x00]).sense).toBe('05/25/00');
    expect(run(device, [0x03, 0, 0, 0, 255, 0]).data.subarray(2, 3)[0]).toBe(5);
    expect(run(device, [0xa0, 0, 3, 0, 0, 0, ...u32(64), 0, 0]).sense).toBe('05/24/00');
    expect(run(device, [0xa0, 0, 0, 0, 0, 0, ...u32(8), 0, 0]).sense).toBe('05/24/00');
  });

  test('LUN numbers go both ways through their 8 bytes', () => {
    const bytes = Buffer.alloc(8);
    for (const lun of [0, 1, 255, 256, 16383]) {
      encodeLun(lun, bytes, 0);
      expect(decodeLun(bytes, 0)).toBe(lun);
    }
    expect(decodeLun(Buffer.from('c101000000000000', 'hex'), 0)).toBe(-1);
    expect(decodeLun(Buffer.from('0001000200000000', 'hex'), 0)).toBe(-1);
  });
});

describe('unit attentions and what is unknown', () => {
  test('a unit attention is reported once, not to INQUIRY, and REQUEST SENSE takes it', () => {
    const device = server();
    nexus.attend(0, [6, 0x2a, 0x09]);
    nexus.attend(0, [6, 0x2a, 0x09]);
    expect(run(device, [0x12, 0, 0, 0, 255, 0]).status).toBe(0);
    expect(run(device, [0x00]).sense).toBe('06/2a/09');
    expect(run(device, [0x00]).status).toBe(0);
    nexus.attend(0, [6, 0x2a, 0x09]);
    nexus.attend(0, [6, 0x29, 0x00]); // swallows what was before it
    expect(run(device, [0x03, 0, 0, 0, 255, 0]).data[12]).toBe(0x29);
    expect(run(device, [0x03, 1, 0, 0, 255, 0]).data.toString('hex')).toBe('7200000000000000');
    expect(run(device, [0x00]).status).toBe(0);
  });

  test('opcodes and service actions that nobody knows are ILLEGAL REQUEST', () => {
    const device = server();
    for (const opcode of [0x16, 0x17, 0x5e, 0x5f, 0x83, 0xa3, 0xff]) {
      expect(run(device, [opcode]).sense).toBe('05/20/00');
    }
    expect(run(device, [0x9e, 0x11]).sense).toBe('05/24/00');
  });
});
