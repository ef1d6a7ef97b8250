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
    case 3: // variable length, READ (32) and WRITE (32)
      into.lba = u64(cdb, 12);
      into.blocks = u32(cdb, 28);
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
  0x08, 0x0a, 0x28, 0x2a, 0x2e, 0x2f, 0x35, 0x41, 0x53, 0x88, 0x8a, 0x8e, 0x8f, 0x91, 0x93, 0xa8,
  0xaa, 0xae, 0xaf,
]);
const COMPARE_AND_WRITE = 0x89;

/** The blocks that a CDB names itself, or null. (UNMAP names them in its data.) */
export function rangeOf(cdb: Buffer): BlockRange | null {
  if (cdb[0] === COMPARE_AND_WRITE) return { lba: u64(cdb, 2), blocks: cdb[13]! };
  if (!RANGED.has(cdb[0]!) && !isLongReadOrWrite(cdb)) return null;
  const range = { lba: 0, blocks: 0 };
  decodeInto(range, cdb);
  return range;
}

const VARIABLE_LENGTH = 0x7f;
const LONG_CDB_BYTES = 32;

/** SBC-3 5.12, 5.36: the service actions of variable length CDBs that are served here. */
export const LongAction = { read: 0x0009, write: 0x000b } as const;

/** The service action of a whole READ (32) or WRITE (32), or null. */
export function longActionOf(cdb: Buffer): number | null {
  const isLong = cdb[0] === VARIABLE_LENGTH && cdb.length === LONG_CDB_BYTES;
  return isLong && cdb[7] === LONG_CDB_BYTES - 8 ? u16(cdb, 8) : null;
}

function isLongReadOrWrite(cdb: Buffer): boolean {
  const action = longActionOf(cdb);
  return action === LongAction.read || action === LongAction.write;
}

/** The byte with the protection, DPO and FUA bits. */
export function flagsOf(cdb: Buffer): number {
  return cdb[0] === VARIABLE_LENGTH ? cdb[10]! : cdb[1]!;
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
