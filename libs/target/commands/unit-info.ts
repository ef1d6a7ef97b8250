import { type LogicalUnit, PHYSICAL_BLOCK_BYTES } from '../logical-unit.ts';
import { descriptorSense, fixedSense, Sense, type SenseCode } from '../scsi-codes.ts';
import type { ScsiTask } from '../scsi-task.ts';
import { type Command, u16, u32, u64 } from './command.ts';

const CACHING_PAGE = 0x08;
const CONTROL_PAGE = 0x0a;
const ALL_PAGES = 0x3f;
const ALL_SUBPAGES = 0xff;

/** REPORT LUNS must have room for the header and one LUN (SPC-4 6.33). */
const REPORT_LUNS_BYTES_MIN = 16;

/** TEST UNIT READY: SPC-4 6.47. */
export const testUnitReady: Command = { execute: () => {} };

/** REQUEST SENSE: SPC-4 6.39. A waiting unit attention is what it reports. */
export function requestSense(task: ScsiTask): void {
  const absent: SenseCode = task.lu === null ? Sense.lunNotSupported : Sense.none;
  const code = task.nexus.takeAttention(task.lun) ?? absent;
  const sense = (task.cdb[1]! & 0x01) !== 0 ? descriptorSense(code) : fixedSense(code);
  task.answer(sense, task.cdb[4]!);
}

/** REPORT LUNS: SPC-4 6.33. */
export function reportLuns(task: ScsiTask, luns: readonly number[]): void {
  const select = task.cdb[2]!;
  const allocationLength = u32(task.cdb, 6);
  if (select > 2 || allocationLength < REPORT_LUNS_BYTES_MIN) return task.fail(Sense.invalidField);
  const listed = select === 1 ? [] : luns; // 1: well known units only
  const data = Buffer.alloc(8 + 8 * listed.length);
  data.writeUInt32BE(8 * listed.length, 0);
  for (const [i, lun] of listed.entries()) encodeLun(lun, data, 8 + 8 * i);
  task.answer(data, allocationLength);
}

/** Peripheral addressing up to 255, flat space addressing beyond (SAM-5 4.6.6). */
export function encodeLun(lun: number, into: Buffer, at: number): void {
  into.writeUInt16BE(lun < 256 ? lun : 0x4000 | lun, at);
}

/** The number that an 8-byte LUN stands for, or -1 for forms that no unit here has. */
export function decodeLun(from: Buffer, at: number): number {
  const high = from[at]!;
  const low = from[at + 1]!;
  if (from.readUInt32BE(at + 4) !== 0 || from[at + 2] !== 0 || from[at + 3] !== 0) return -1;
  if (high === 0) return low;
  return high >> 6 === 1 ? ((high & 0x3f) << 8) | low : -1;
}

/** READ CAPACITY (10): SBC-3 5.13. */
export const readCapacity10: Command = {
  execute(lu, task) {
    if ((task.cdb[8]! & 0x01) === 0 && u32(task.cdb, 2) !== 0) return task.fail(Sense.invalidField);
    const data = Buffer.alloc(8);
    data.writeUInt32BE(Math.min(lu.blocks - 1, 0xffffffff), 0);
    data.writeUInt32BE(lu.blockBytes, 4);
    task.answer(data, data.length);
  },
};

/** READ CAPACITY (16): SBC-3 5.14. */
export const readCapacity16: Command = {
  execute(lu, task) {
    if ((task.cdb[14]! & 0x01) === 0 && u64(task.cdb, 2) !== 0)
      return task.fail(Sense.invalidField);
    const data = Buffer.alloc(32);
    data.writeBigUInt64BE(BigInt(lu.blocks - 1), 0);
    data.writeUInt32BE(lu.blockBytes, 8);
    data[13] = Math.log2(PHYSICAL_BLOCK_BYTES / lu.blockBytes);
    data[14] = 0x80 | 0x40; // LBPME, LBPRZ
    task.answer(data, u32(task.cdb, 10));
  },
};

/** MODE SENSE (6), (10): SPC-4 6.11, 6.12. Nothing is changeable or saved. */
export const modeSense: Command = {
  execute(lu, task) {
    const { cdb } = task;
    const isLong = task.opcode === 0x5a;
    const control = cdb[2]! >> 6;
    if (control === 3) return task.fail(Sense.savingNotSupported);
    const pages = modePages(lu, cdb[2]! & 0x3f, cdb[3]!, control === 1);
    if (pages === null) return task.fail(Sense.invalidField);
    const descriptor = (cdb[1]! & 0x08) !== 0 ? Buffer.alloc(0) : blockDescriptor(lu);
    const device = (lu.readOnly ? 0x80 : 0) | 0x10; // WP, DPOFUA
    const bodyBytes = descriptor.length + pages.length;
    const header = isLong
      ? Buffer.from([0, 6 + bodyBytes, 0, device, 0, 0, 0, descriptor.length])
      : Buffer.from([3 + bodyBytes, 0, device, descriptor.length]);
    task.answer(Buffer.concat([header, descriptor, pages]), isLong ? u16(cdb, 7) : cdb[4]!);
  },
};

function modePages(
  lu: LogicalUnit,
  page: number,
  subpage: number,
  changeable: boolean,
): Buffer | null {
  if (subpage !== 0 && !(subpage === ALL_SUBPAGES && page === ALL_PAGES)) return null;
  const caching = Buffer.alloc(20);
  const controlPage = Buffer.alloc(12);
  if (!changeable) {
    caching[2] = lu.disk.volatileCache ? 0x04 : 0; // WCE
    controlPage[2] = 0x02; // GLTSD
    controlPage[3] = 0x10; // unrestricted reordering
  }
  caching[0] = CACHING_PAGE;
  caching[1] = caching.length - 2;
  controlPage[0] = CONTROL_PAGE;
  controlPage[1] = controlPage.length - 2;
  if (page === CACHING_PAGE) return caching;
  if (page === CONTROL_PAGE) return controlPage;
  return page === ALL_PAGES ? Buffer.concat([caching, controlPage]) : null;
}

function blockDescriptor(lu: LogicalUnit): Buffer {
  const data = Buffer.alloc(8);
  data.writeUInt32BE(Math.min(lu.blocks, 0xffffffff), 0);
  data.writeUInt32BE(lu.blockBytes, 4); // 24 bits, after a reserved byte
  return data;
}
