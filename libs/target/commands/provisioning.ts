import {
  type LogicalUnit,
  UNMAP_BYTES_MAX,
  UNMAP_DESCRIPTORS_MAX,
  WRITE_SAME_BYTES_MAX,
} from '../logical-unit.ts';
import { Sense } from '../scsi-codes.ts';
import type { ScsiTask } from '../scsi-task.ts';
import { checkRange, checkWritable, decodeRange, wantExactly } from './block-range.ts';
import { type Command, u16, u32, u64 } from './command.ts';

const UNMAP_HEADER_BYTES = 8;
const UNMAP_DESCRIPTOR_BYTES = 16;

/** Most descriptors of one GET LBA STATUS answer; the initiator asks again from there. */
const LBA_STATUS_DESCRIPTORS_MAX = 256;

/** WRITE SAME bits of byte 1 (SBC-3 5.43): protection, ANCHOR, PBDATA and LBDATA are not supported. */
const WRITE_SAME_REFUSED = 0xe0 | 0x10 | 0x04 | 0x02;
const UNMAP_BIT = 0x08;
const NO_DATA_OUT = 0x01;

/** UNMAP: SBC-3 5.26. */
export const unmap: Command = {
  prepare(lu, task) {
    if ((task.cdb[1]! & 0x01) !== 0) return task.fail(Sense.invalidField); // ANCHOR
    const length = u16(task.cdb, 7);
    if (!checkWritable(lu, task)) return;
    if (length > 0 && length < UNMAP_HEADER_BYTES) return task.fail(Sense.parameterListLength);
    task.dataOutBytes = length;
  },
  execute(lu, task) {
    const list = task.dataOut?.subarray(0, task.received);
    if (list === undefined || list.length === 0) return;
    if (list.length < UNMAP_HEADER_BYTES) return task.fail(Sense.parameterListLength);
    const bytes = Math.min(u16(list, 2), list.length - UNMAP_HEADER_BYTES);
    const count = Math.floor(bytes / UNMAP_DESCRIPTOR_BYTES);
    if (count > UNMAP_DESCRIPTORS_MAX) return task.fail(Sense.invalidParameter);
    const ranges = Array.from({ length: count }, (_, i) => {
      const at = UNMAP_HEADER_BYTES + i * UNMAP_DESCRIPTOR_BYTES;
      return { lba: u64(list, at), blocks: u32(list, at + 8) };
    });
    let total = 0;
    for (const { lba, blocks } of ranges) {
      if (lba + blocks > lu.blocks) return task.fail(Sense.lbaOutOfRange);
      total += blocks;
    }
    if (total * lu.blockBytes > UNMAP_BYTES_MAX) return task.fail(Sense.invalidParameter);
    for (const { lba, blocks } of ranges) zeroBlocks(lu, lba, blocks);
  },
};

function zeroBlocks(lu: LogicalUnit, lba: number, blocks: number): void {
  lu.disk.zero(lba * lu.blockBytes, blocks * lu.blockBytes);
}

/** WRITE SAME (10), (16): SBC-3 5.43, 5.44. Zero blocks means up to the end of the unit (WSNZ=0). */
export const writeSame: Command = {
  prepare(lu, task) {
    const flags = task.cdb[1]!;
    const noData = hasNoData(task);
    const refused = task.opcode === 0x93 ? WRITE_SAME_REFUSED : WRITE_SAME_REFUSED | NO_DATA_OUT;
    if ((flags & refused) !== 0) return task.fail(Sense.invalidField);
    decodeRange(task);
    if (!checkWritable(lu, task) || !checkRange(lu, task)) return;
    if (task.blocks === 0) task.blocks = lu.blocks - task.lba;
    if (task.blocks * lu.blockBytes > WRITE_SAME_BYTES_MAX) return task.fail(Sense.invalidField);
    wantExactly(task, noData ? 0 : lu.blockBytes);
  },
  execute(lu, task) {
    if (hasNoData(task)) return zeroBlocks(lu, task.lba, task.blocks);
    const pattern = task.dataOut!;
    // UNMAP asks to deallocate where reading would give the same (LBPRZ); else the pattern is written.
    const isZero = pattern.every((byte) => byte === 0);
    if (isZero && (task.cdb[1]! & UNMAP_BIT) !== 0) return zeroBlocks(lu, task.lba, task.blocks);
    for (let i = 0; i < task.blocks; i++) {
      lu.disk.write((task.lba + i) * lu.blockBytes, pattern);
    }
  },
};

function hasNoData(task: ScsiTask): boolean {
  return task.opcode === 0x93 && (task.cdb[1]! & NO_DATA_OUT) !== 0;
}

/** GET LBA STATUS: SBC-3 5.4. */
export const getLbaStatus: Command = {
  prepare(lu, task) {
    task.lba = u64(task.cdb, 2);
    if (task.lba >= lu.blocks) task.fail(Sense.lbaOutOfRange);
  },
  execute(lu, task) {
    const allocationLength = u32(task.cdb, 10);
    const room = Math.floor((allocationLength - 8) / 16);
    const most = Math.max(1, Math.min(room, LBA_STATUS_DESCRIPTORS_MAX));
    const descriptors: Buffer[] = [];
    let lba = task.lba;
    while (lba < lu.blocks && descriptors.length < most) {
      const { allocated, bytes } = lu.disk.extent(lba * lu.blockBytes, UNMAP_BYTES_MAX);
      const descriptor = Buffer.alloc(16);
      descriptor.writeBigUInt64BE(BigInt(lba), 0);
      descriptor.writeUInt32BE(bytes / lu.blockBytes, 8);
      descriptor[12] = allocated ? 0 : 1;
      descriptors.push(descriptor);
      lba += bytes / lu.blockBytes;
    }
    const header = Buffer.alloc(8);
    header.writeUInt32BE(4 + descriptors.length * 16, 0);
    task.answer(Buffer.concat([header, ...descriptors]), allocationLength);
  },
};
