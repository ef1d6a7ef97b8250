import type { LogicalUnit } from '../logical-unit.ts';
import type { ScsiTask } from '../scsi-task.ts';

/** One SCSI command. `prepare` runs before any data is asked for, `execute` when all of it has come. */
export interface Command {
  /** Checks the CDB: fails the task, or says how much Data-Out it needs. */
  prepare?(lu: LogicalUnit, task: ScsiTask): void;
  execute(lu: LogicalUnit, task: ScsiTask): void;
}

export function u16(cdb: Buffer, at: number): number {
  return cdb.readUInt16BE(at);
}

export function u32(cdb: Buffer, at: number): number {
  return cdb.readUInt32BE(at);
}

/** A 64-bit LBA. Beyond 2^53 it loses precision, and is out of range of any disk here. */
export function u64(cdb: Buffer, at: number): number {
  return cdb.readUInt32BE(at) * 2 ** 32 + cdb.readUInt32BE(at + 4);
}
