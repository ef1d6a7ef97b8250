import type { Extent } from '../block/device.ts';
import { lbaStatusBytes, parseLbaStatus, putGetLbaStatus } from '../scsi/lba-status.ts';
import { type RunOptions, run } from './execute.ts';
import type { IscsiLun } from './lun.ts';

/** Descriptors of one answer of GET LBA STATUS, and answers that are asked for to cover one call. */
const DESCRIPTORS = 256;
const PAGES_MAX = 16;

/** Extents of one answer: as text they fit a frame of the link (64 KiB). The caller asks on from where they end. */
export const EXTENTS_MAX = 512;

/**
 * What of a range holds data, by GET LBA STATUS, page by page (I15). Where the device does not answer, or says something
 * that cannot be, the rest counts as allocated: that is never wrong.
 */
export async function lunExtents(
  lun: IscsiLun,
  offset: number,
  length: number,
  options: RunOptions,
): Promise<Extent[]> {
  const found: Extent[] = [];
  const end = offset + length;
  let at = offset;
  for (let page = 0; page < PAGES_MAX && at < end && lun.knowsLbaStatus; page++) {
    if (found.length >= EXTENTS_MAX) break;
    const next = await onePage(lun, at, end, found, options);
    if (next === at) break;
    at = next;
  }
  // Nothing is known of the first block: of none, then. Else the caller asks on from where this ends.
  if (found.length === 0) add(found, { offset, length, allocated: true, zero: false });
  return found.slice(0, EXTENTS_MAX);
}

/** Where the answer ends; `at` when it says nothing of the block there. */
async function onePage(
  lun: IscsiLun,
  at: number,
  end: number,
  found: Extent[],
  options: RunOptions,
): Promise<number> {
  const { blockBytes } = lun.caps;
  const bytes = lbaStatusBytes(DESCRIPTORS);
  const cdb = (into: Buffer, into0: number): void =>
    putGetLbaStatus(into, into0, at / blockBytes, bytes);
  const result = await run(lun.session, lun.lun, { cdb, receiveBytes: bytes }, options);
  if (!result.good && result.verdict.code === 'SCSI_UNSUPPORTED') lun.knowsLbaStatus = false;
  const ranges = result.good ? parseLbaStatus(result.data) : null;
  let next = at;
  for (const { lba, blocks, mapped } of ranges ?? []) {
    const from = lba * blockBytes;
    // The first may begin before the block that was asked for, none may leave a gap.
    if (from > next || from + blocks * blockBytes <= next) break;
    const to = Math.min(from + blocks * blockBytes, end);
    const zero = !mapped && lun.facts.readsZeroes;
    add(found, { offset: next, length: to - next, allocated: mapped, zero });
    next = to;
    if (next >= end) break;
  }
  return next;
}

function add(found: Extent[], extent: Extent): void {
  const last = found.at(-1);
  if (last !== undefined && last.allocated === extent.allocated && last.zero === extent.zero) {
    found[found.length - 1] = { ...last, length: last.length + extent.length };
  } else found.push(extent);
}
