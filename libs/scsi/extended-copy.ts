import { assert } from '../core/assert.ts';
import { putU16, putU32, putU64, startCdb, u16, u32 } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';
import { type Designator, VpdPage } from './vpd.ts';

/** EXTENDED COPY with list identifiers of one byte (LID1), and what tells its limits (SPC-4 §6.3, §6.4, §7.8.18). */

const LIST_BYTES = 16;
const CSCD_BYTES = 32;
const SEGMENT_BYTES = 28;
const CSCD_IDENTIFICATION = 0xe4;
const SEGMENT_BLOCK_TO_BLOCK = 0x02;
/** "Held data is discarded, the list identifier is not used": nothing is to be asked for afterwards (SPC-4 table 154). */
const LIST_ID_UNUSED = 0x18;

/** Blocks of one segment descriptor: a 16-bit field. */
export const COPY_SEGMENT_BLOCKS_MAX = 0xffff;

/** EXTENDED COPY(LID1); `parameterBytes` is the length of `extendedCopyParameters`. */
export function putExtendedCopy(into: Uint8Array, at: number, parameterBytes: number): void {
  startCdb(into, at, ScsiOp.ExtendedCopy);
  putU32(into, at + 10, parameterBytes);
}

export interface CopyEnd {
  readonly designator: Designator;
  readonly blockBytes: number;
}

export interface CopySegment {
  readonly fromLba: number;
  readonly toLba: number;
  readonly blocks: number;
}

/** The parameter list: two ends, and segments from the first to the second. */
export function extendedCopyParameters(
  from: CopyEnd,
  to: CopyEnd,
  segments: readonly CopySegment[],
): Buffer {
  const bytes = Buffer.alloc(LIST_BYTES + 2 * CSCD_BYTES + segments.length * SEGMENT_BYTES);
  bytes[1] = LIST_ID_UNUSED;
  putU16(bytes, 2, 2 * CSCD_BYTES);
  putU32(bytes, 8, segments.length * SEGMENT_BYTES);
  putEnd(bytes, LIST_BYTES, from);
  putEnd(bytes, LIST_BYTES + CSCD_BYTES, to);
  let at = LIST_BYTES + 2 * CSCD_BYTES;
  for (const segment of segments) {
    assert(segment.blocks <= COPY_SEGMENT_BLOCKS_MAX, 'a segment fits its length field');
    bytes[at] = SEGMENT_BLOCK_TO_BLOCK;
    putU16(bytes, at + 2, SEGMENT_BYTES - 4);
    putU16(bytes, at + 6, 1); // from descriptor 0 to descriptor 1
    putU16(bytes, at + 10, segment.blocks);
    putU64(bytes, at + 12, segment.fromLba);
    putU64(bytes, at + 20, segment.toLba);
    at += SEGMENT_BYTES;
  }
  return bytes;
}

function putEnd(into: Buffer, at: number, end: CopyEnd): void {
  const { codeSet, association, type, bytes } = end.designator;
  assert(bytes.length <= 20, 'a designator fits its descriptor');
  into[at] = CSCD_IDENTIFICATION;
  into[at + 4] = codeSet;
  into[at + 5] = (association << 4) | type;
  into[at + 7] = bytes.length;
  bytes.copy(into, at + 8);
  into[at + 29] = end.blockBytes >>> 16;
  putU16(into, at + 30, end.blockBytes & 0xffff);
}

const OPERATING_PARAMETERS = 0x03;
export const COPY_LIMITS_BYTES = 300;

/** RECEIVE COPY RESULTS of the operating parameters: the limits of EXTENDED COPY. */
export function putReceiveCopyParameters(into: Uint8Array, at: number): void {
  startCdb(into, at, ScsiOp.ReceiveCopyResults);
  into[at + 1] = OPERATING_PARAMETERS;
  putU32(into, at + 10, COPY_LIMITS_BYTES);
}

/** 0 where the device states no limit. */
export interface CopyLimits {
  readonly ends: number;
  readonly segments: number;
  readonly listBytes: number;
  readonly segmentBytes: number;
  /** Descriptor types that it knows. */
  readonly types: readonly number[];
}

export function parseCopyLimits(data: Uint8Array): CopyLimits | null {
  if (data.length < 44) return null;
  const end = Math.min(data.length, 44 + data[43]!);
  return {
    ends: u16(data, 8),
    segments: u16(data, 10),
    listBytes: u32(data, 12),
    segmentBytes: u32(data, 16),
    types: [...data.subarray(44, end)],
  };
}

/** Can this device copy between two disks as we ask for it? */
export function canCopyBlocks(limits: CopyLimits): boolean {
  const { ends, types } = limits;
  // A device that lists no types may still know them; it refuses the command if not.
  const lists = types.length > 0;
  if (lists && !types.includes(CSCD_IDENTIFICATION)) return false;
  if (lists && !types.includes(SEGMENT_BLOCK_TO_BLOCK)) return false;
  return ends === 0 || ends >= 2;
}

const SUPPORTED_COMMANDS = 0x0001;

/** The Third-party Copy page: which commands of the copy family there are, as [operation, service action]. */
export function parseThirdPartyCopy(
  data: Uint8Array,
): readonly (readonly [number, number])[] | null {
  if (data.length < 4 || data[1] !== VpdPage.ThirdPartyCopy) return null;
  const end = Math.min(data.length, 4 + u16(data, 2));
  const commands: [number, number][] = [];
  for (let at = 4; at + 4 <= end; at += 4 + u16(data, at + 2)) {
    if (u16(data, at) !== SUPPORTED_COMMANDS || at + 5 > end) continue;
    const listEnd = Math.min(end, at + 5 + data[at + 4]!);
    for (let op = at + 5; op + 2 <= listEnd; op += 2 + data[op + 1]!) {
      const actionsEnd = Math.min(listEnd, op + 2 + data[op + 1]!);
      for (let action = op + 2; action < actionsEnd; action++) {
        commands.push([data[op]!, data[action]! & 0x1f]);
      }
    }
  }
  return commands;
}
