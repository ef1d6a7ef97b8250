import { COMPARE_BYTES_MAX, type LogicalUnit } from '../logical-unit.ts';
import { Sense } from '../scsi-codes.ts';
import type { ScsiTask } from '../scsi-task.ts';
import {
  checkRange,
  checkTransfer,
  checkWritable,
  decodeRange,
  flagsOf,
  wantExactly,
} from './block-range.ts';
import type { Command } from './command.ts';

/** RDPROTECT, WRPROTECT, VRPROTECT: no protection information here. */
const PROTECT = 0xe0;
const FUA = 0x08;
const BYTCHK = 0x06;

function hasProtection(task: ScsiTask): boolean {
  // The 6-byte commands have a part of the LBA there.
  if (task.opcode < 0x20 || (flagsOf(task.cdb) & PROTECT) === 0) return false;
  task.fail(Sense.invalidField);
  return true;
}

/** READ (6), (10), (12), (16), (32): SBC-3 5.8 to 5.12. */
export const read: Command = {
  prepare(lu, task) {
    decodeRange(task);
    if (hasProtection(task) || !checkRange(lu, task)) return;
    checkTransfer(lu, task);
  },
  execute(lu, task) {
    task.readOffset = task.lba * lu.blockBytes;
    task.readBytes = task.blocks * lu.blockBytes;
  },
};

function prepareWrite(lu: LogicalUnit, task: ScsiTask): void {
  decodeRange(task);
  if (hasProtection(task) || !checkWritable(lu, task) || !checkRange(lu, task)) return;
  if (checkTransfer(lu, task)) task.dataOutBytes = task.blocks * lu.blockBytes;
}

/** Whole blocks of what came: less than the CDB says when the initiator announced less. */
function writeReceived(lu: LogicalUnit, task: ScsiTask, durable: boolean): void {
  if (task.dataOut === null) return;
  const bytes = Math.min(task.received, task.dataOutBytes);
  const whole = bytes - (bytes % lu.blockBytes);
  lu.disk.write(task.lba * lu.blockBytes, task.dataOut, 0, whole, durable);
}

/** WRITE (6), (10), (12), (16), (32): SBC-3 5.32 to 5.36. */
export const write: Command = {
  prepare: prepareWrite,
  execute(lu, task) {
    writeReceived(lu, task, task.opcode >= 0x20 && (flagsOf(task.cdb) & FUA) !== 0);
  },
};

/** WRITE AND VERIFY (10), (12), (16): SBC-3 5.37 to 5.40. Verified data is on the medium, so it is durable. */
export const writeAndVerify: Command = {
  prepare(lu, task) {
    if ((task.cdb[1]! & BYTCHK) === BYTCHK) return task.fail(Sense.invalidField);
    prepareWrite(lu, task);
  },
  execute: (lu, task) => writeReceived(lu, task, true),
};

const DISABLE_WRITE = 0x04;

/** XDWRITEREAD (10): SBC-3 5.50. Data goes both ways: what comes is written, and its XOR with what was there goes back. */
export const exclusiveOrWriteRead: Command = {
  prepare(lu, task) {
    prepareWrite(lu, task);
    if (!task.failed) wantExactly(task, task.dataOutBytes);
  },
  execute(lu, task) {
    if (task.dataOut === null) return;
    const answer = Buffer.allocUnsafeSlow(task.dataOutBytes);
    lu.disk.read(task.lba * lu.blockBytes, answer);
    for (let i = 0; i < answer.length; i++) answer[i]! ^= task.dataOut[i]!;
    if ((task.cdb[1]! & DISABLE_WRITE) === 0) {
      writeReceived(lu, task, (task.cdb[1]! & FUA) !== 0);
    }
    task.answer(answer, answer.length);
  },
};

/** VERIFY (10), (12), (16): SBC-3 5.27 to 5.30. */
export const verify: Command = {
  prepare(lu, task) {
    decodeRange(task);
    if (hasProtection(task) || !checkRange(lu, task) || !checkTransfer(lu, task)) return;
    const mode = task.cdb[1]! & BYTCHK;
    if (mode === 0x04) return task.fail(Sense.invalidField);
    if (mode === 0x02) task.dataOutBytes = task.blocks * lu.blockBytes;
    if (mode === 0x06 && task.blocks > 0) task.dataOutBytes = lu.blockBytes;
  },
  execute(lu, task) {
    if (task.dataOut === null) return;
    const at = task.lba * lu.blockBytes;
    const onDisk = Buffer.allocUnsafeSlow(task.blocks * lu.blockBytes);
    lu.disk.read(at, onDisk);
    const pattern = task.dataOut.subarray(0, Math.min(task.received, task.dataOutBytes));
    if (pattern.length === 0) return;
    for (let from = 0; from < onDisk.length; from += pattern.length) {
      const difference = firstDifference(onDisk.subarray(from, from + pattern.length), pattern);
      if (difference >= 0) return task.fail(Sense.miscompare, from + difference);
    }
  },
};

/** COMPARE AND WRITE: SBC-3 5.3. The Information field says where the first difference is. */
export const compareAndWrite: Command = {
  prepare(lu, task) {
    task.lba = task.cdb.readUInt32BE(2) * 2 ** 32 + task.cdb.readUInt32BE(6);
    task.blocks = task.cdb[13]!;
    if (hasProtection(task) || !checkWritable(lu, task)) return;
    if (task.blocks > compareBlocksMax(lu)) return task.fail(Sense.invalidField);
    if (checkRange(lu, task)) wantExactly(task, 2 * task.blocks * lu.blockBytes);
  },
  execute(lu, task) {
    const bytes = task.blocks * lu.blockBytes;
    if (task.dataOut === null) return; // no blocks
    const at = task.lba * lu.blockBytes;
    const onDisk = Buffer.allocUnsafeSlow(bytes);
    lu.disk.read(at, onDisk);
    const difference = firstDifference(onDisk, task.dataOut.subarray(0, bytes));
    if (difference >= 0) return task.fail(Sense.miscompare, difference);
    lu.disk.write(at, task.dataOut, bytes, bytes, (task.cdb[1]! & FUA) !== 0);
  },
};

/** The field in the CDB is one byte. */
export function compareBlocksMax(lu: LogicalUnit): number {
  return Math.min(255, COMPARE_BYTES_MAX / lu.blockBytes);
}

/** SYNCHRONIZE CACHE (10), (16): SBC-3 5.22, 5.23. The range is a hint; all is flushed. */
export const synchronizeCache: Command = {
  prepare(lu, task) {
    decodeRange(task);
    checkRange(lu, task);
  },
  execute: (lu) => lu.disk.flush(),
};

/** Index of the first byte that differs, or -1. */
export function firstDifference(a: Buffer, b: Buffer): number {
  if (a.equals(b)) return -1;
  let at = 0;
  while (at < a.length && a[at] === b[at]) at += 1;
  return at;
}
