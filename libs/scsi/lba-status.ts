import { putU32, putU64, startCdb, u32, u64 } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

const GET_LBA_STATUS = 0x12;
const HEADER_BYTES = 8;
const DESCRIPTOR_BYTES = 16;

/** GET LBA STATUS (SBC-3 §5.4): a service action of SERVICE ACTION IN(16). */
export function putGetLbaStatus(
  into: Uint8Array,
  at: number,
  lba: number,
  allocationBytes: number,
): void {
  startCdb(into, at, ScsiOp.ServiceActionIn16);
  into[at + 1] = GET_LBA_STATUS;
  putU64(into, at + 2, lba);
  putU32(into, at + 10, allocationBytes);
}

/** Length of an answer with so many descriptors. */
export function lbaStatusBytes(descriptors: number): number {
  return HEADER_BYTES + DESCRIPTOR_BYTES * descriptors;
}

export interface LbaStatus {
  readonly lba: number;
  readonly blocks: number;
  /** False for deallocated and for anchored blocks: neither holds data. */
  readonly mapped: boolean;
}

/**
 * Neighbouring ranges, as the device wrote them, up to the first that does not follow the one before. Null when it is no
 * answer at all.
 */
export function parseLbaStatus(data: Uint8Array): readonly LbaStatus[] | null {
  if (data.length < HEADER_BYTES) return null;
  // PARAMETER DATA LENGTH counts what follows it.
  const end = Math.min(data.length, 4 + u32(data, 0));
  const found: LbaStatus[] = [];
  for (let at = HEADER_BYTES; at + DESCRIPTOR_BYTES <= end; at += DESCRIPTOR_BYTES) {
    const lba = u64(data, at);
    const blocks = u32(data, at + 8);
    const before = found.at(-1);
    if (lba === null || blocks === 0) break;
    if (before !== undefined && lba !== before.lba + before.blocks) break;
    found.push({ lba, blocks, mapped: isMapped(data[at + 12]! & 0x0f) });
  }
  return found;
}

/** Provisioning status (SBC-3 table 53): 0 mapped, 1 deallocated, 2 anchored. What else comes may be data. */
function isMapped(status: number): boolean {
  return status !== 1 && status !== 2;
}
