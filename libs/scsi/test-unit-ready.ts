import { startCdb } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

/** TEST UNIT READY (SPC-4): no data. */
export function putTestUnitReady(into: Uint8Array, at: number): void {
  startCdb(into, at, ScsiOp.TestUnitReady);
}
