import { type LogicalUnit, TRANSFER_BYTES_MAX } from '../logical-unit.ts';
import { Sense } from '../scsi-codes.ts';
import type { ScsiTask } from '../scsi-task.ts';
import { u16, u32, u64 } from './command.ts';

export interface BlockRange {
  lba: number;
  blocks: number;
}

/** Where LBA and length stand, by the group code of the opcode (SPC-4 4.2.5.1). */
export function decodeRange(task: ScsiTask): void {
  decodeInto(task, task.cdb);
}

function decodeInto(into: BlockRange, cdb: Buffer): void {
  switch (cdb[0]! >> 5) {
    case 0:
      into.lba = ((cdb[1]! & 0x1f) << 16) | u16(cdb, 2);
      into.blocks = cdb[4] === 0 ? 256 : cdb[4]!;
      return;
    case 1:
    case 2:
      into.lba = u32(cdb, 2);
      into.blocks = u16(cdb, 7);
      return;
    case 4:
      into.lba = u64(cdb, 2);
      into.blocks = u32(cdb, 10);
      return;
    default:
      into.lba = u32(cdb, 2);
      into.blocks = u32(cdb, 6);
  }
}

/** Commands that carry LBA and length where `decodeRange` looks: reads, writes, verifies, flushes, WRITE SAME. */
const RANGED = new Set([
  0x08, 0x0a, 0x28, 0x2a, 0x2e, 0x2f, 0x35, 0x41, 0x88, 0x8a, 0x8e, 0x8f, 0x91, 0x93, 0xa8, 0xaa,
  0xae, 0xaf,
]);
const COMPARE_AND_WRITE = 0x89;

/** The blocks that a CDB names itself, or null. (UNMAP names them in its data.) */
export function rangeOf(cdb: Buffer): BlockRange | null {
  if (cdb[0] === COMPARE_AND_WRITE) return { lba: u64(cdb, 2), blocks: cdb[13]! };
  if (!RANGED.has(cdb[0]!)) return null;
  const range = { lba: 0, blocks: 0 };
  decodeInto(range, cdb);
  return range;
}

/** False, and the task has failed, when the range leaves the disk. */
export function checkRange(lu: LogicalUnit, task: ScsiTask): boolean {
  if (task.lba + task.blocks <= lu.blocks) return true;
  task.fail(Sense.lbaOutOfRange);
  return false;
}

/** False, and the task has failed, when the transfer is longer than the Block Limits page allows. */
export function checkTransfer(lu: LogicalUnit, task: ScsiTask): boolean {
  if (task.blocks * lu.blockBytes <= TRANSFER_BYTES_MAX) return true;
  task.fail(Sense.invalidField);
  return false;
}

/**
 * False, and the task has failed, when the initiator announced another length than the command has. For commands
 * that a part of their data would turn into something else; plain writes take what comes (RFC 7143 §11.4.5.2).
 */
export function wantExactly(task: ScsiTask, bytes: number): boolean {
  if (task.announcedBytes !== bytes) {
    task.fail(Sense.invalidField);
    return false;
  }
  task.dataOutBytes = bytes;
  return true;
}

/** False, and the task has failed, when the unit is write-protected. */
export function checkWritable(lu: LogicalUnit, task: ScsiTask): boolean {
  if (!lu.readOnly) return true;
  task.fail(Sense.writeProtected);
  return false;
}
