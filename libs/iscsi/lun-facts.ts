import type { BlockCapabilities } from '../block/device.ts';
import { isOrionError } from '../core/errors.ts';
import { IO_BYTES_MAX } from '../core/limits.ts';
import { ANY_ACCESS, accessRank, type PathAccess } from '../multipath/access.ts';
import { scsiErrors } from '../scsi/errors.ts';
import { parseThirdPartyCopy } from '../scsi/extended-copy.ts';
import { formatLun } from '../scsi/lun.ts';
import {
  MODE_SENSE_6_BYTES,
  type ModeData,
  parseModeSense6,
  putModeSense6,
} from '../scsi/mode-sense.ts';
import { ScsiOp } from '../scsi/opcodes.ts';
import { type Quirks, quirksOf } from '../scsi/quirks.ts';
import {
  type Capacity,
  isBlockSize,
  parseReadCapacity10,
  parseReadCapacity16,
  putReadCapacity10,
  putReadCapacity16,
  READ_CAPACITY_10_BYTES,
  READ_CAPACITY_16_BYTES,
} from '../scsi/read-capacity.ts';
import { putTestUnitReady } from '../scsi/test-unit-ready.ts';
import {
  type BlockLimits,
  copyDesignatorOf,
  type Designator,
  parseBlockCharacteristics,
  parseBlockLimits,
  parseProvisioning,
  type TargetPort,
  targetPortOf,
  VpdPage,
} from '../scsi/vpd.ts';
import { badData, type RunOptions, run, runChecked } from './execute.ts';
import { learnAccess } from './lun-access.ts';
import { identify, type LunIdentity, type LunPortrait, vpd } from './lun-identity.ts';
import type { IscsiSession } from './session.ts';

/** Commands are at most this long: several of them keep a target busier than one. */
const COMMAND_BYTES_MAX = 4 * 1024 * 1024;

const BLOCK_BYTES_MIN = 512;

const PREFERRED_BYTES_MIN = 4096;
const PREFERRED_BYTES_MAX = 1024 * 1024;

/** UNMAP and WRITE SAME lengths where the device states no limit. */
const PROVISION_BLOCKS_MAX = 0x10000;

/** Everything that was learned of a logical unit when it was attached. */
export interface LunFacts {
  readonly identity: LunIdentity;
  /** True: it told nothing but who it is, since its port is closed. What is said of it below is no more than a place holder. */
  readonly unsized?: true;
  readonly caps: BlockCapabilities;
  readonly quirks: Quirks;
  /** FUA in READ and WRITE is honoured; else a flush follows the write. */
  readonly dpoFua: boolean;
  readonly commandBytes: number;
  /** 0: no UNMAP. */
  readonly unmapBlocks: number;
  /** Pieces of an UNMAP end at multiples of this, counted from `unmapAlignmentBlock`. */
  readonly unmapGranularityBlocks: number;
  readonly unmapAlignmentBlock: number;
  readonly writeSameBlocks: number;
  /** WRITE SAME(16) may deallocate. */
  readonly writeSameUnmap: boolean;
  /** WRITE SAME(10) may. */
  readonly writeSame10Unmap: boolean;
  /** Deallocated blocks read as zeroes. */
  readonly readsZeroes: boolean;
  /** Target port group support (ALUA), 0 where it is none or a false claim, and the port that this path leads to. */
  readonly tpgs: number;
  readonly port: TargetPort;
  readonly access: PathAccess;
  /** What EXTENDED COPY names the unit by; null when it does not know the command. */
  readonly copyDesignator: Designator | null;
}

export interface LearnOptions extends RunOptions {
  /** Name of a quirk profile; "auto" or left out: by INQUIRY. */
  readonly profile?: string | undefined;
  /**
   * A unit that does not even tell its size over this path, as its port is unavailable, is attached with size 0: its
   * session can be watched, and fenced with.
   */
  readonly allowUnsized?: boolean;
}

/** Asks a logical unit who it is and what it can. Rejects when it is none, or no disk that we can work with. */
export async function learnLun(
  session: IscsiSession,
  lun: Buffer,
  options: LearnOptions,
): Promise<LunFacts> {
  await becomeReady(session, lun, options);
  const portrait = await identify(session, lun, options);
  const { identity, inquiry, designators, pages } = portrait;
  const page = async (number: number): Promise<Buffer | null> =>
    pages.includes(number) ? await vpd(session, lun, number, options) : null;

  const quirks = quirksOf(inquiry, options.profile);
  const port = targetPortOf(designators);
  const access = await learnAccess(session, lun, inquiry.tpgs, port, options);
  const closed = options.allowUnsized === true && access !== null && accessRank(access) === 0;
  const capacity = await (closed ? sizeIfTold : readCapacity)(session, lun, options);
  if (capacity === null) return unsized(portrait, quirks, port, access!);
  checkBlockSize(capacity, identity, session, lun);
  const mode = await modeSense(session, lun, options);
  const limitsPage = await page(VpdPage.BlockLimits);
  const characteristicsPage = await page(VpdPage.BlockCharacteristics);
  const provisioningPage = await page(VpdPage.Provisioning);
  const copyPage = await page(VpdPage.ThirdPartyCopy);

  const limits = limitsPage === null ? null : parseBlockLimits(limitsPage);
  const provisioning = provisioningPage === null ? null : parseProvisioning(provisioningPage);
  const rotation =
    characteristicsPage === null ? null : parseBlockCharacteristics(characteristicsPage);

  // Where both tell, both must: what is believed to read as zeroes is not written (I13).
  const readsZeroes = capacity.readsZeroes && (provisioning?.readsZeroes ?? true);
  const unmapBlocks = provisioning?.unmap === true ? unmapLimit(limits) : 0;
  const writeSameUnmap = provisioning?.writeSame16Unmap ?? false;
  const writeSame10Unmap = provisioning?.writeSame10Unmap ?? false;
  const compareBlocks = quirks.compareAndWrite ? (limits?.maxCompareAndWriteBlocks ?? 0) : 0;
  const { blockBytes } = capacity;
  return {
    identity,
    quirks,
    caps: {
      sizeBytes: capacity.blocks * blockBytes,
      blockBytes,
      preferredBytes: preferredBytes(capacity, limits),
      maxIoBytes: IO_BYTES_MAX,
      readOnly: mode?.writeProtected ?? false,
      // Not to know is to assume a cache (I09).
      volatileCache: mode?.writeCache ?? true,
      fua: true,
      trim: unmapBlocks > 0 || writeSameUnmap || writeSame10Unmap,
      writeZeroes: true,
      fastZero: (writeSameUnmap || writeSame10Unmap) && readsZeroes,
      extents: capacity.provisioned,
      compareAndWriteBytes: compareBlocks * blockBytes,
      rotational: (rotation?.rotationRate ?? 0) > 1,
    },
    dpoFua: mode?.dpoFua ?? false,
    commandBytes: commandBytes(blockBytes, limits, quirks),
    unmapBlocks,
    unmapGranularityBlocks: Math.max(1, limits?.unmapGranularityBlocks ?? 1),
    unmapAlignmentBlock: limits?.unmapAlignmentBlock ?? 0,
    writeSameBlocks: bounded(limits?.maxWriteSameBlocks ?? 0),
    writeSameUnmap,
    writeSame10Unmap,
    readsZeroes,
    tpgs: access === null ? 0 : inquiry.tpgs,
    port,
    access: access ?? ANY_ACCESS,
    copyDesignator: canCopy(portrait, copyPage) ? copyDesignatorOf(designators) : null,
  };
}

/** Null when the unit does not say over a port in this state. */
async function sizeIfTold(
  session: IscsiSession,
  lun: Buffer,
  options: RunOptions,
): Promise<Capacity | null> {
  try {
    return await readCapacity(session, lun, options);
  } catch (error) {
    if (isOrionError(error) && error.code === 'SCSI_PATH_STANDBY') return null;
    throw error;
  }
}

/** Who it is, and nothing of what it can: it takes no I/O, and is attached anew before it does. */
function unsized(
  { identity, inquiry }: LunPortrait,
  quirks: Quirks,
  port: TargetPort,
  access: PathAccess,
): LunFacts {
  return {
    identity,
    unsized: true,
    quirks,
    caps: {
      sizeBytes: 0,
      blockBytes: BLOCK_BYTES_MIN,
      preferredBytes: PREFERRED_BYTES_MIN,
      maxIoBytes: IO_BYTES_MAX,
      readOnly: false,
      volatileCache: false,
      fua: false,
      trim: false,
      writeZeroes: false,
      fastZero: false,
      extents: false,
      compareAndWriteBytes: 0,
      rotational: false,
    },
    dpoFua: false,
    commandBytes: BLOCK_BYTES_MIN,
    unmapBlocks: 0,
    unmapGranularityBlocks: 1,
    unmapAlignmentBlock: 0,
    writeSameBlocks: 0,
    writeSameUnmap: false,
    writeSame10Unmap: false,
    readsZeroes: false,
    tpgs: inquiry.tpgs,
    port,
    access,
    copyDesignator: null,
  };
}

/** EXTENDED COPY of list identifiers of one byte: service action 0. */
function canCopy(portrait: LunPortrait, page: Buffer | null): boolean {
  const commands = page === null ? null : parseThirdPartyCopy(page);
  if (commands === null || commands.length === 0) return portrait.inquiry.thirdPartyCopy;
  return commands.some(([op, action]) => op === ScsiOp.ExtendedCopy && action === 0);
}

function checkBlockSize(
  capacity: Capacity,
  identity: LunIdentity,
  session: IscsiSession,
  lun: Buffer,
): void {
  const { blockBytes } = capacity;
  if (isBlockSize(blockBytes)) return;
  const where = `LUN ${formatLun(lun)} of ${session.targetName}`;
  throw scsiErrors.make('SCSI_BLOCK_SIZE', {
    message: `${where} has blocks of ${blockBytes} bytes; 512, 1024, ... 65536 can be worked with`,
    fields: { wwid: identity.wwid, blockBytes },
  });
}

function bounded(blocks: number): number {
  return blocks === 0 ? PROVISION_BLOCKS_MAX : Math.min(blocks, 0xffffffff);
}

function unmapLimit(limits: BlockLimits | null): number {
  // A device that has the page and leaves a limit 0 does not take UNMAP, whatever it says elsewhere (SBC-3).
  if (limits === null) return PROVISION_BLOCKS_MAX;
  return limits.maxUnmapDescriptors === 0 ? 0 : limits.maxUnmapBlocks;
}

function commandBytes(blockBytes: number, limits: BlockLimits | null, quirks: Quirks): number {
  const own = quirks.commandBytesMax === 0 ? COMMAND_BYTES_MAX : quirks.commandBytesMax;
  const limit = limits?.maxTransferBlocks ?? 0;
  if (limit === 0) return Math.max(blockBytes, own);
  return Math.max(blockBytes, Math.min(COMMAND_BYTES_MAX, limit * blockBytes));
}

function preferredBytes(capacity: Capacity, limits: BlockLimits | null): number {
  const physical = capacity.blockBytes * 2 ** capacity.physicalExponent;
  const granularity = (limits?.optimalGranularityBlocks ?? 0) * capacity.blockBytes;
  const wanted = Math.max(PREFERRED_BYTES_MIN, capacity.blockBytes, physical, granularity);
  const power = 2 ** Math.ceil(Math.log2(wanted));
  return Math.min(power, Math.max(PREFERRED_BYTES_MAX, capacity.blockBytes));
}

/** A unit that cannot be used over this path, or not now, can still be asked who it is (I01). */
const ATTACHABLE: ReadonlySet<string> = new Set([
  'SCSI_RESERVATION_CONFLICT',
  'SCSI_NO_MEDIUM',
  'SCSI_PATH_STANDBY',
]);

/** Unit attentions of the login are taken away here. Reserved by another, or without medium, is no reason to stop. */
async function becomeReady(session: IscsiSession, lun: Buffer, options: RunOptions): Promise<void> {
  const result = await run(session, lun, { cdb: putTestUnitReady }, options);
  if (result.good || ATTACHABLE.has(result.verdict.code)) return;
  await runChecked(session, lun, { cdb: putTestUnitReady }, options);
}

export async function readCapacity(
  session: IscsiSession,
  lun: Buffer,
  options: RunOptions,
): Promise<Capacity> {
  const long = await run(
    session,
    lun,
    { cdb: putReadCapacity16, receiveBytes: READ_CAPACITY_16_BYTES },
    options,
  );
  if (long.good) {
    const capacity = parseReadCapacity16(long.data);
    if (capacity === null) throw badData('READ CAPACITY(16)');
    return capacity;
  }
  const short = await runChecked(
    session,
    lun,
    { cdb: putReadCapacity10, receiveBytes: READ_CAPACITY_10_BYTES },
    options,
  );
  const capacity = parseReadCapacity10(short);
  if (capacity === null || capacity === 'use-16') throw badData('READ CAPACITY(10)');
  return capacity;
}

/** Null when the device does not tell: then a write cache is assumed, and that it may be written (I09). */
export async function modeSense(
  session: IscsiSession,
  lun: Buffer,
  options: RunOptions,
): Promise<ModeData | null> {
  const result = await run(
    session,
    lun,
    { cdb: putModeSense6, receiveBytes: MODE_SENSE_6_BYTES },
    options,
  );
  return result.good ? parseModeSense6(result.data) : null;
}
