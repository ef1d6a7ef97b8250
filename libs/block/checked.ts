import type { OrionError } from '../core/errors.ts';
import type { BlockCapabilities } from './device.ts';
import { blockErrors } from './errors.ts';

/** A resolved promise to return from methods that finish at once. */
export const DONE: Promise<void> = Promise.resolve();

/** True when offset and length are multiples of `blockBytes`, a power of two. Exact up to 2^53. */
export function isAligned(offset: number, length: number, blockBytes: number): boolean {
  // ToInt32 keeps the low 32 bits, all that a mask below 2^31 looks at.
  return ((offset | length) & (blockBytes - 1)) === 0;
}

export function isInside(caps: BlockCapabilities, offset: number, length: number): boolean {
  return offset >= 0 && length >= 0 && offset + length <= caps.sizeBytes;
}

/** Why the range cannot be used on a device with these capabilities; null when it can. */
export function rangeError(
  device: string,
  caps: BlockCapabilities,
  offset: number,
  length: number,
): OrionError | null {
  const fields = { device, offset, length };
  if (!Number.isSafeInteger(offset) || !isInside(caps, offset, length)) {
    return blockErrors.make('BLOCK_OUT_OF_RANGE', {
      fields: { ...fields, sizeBytes: caps.sizeBytes },
    });
  }
  if (!isAligned(offset, length, caps.blockBytes)) {
    return blockErrors.make('BLOCK_UNALIGNED', {
      fields: { ...fields, blockBytes: caps.blockBytes },
    });
  }
  return null;
}
