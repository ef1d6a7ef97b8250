import { type IoContext, WriteFlag } from '../block/device.ts';
import { blockErrors } from '../block/errors.ts';
import {
  COPY_LIMITS_BYTES,
  COPY_SEGMENT_BLOCKS_MAX,
  type CopySegment,
  canCopyBlocks,
  extendedCopyParameters,
  parseCopyLimits,
  putExtendedCopy,
  putReceiveCopyParameters,
} from '../scsi/extended-copy.ts';
import { type RunOptions, run } from './execute.ts';
import type { IscsiLun } from './lun.ts';

/** Segments of one command, where the device takes more: a command shall end within its timeout. */
const SEGMENTS_MAX = 16;

/** Bytes of one segment at most, for the same reason. */
const SEGMENT_BYTES_MAX = 16 * 1024 * 1024;

/** Piece in which a copy goes through this process where the target cannot do it. */
const PIECE_BYTES = 1024 * 1024;

/** What one EXTENDED COPY of a device may hold; null: it cannot copy between disks. */
interface CopyPlan {
  readonly segments: number;
  readonly segmentBlocks: number;
}

/** Said of a copy when it is done: how many bytes the target moved by itself. The rest went through this process. */
export interface CopyResult {
  readonly offloadedBytes: number;
}

/**
 * Copies a range to another logical unit of the same target, or of the same one, by EXTENDED COPY (I24); by reading and
 * writing where the target refuses. Ranges may not overlap. Not atomic: after an error a part may be there.
 */
export async function copyRange(
  from: IscsiLun,
  fromOffset: number,
  to: IscsiLun,
  toOffset: number,
  length: number,
  io: IoContext,
  options: RunOptions,
): Promise<CopyResult> {
  check(from, fromOffset, to, toOffset, length);
  const plan = await planOf(from, to, options);
  let done = 0;
  if (plan !== null) {
    const { blockBytes } = to.caps;
    const bytesMax = plan.segments * plan.segmentBlocks * blockBytes;
    while (done < length) {
      const bytes = Math.min(bytesMax, length - done);
      if (!(await offload(from, fromOffset + done, to, toOffset + done, bytes, plan, options))) {
        break;
      }
      done += bytes;
    }
  }
  const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, length - done));
  for (let at = done; at < length; at += PIECE_BYTES) {
    const part = piece.subarray(0, Math.min(PIECE_BYTES, length - at));
    await from.read(fromOffset + at, part, io);
    await to.write(toOffset + at, part, WriteFlag.None, io);
  }
  return { offloadedBytes: done };
}

function check(
  from: IscsiLun,
  fromOffset: number,
  to: IscsiLun,
  toOffset: number,
  length: number,
): void {
  const unit = Math.max(from.caps.blockBytes, to.caps.blockBytes);
  const aligned = [fromOffset, toOffset, length].every((bytes) => bytes % unit === 0);
  const inside =
    fromOffset + length <= from.caps.sizeBytes && toOffset + length <= to.caps.sizeBytes;
  const same = from.identity.wwid === to.identity.wwid;
  const overlaps = same && Math.abs(fromOffset - toOffset) < length;
  if (aligned && inside && !overlaps) return;
  throw blockErrors.make('BLOCK_UNSUPPORTED', {
    message: 'a copy is of whole blocks, inside both devices, and its ranges do not overlap',
    errno: 'EINVAL',
    fields: { from: fromOffset, to: toOffset, length },
  });
}

async function planOf(from: IscsiLun, to: IscsiLun, options: RunOptions): Promise<CopyPlan | null> {
  const possible =
    from.facts.copyDesignator !== null &&
    to.facts.copyDesignator !== null &&
    from.session.targetName === to.session.targetName &&
    from.caps.blockBytes === to.caps.blockBytes;
  if (!possible) return null;
  const request = { cdb: putReceiveCopyParameters, receiveBytes: COPY_LIMITS_BYTES };
  const result = await run(to.session, to.lun, request, options);
  const limits = result.good ? parseCopyLimits(result.data) : null;
  // Without limits: one short segment, and the device refuses what it does not like.
  if (limits === null) return { segments: 1, segmentBlocks: COPY_SEGMENT_BLOCKS_MAX };
  if (!canCopyBlocks(limits)) return null;
  const { blockBytes } = to.caps;
  const limit = limits.segmentBytes === 0 ? SEGMENT_BYTES_MAX : limits.segmentBytes;
  const blocks = Math.floor(Math.min(limit, SEGMENT_BYTES_MAX) / blockBytes);
  const segments = limits.segments === 0 ? SEGMENTS_MAX : Math.min(limits.segments, SEGMENTS_MAX);
  const segmentBlocks = Math.min(blocks, COPY_SEGMENT_BLOCKS_MAX);
  return segmentBlocks === 0 ? null : { segments, segmentBlocks };
}

/** False when the target does not do it: what it may have begun is written over by the caller. */
async function offload(
  from: IscsiLun,
  fromOffset: number,
  to: IscsiLun,
  toOffset: number,
  bytes: number,
  plan: CopyPlan,
  options: RunOptions,
): Promise<boolean> {
  const { blockBytes } = to.caps;
  const segments: CopySegment[] = [];
  const blocksTotal = bytes / blockBytes;
  for (let at = 0; at < blocksTotal; at += plan.segmentBlocks) {
    segments.push({
      fromLba: fromOffset / blockBytes + at,
      toLba: toOffset / blockBytes + at,
      blocks: Math.min(plan.segmentBlocks, blocksTotal - at),
    });
  }
  const send = extendedCopyParameters(
    { designator: from.facts.copyDesignator!, blockBytes },
    { designator: to.facts.copyDesignator!, blockBytes },
    segments,
  );
  const cdb = (into: Buffer, at: number): void => putExtendedCopy(into, at, send.length);
  // A copy that may have run is not sent again blindly (H03): the caller copies what is left in another way.
  const result = await run(
    to.session,
    to.lun,
    { cdb, send },
    { ...options, onlyNotExecuted: true },
  );
  return result.good;
}
