import { putU32, putU64, startCdb } from './bytes.ts';
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
