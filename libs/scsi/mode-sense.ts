import { startCdb, u16 } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

const CACHING_PAGE = 0x08;
export const MODE_SENSE_6_BYTES = 192;

export interface ModeData {
  readonly writeProtected: boolean;
  /** DPO and FUA bits of READ and WRITE are honoured. */
  readonly dpoFua: boolean;
  /** Null when the caching page did not come. */
  readonly writeCache: boolean | null;
}

/** MODE SENSE(6) of the caching page, without block descriptors (SPC-4, SBC-3). */
export function putModeSense6(into: Uint8Array, at: number): void {
  startCdb(into, at, ScsiOp.ModeSense6);
  into[at + 1] = 0x08; // DBD
  into[at + 2] = CACHING_PAGE;
  into[at + 4] = MODE_SENSE_6_BYTES;
}

export function parseModeSense6(data: Uint8Array): ModeData | null {
  if (data.length < 4) return null;
  const end = Math.min(data.length, data[0]! + 1);
  const writeProtected = (data[2]! & 0x80) !== 0;
  const dpoFua = (data[2]! & 0x10) !== 0;
  let writeCache: boolean | null = null;
  for (let at = 4 + data[3]!; at + 2 < end; ) {
    const subpage = (data[at]! & 0x40) !== 0;
    const length = subpage ? 4 + u16(data, at + 2) : 2 + data[at + 1]!;
    if (!subpage && (data[at]! & 0x3f) === CACHING_PAGE) writeCache = (data[at + 2]! & 0x04) !== 0;
    at += length;
  }
  return { writeProtected, dpoFua, writeCache };
}
