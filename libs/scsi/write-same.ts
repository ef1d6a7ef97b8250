import { putU16, putU32, putU64, startCdb } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

const UNMAP = 0x08;

/** WRITE SAME(16) (SBC-3): one block of data, written `blocks` times. `unmap` lets the device deallocate instead. */
export function putWriteSame16(
  into: Uint8Array,
  at: number,
  lba: number,
  blocks: number,
  unmap: boolean,
): void {
  startCdb(into, at, ScsiOp.WriteSame16);
  into[at + 1] = unmap ? UNMAP : 0;
  putU64(into, at + 2, lba);
  putU32(into, at + 10, blocks);
}

/** Blocks of one WRITE SAME(10), and the addresses that it reaches. */
export const WRITE_SAME_10_BLOCKS_MAX = 0xffff;
export const WRITE_SAME_10_LBA_MAX = 0xffffffff;

/** WRITE SAME(10) (SBC-3), for devices that know only that one. */
export function putWriteSame10(
  into: Uint8Array,
  at: number,
  lba: number,
  blocks: number,
  unmap: boolean,
): void {
  startCdb(into, at, ScsiOp.WriteSame10);
  into[at + 1] = unmap ? UNMAP : 0;
  putU32(into, at + 2, lba);
  putU16(into, at + 7, blocks);
}
