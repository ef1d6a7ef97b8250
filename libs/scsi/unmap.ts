import { assert } from '../core/assert.ts';
import { putU16, putU32, putU64, startCdb } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

const HEADER_BYTES = 8;
const DESCRIPTOR_BYTES = 16;

/** Descriptors whose list still has a 16-bit length. */
export const UNMAP_DESCRIPTORS_MAX = Math.floor((0xffff - HEADER_BYTES) / DESCRIPTOR_BYTES);

/** UNMAP (SBC-3); `parameterBytes` is the length of `unmapParameters`. */
export function putUnmap(into: Uint8Array, at: number, parameterBytes: number): void {
  startCdb(into, at, ScsiOp.Unmap);
  putU16(into, at + 7, parameterBytes);
}

/** The parameter list of an UNMAP: ranges of blocks. */
export function unmapParameters(
  ranges: readonly { readonly lba: number; readonly blocks: number }[],
): Buffer {
  assert(ranges.length <= UNMAP_DESCRIPTORS_MAX, 'an UNMAP list fits its length field');
  const bytes = Buffer.alloc(HEADER_BYTES + ranges.length * DESCRIPTOR_BYTES);
  putU16(bytes, 0, bytes.length - 2);
  putU16(bytes, 2, bytes.length - HEADER_BYTES);
  let at = HEADER_BYTES;
  for (const range of ranges) {
    putU64(bytes, at, range.lba);
    putU32(bytes, at + 8, range.blocks);
    at += DESCRIPTOR_BYTES;
  }
  return bytes;
}
