import { startCdb } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

/** SYNCHRONIZE CACHE(10) (SBC-3) of the whole device: LBA 0, length 0, the answer when it is done. */
export function putSynchronizeCache10(into: Uint8Array, at: number): void {
  startCdb(into, at, ScsiOp.SynchronizeCache10);
}

/** The 16-byte form, for devices that know only that one. */
export function putSynchronizeCache16(into: Uint8Array, at: number): void {
  startCdb(into, at, ScsiOp.SynchronizeCache16);
}
