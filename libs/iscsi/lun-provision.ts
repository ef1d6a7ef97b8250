import { type IoContext, WriteFlag } from '../block/device.ts';
import { blockErrors } from '../block/errors.ts';
import { assert } from '../core/assert.ts';
import { putCompareAndWrite } from '../scsi/compare-and-write.ts';
import { verdictError } from '../scsi/sense-table.ts';
import { putUnmap, unmapParameters } from '../scsi/unmap.ts';
import {
  putWriteSame10,
  putWriteSame16,
  WRITE_SAME_10_BLOCKS_MAX,
  WRITE_SAME_10_LBA_MAX,
} from '../scsi/write-same.ts';
import { type RunOptions, run, runChecked } from './execute.ts';
import type { IscsiLun } from './lun.ts';

/** Zeroes that are written where the device has nothing better. */
const ZERO_BYTES = 1024 * 1024;
const zeroes = Buffer.alloc(ZERO_BYTES);

/** INVALID COMMAND OPERATION CODE: with another field the command is unknown too. */
const INVALID_OPCODE = 0x20;

/** How a device writes one block many times, found out by trying (I12). */
export const WriteSameForm = { Long: '16', Short: '10', None: 'none' } as const;
export type WriteSameForm = (typeof WriteSameForm)[keyof typeof WriteSameForm];

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
    // A hint: where the device does not take it after all, the blocks keep what they hold.
    await writeSame(lun, offset, length, true, false, options);
    return;
  }
  for (const { lba, blocks } of unmapPieces(lun, offset, length)) {
    const send = unmapParameters([{ lba, blocks }]);
    const cdb = (into: Buffer, at: number): void => putUnmap(into, at, send.length);
    await runChecked(lun.session, lun.lun, { cdb, send }, options);
  }
}

/** At most as long as the device takes, and ending at multiples of its granularity (I11). */
function* unmapPieces(
  lun: IscsiLun,
  offset: number,
  length: number,
): Generator<{ lba: number; blocks: number }> {
  const { unmapBlocks, unmapGranularityBlocks: grain, unmapAlignmentBlock } = lun.facts;
  const { blockBytes } = lun.caps;
  const end = (offset + length) / blockBytes;
  for (let lba = offset / blockBytes; lba < end; ) {
    const most = lba + unmapBlocks;
    // The last multiple that one command reaches, unless there is none or this is the end anyway.
    const aligned = most - ((((most - unmapAlignmentBlock) % grain) + grain) % grain);
    const next = most >= end ? end : aligned > lba ? aligned : most;
    yield { lba, blocks: next - lba };
    lba = next;
  }
}

/**
 * Zeroes by WRITE SAME, with deallocation where that reads as zeroes for certain (I13); by plain writes where the device
 * does not know it.
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
  const done = await writeSame(lun, offset, length, unmap, true, options);
  for (let at = done; at < length; at += ZERO_BYTES) {
    const bytes = Math.min(ZERO_BYTES, length - at);
    await lun.write(offset + at, zeroes.subarray(0, bytes), WriteFlag.None, io);
  }
  if ((flags & WriteFlag.Fua) !== 0) await lun.flusher.run(options);
}

/**
 * Resolves with the bytes that are done: fewer than `length` when the device does not know the command. `mayWrite`: in a
 * form that cannot deallocate, zeroes may be written.
 */
async function writeSame(
  lun: IscsiLun,
  offset: number,
  length: number,
  unmap: boolean,
  mayWrite: boolean,
  options: RunOptions,
): Promise<number> {
  const { blockBytes } = lun.caps;
  const send = zeroes.subarray(0, blockBytes);
  let done = 0;
  while (done < length) {
    const lba = (offset + done) / blockBytes;
    const left = (length - done) / blockBytes;
    const request = nextWriteSame(lun, lba, left, unmap);
    if (request === null || (!request.unmap && !mayWrite)) break;
    const { cdb, blocks } = request;
    const result = await run(lun.session, lun.lun, { cdb, send }, options);
    if (result.good) {
      done += blocks * blockBytes;
      continue;
    }
    if (result.verdict.code !== 'SCSI_UNSUPPORTED') {
      throw verdictError(result.verdict, result.op, { device: lun.name, lba, blocks });
    }
    const unknown = result.verdict.sense?.asc === INVALID_OPCODE;
    stepDown(lun, request.unmap && !unknown);
  }
  return done;
}

interface WriteSameRequest {
  readonly cdb: (into: Buffer, at: number) => void;
  readonly blocks: number;
  readonly unmap: boolean;
}

/** The next WRITE SAME in the form that the device knows; null when there is none for it. */
function nextWriteSame(
  lun: IscsiLun,
  lba: number,
  left: number,
  wanted: boolean,
): WriteSameRequest | null {
  const { facts } = lun;
  // A number of 0 blocks means all to the end of the medium (SBC-3 §5.43).
  assert(facts.writeSameBlocks > 0 && left > 0, 'a WRITE SAME is of blocks');
  switch (lun.writeSameForm) {
    case WriteSameForm.Long: {
      const blocks = Math.min(facts.writeSameBlocks, left);
      const unmap = wanted && facts.writeSameUnmap && !lun.noWriteSameUnmap;
      return { blocks, unmap, cdb: (into, at) => putWriteSame16(into, at, lba, blocks, unmap) };
    }
    case WriteSameForm.Short: {
      const blocks = Math.min(facts.writeSameBlocks, left, WRITE_SAME_10_BLOCKS_MAX);
      if (lba + blocks - 1 > WRITE_SAME_10_LBA_MAX) return null;
      const unmap = wanted && facts.writeSame10Unmap && !lun.noWriteSameUnmap;
      return { blocks, unmap, cdb: (into, at) => putWriteSame10(into, at, lba, blocks, unmap) };
    }
    case WriteSameForm.None:
      return null;
  }
}

/** The device refused: next without deallocation, then the short form, then not at all. Remembered. */
function stepDown(lun: IscsiLun, withoutUnmap: boolean): void {
  if (withoutUnmap) lun.noWriteSameUnmap = true;
  else if (lun.writeSameForm === WriteSameForm.Long) lun.writeSameForm = WriteSameForm.Short;
  else lun.writeSameForm = WriteSameForm.None;
}

/** -1 when the blocks were exchanged, else where the first difference is. */
export async function compareAndWrite(
  lun: IscsiLun,
  offset: number,
  expected: Buffer,
  replacement: Buffer,
  io: IoContext,
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
  if (result.verdict.code !== 'SCSI_MISCOMPARE') {
    throw verdictError(result.verdict, result.op, { device: lun.name, lba, blocks });
  }
  // INFORMATION is the offset of the first byte that differs (SBC-3 §5.2), from devices that fill it in.
  const told = result.verdict.sense?.information ?? -1;
  if (told >= 0 && told < expected.length) return told;
  const found = Buffer.allocUnsafe(expected.length);
  await lun.read(offset, found, io);
  const at = found.findIndex((byte, i) => byte !== expected[i]);
  // Equal by now: it was not when the device compared, and nothing was written.
  return at < 0 ? 0 : at;
}
