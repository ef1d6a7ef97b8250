import { putU64, startCdb } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

const FUA = 0x08;

/** COMPARE AND WRITE (SBC-3); the data are the expected blocks, then the new ones. */
export function putCompareAndWrite(
  into: Uint8Array,
  at: number,
  lba: number,
  blocks: number,
  fua: boolean,
): void {
  startCdb(into, at, ScsiOp.CompareAndWrite);
  into[at + 1] = fua ? FUA : 0;
  putU64(into, at + 2, lba);
  into[at + 13] = blocks;
}
