import { putU32, startCdb, u16, u32, u64 } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

const READ_CAPACITY_16 = 0x10;
export const READ_CAPACITY_10_BYTES = 8;
export const READ_CAPACITY_16_BYTES = 32;

export interface Capacity {
  readonly blocks: number;
  readonly blockBytes: number;
  /** log2 of logical blocks per physical one. */
  readonly physicalExponent: number;
  /** Logical block provisioning management: unmapping may be possible. */
  readonly provisioned: boolean;
  /** Unmapped blocks read as zeroes. */
  readonly readsZeroes: boolean;
}

/** READ CAPACITY(10) (SBC-3). */
export function putReadCapacity10(into: Uint8Array, at: number): void {
  startCdb(into, at, ScsiOp.ReadCapacity10);
}

/** READ CAPACITY(16) (SBC-3): a service action of SERVICE ACTION IN(16). */
export function putReadCapacity16(into: Uint8Array, at: number): void {
  startCdb(into, at, ScsiOp.ServiceActionIn16);
  into[at + 1] = READ_CAPACITY_16;
  putU32(into, at + 10, READ_CAPACITY_16_BYTES);
}

/** 'use-16' when the device is too big for the 10-byte answer; null when the data is nonsense. */
export function parseReadCapacity10(data: Uint8Array): Capacity | 'use-16' | null {
  if (data.length < READ_CAPACITY_10_BYTES) return null;
  const lastLba = u32(data, 0);
  if (lastLba === 0xffffffff) return 'use-16';
  const blockBytes = u32(data, 4);
  if (blockBytes === 0) return null;
  return {
    blocks: lastLba + 1,
    blockBytes,
    physicalExponent: 0,
    provisioned: false,
    readsZeroes: false,
  };
}

export function parseReadCapacity16(data: Uint8Array): Capacity | null {
  if (data.length < 12) return null;
  const lastLba = u64(data, 0);
  const blockBytes = u32(data, 8);
  if (lastLba === null || blockBytes === 0) return null;
  if (!Number.isSafeInteger((lastLba + 1) * blockBytes)) return null;
  const more = data.length >= 16;
  return {
    blocks: lastLba + 1,
    blockBytes,
    physicalExponent: more ? data[13]! & 0x0f : 0,
    provisioned: more && (u16(data, 14) & 0x8000) !== 0,
    readsZeroes: more && (u16(data, 14) & 0x4000) !== 0,
  };
}

/** A power of two from 512 to 64 KiB: what a block client can work with. 520 and 528 bytes carry checksums of the array. */
export function isBlockSize(bytes: number): boolean {
  return bytes >= 512 && bytes <= 65536 && (bytes & (bytes - 1)) === 0;
}
