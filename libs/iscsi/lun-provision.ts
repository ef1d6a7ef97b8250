import { type IoContext, WriteFlag } from '../block/device.ts';
import { blockErrors } from '../block/errors.ts';
import { assert } from '../core/assert.ts';
import { putCompareAndWrite } from '../scsi/compare-and-write.ts';
import { verdictError } from '../scsi/sense-table.ts';
import { putUnmap, unmapParameters } from '../scsi/unmap.ts';
import { putWriteSame16 } from '../scsi/write-same.ts';
import { type RunOptions, run, runChecked } from './execute.ts';
import type { IscsiLun } from './lun.ts';

/** Zeroes that are written where the device has nothing better. */
const ZERO_BYTES = 1024 * 1024;
const zeroes = Buffer.alloc(ZERO_BYTES);

/** Deallocates by UNMAP, or by WRITE SAME where that is what the device has. */
export async function trim(
  lun: IscsiLun,
  offset: number,
  length: number,
  options: RunOptions,
): Promise<void> {
  const { facts, caps } = lun;
  if (!caps.trim) throw blockErrors.make('BLOCK_UNSUPPORTED', { message: 'the LUN cannot trim' });
  if (facts.unmapBlocks === 0) {
    await writeSame(lun, offset, length, true, options);
    return;
  }
  await eachPiece(lun, offset, length, facts.unmapBlocks, async (lba, blocks) => {
    const send = unmapParameters([{ lba, blocks }]);
    const cdb = (into: Buffer, at: number): void => putUnmap(into, at, send.length);
    await runChecked(lun.session, lun.lun, { cdb, send }, options);
  });
}

/**
 * Zeroes by WRITE SAME, with deallocation where that reads as zeroes for certain; by plain writes where the device does
 * not know it.
 */
export async function writeZeroes(
  lun: IscsiLun,
  offset: number,
  length: number,
  flags: number,
  io: IoContext,
  options: RunOptions,
): Promise<void> {
  if ((flags & WriteFlag.FastOnly) !== 0 && !lun.caps.fastZero) {
    throw blockErrors.make('BLOCK_UNSUPPORTED', { message: 'the LUN has no quick way to zero' });
  }
  const unmap = lun.caps.fastZero && (flags & WriteFlag.NoHole) === 0;
  const done = await writeSame(lun, offset, length, unmap, options);
  for (let at = done; at < length; at += ZERO_BYTES) {
    const bytes = Math.min(ZERO_BYTES, length - at);
    await lun.write(offset + at, zeroes.subarray(0, bytes), WriteFlag.None, io);
  }
  if ((flags & WriteFlag.Fua) !== 0) await lun.flush(io);
}

/** Resolves with the bytes that are done: fewer than `length` when the device does not know the command. */
async function writeSame(
  lun: IscsiLun,
  offset: number,
  length: number,
  unmap: boolean,
  options: RunOptions,
): Promise<number> {
  const send = zeroes.subarray(0, lun.caps.blockBytes);
  let done = 0;
  let known = !lun.noWriteSame;
  await eachPiece(lun, offset, length, lun.facts.writeSameBlocks, async (lba, blocks) => {
    if (!known) return;
    const cdb = (into: Buffer, at: number): void => putWriteSame16(into, at, lba, blocks, unmap);
    const result = await run(lun.session, lun.lun, { cdb, send }, options);
    if (result.good) {
      done += blocks * lun.caps.blockBytes;
      return;
    }
    if (result.verdict.code !== 'SCSI_UNSUPPORTED') {
      throw verdictError(result.verdict, result.op, { device: lun.name, lba, blocks });
    }
    lun.noWriteSame = true;
    known = false;
  });
  return done;
}

async function eachPiece(
  lun: IscsiLun,
  offset: number,
  length: number,
  blocksMax: number,
  fn: (lba: number, blocks: number) => Promise<void>,
): Promise<void> {
  const { blockBytes } = lun.caps;
  const end = (offset + length) / blockBytes;
  for (let lba = offset / blockBytes; lba < end; lba += blocksMax) {
    await fn(lba, Math.min(blocksMax, end - lba));
  }
}

/** -1 when the blocks were exchanged, else where the first difference is. */
export async function compareAndWrite(
  lun: IscsiLun,
  offset: number,
  expected: Buffer,
  replacement: Buffer,
  options: RunOptions,
): Promise<number> {
  const { blockBytes, compareAndWriteBytes } = lun.caps;
  assert(expected.length === replacement.length, 'both halves are of one length');
  if (expected.length > compareAndWriteBytes) {
    throw blockErrors.make('BLOCK_UNSUPPORTED', {
      message: `COMPARE AND WRITE of ${expected.length} bytes; the LUN takes ${compareAndWriteBytes}`,
    });
  }
  const lba = offset / blockBytes;
  const blocks = expected.length / blockBytes;
  const cdb = (into: Buffer, at: number): void => putCompareAndWrite(into, at, lba, blocks, false);
  const result = await run(
    lun.session,
    lun.lun,
    { cdb, send: Buffer.concat([expected, replacement]) },
    // It is not idempotent: an attempt that may have run is not sent again (I7 of failover.md).
    { ...options, onlyNotExecuted: true },
  );
  if (result.good) return -1;
  if (result.verdict.code === 'SCSI_MISCOMPARE') {
    return result.verdict.sense?.information ?? 0;
  }
  throw verdictError(result.verdict, result.op, { device: lun.name, lba, blocks });
}
