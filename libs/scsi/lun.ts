import { assert } from '../core/assert.ts';
import { u16 } from './bytes.ts';

/**
 * The 8 bytes of a small LUN number, single-level (SAM-5 §4.7): peripheral addressing up to 255, flat space above.
 * For a number that a person typed; a LUN that REPORT LUNS returned is used as it came.
 */
export function lunFromNumber(number: number): Buffer {
  assert(Number.isInteger(number) && number >= 0 && number < 0x4000, 'a LUN is 0 to 16383');
  const lun = Buffer.alloc(8);
  lun.writeUInt16BE(number < 256 ? number : number | 0x4000, 0);
  return lun;
}

/** The number that a person would use: "1" for single-level LUNs, else the 16 hex digits. */
export function formatLun(lun: Uint8Array): string {
  const rest = lun.subarray(2, 8).some((byte) => byte !== 0);
  const method = lun[0]! >> 6;
  if (rest || method > 1) return Buffer.from(lun).toString('hex');
  return String(method === 0 ? u16(lun, 0) : u16(lun, 0) & 0x3fff);
}
