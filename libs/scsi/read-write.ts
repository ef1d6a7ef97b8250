import { putU16, putU32, putU64 } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

const FUA = 0x08;
const LBA10_MAX = 0xffffffff;
const BLOCKS10_MAX = 0xffff;

/** The form of READ or WRITE that `putReadWrite` takes. */
export function readWriteOp(write: boolean, lba: number, blocks: number): ScsiOp {
  if (fits10(lba, blocks)) return write ? ScsiOp.Write10 : ScsiOp.Read10;
  return write ? ScsiOp.Write16 : ScsiOp.Read16;
}

function fits10(lba: number, blocks: number): boolean {
  return lba + blocks - 1 <= LBA10_MAX && blocks <= BLOCKS10_MAX;
}

/**
 * READ or WRITE (SBC-3), the 10-byte form where LBA and length fit it, else the 16-byte one. Writes all 16 bytes of
 * the CDB field: it may hold anything before.
 */
export function putReadWrite(
  into: Uint8Array,
  at: number,
  write: boolean,
  lba: number,
  blocks: number,
  fua: boolean,
): void {
  into[at + 1] = fua ? FUA : 0;
  if (fits10(lba, blocks)) {
    into[at] = write ? ScsiOp.Write10 : ScsiOp.Read10;
    putU32(into, at + 2, lba);
    into[at + 6] = 0;
    putU16(into, at + 7, blocks);
    into[at + 9] = 0;
    putU16(into, at + 10, 0);
    putU32(into, at + 12, 0);
    return;
  }
  into[at] = write ? ScsiOp.Write16 : ScsiOp.Read16;
  putU64(into, at + 2, lba);
  putU32(into, at + 10, blocks);
  putU16(into, at + 14, 0);
}
