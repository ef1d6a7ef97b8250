import type { BlockCapabilities } from '../block/device.ts';
import { IO_BYTES_MAX } from '../core/limits.ts';
import { u16 } from '../scsi/bytes.ts';
import { scsiErrors } from '../scsi/errors.ts';
import { DeviceType, type InquiryData, parseInquiry, putInquiry } from '../scsi/inquiry.ts';
import {
  MODE_SENSE_6_BYTES,
  type ModeData,
  parseModeSense6,
  putModeSense6,
} from '../scsi/mode-sense.ts';
import {
  type Capacity,
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
  type Designator,
  parseBlockCharacteristics,
  parseBlockLimits,
  parseDesignators,
  parseProvisioning,
  parseSerialNumber,
  parseSupportedPages,
  VpdPage,
  wwidOf,
} from '../scsi/vpd.ts';
import { badData, type RunOptions, run, runChecked } from './execute.ts';
import type { IscsiSession } from './session.ts';

/** INQUIRY asks for this first: older devices dislike more than one byte of length. */
const INQUIRY_BYTES = 255;

/** The longest vital product data page that is read. */
const VPD_BYTES_MAX = 4096;

/** Commands are at most this long: several of them keep a target busier than one. */
const COMMAND_BYTES_MAX = 4 * 1024 * 1024;

const PREFERRED_BYTES_MIN = 4096;
const PREFERRED_BYTES_MAX = 1024 * 1024;

/** UNMAP and WRITE SAME lengths where the device states no limit. */
const PROVISION_BLOCKS_MAX = 0x10000;

export interface LunIdentity {
  /** The same on every path: "naa:6001405...". */
  readonly wwid: string;
  readonly vendor: string;
  readonly product: string;
  readonly revision: string;
}

/** Everything that was learned of a logical unit when it was attached. */
export interface LunFacts {
  readonly identity: LunIdentity;
  readonly caps: BlockCapabilities;
  /** FUA in READ and WRITE is honoured; else a flush follows the write. */
  readonly dpoFua: boolean;
  readonly commandBytes: number;
  /** 0: no UNMAP. */
  readonly unmapBlocks: number;
  readonly writeSameBlocks: number;
  /** WRITE SAME(16) may deallocate. */
  readonly writeSameUnmap: boolean;
  /** Deallocated blocks read as zeroes. */
  readonly readsZeroes: boolean;
  readonly compareAndWriteBlocks: number;
}

/** Asks a logical unit who it is and what it can. Rejects when it is none, or no disk. */
export async function learnLun(
  session: IscsiSession,
  lun: Buffer,
  options: RunOptions,
): Promise<LunFacts> {
  await becomeReady(session, lun, options);
  const inquiry = await standardInquiry(session, lun, options);
  const pages = await supportedPages(session, lun, options);
  const page = async (number: number): Promise<Buffer | null> =>
    pages.includes(number) ? await vpd(session, lun, number, options) : null;

  const identification = await page(VpdPage.Identification);
  const serial = await page(VpdPage.SerialNumber);
  const capacity = await readCapacity(session, lun, options);
  const mode = await modeSense(session, lun, options);
  const limitsPage = await page(VpdPage.BlockLimits);
  const characteristicsPage = await page(VpdPage.BlockCharacteristics);
  const provisioningPage = await page(VpdPage.Provisioning);

  const limits = limitsPage === null ? null : parseBlockLimits(limitsPage);
  const provisioning = provisioningPage === null ? null : parseProvisioning(provisioningPage);
  const rotation =
    characteristicsPage === null ? null : parseBlockCharacteristics(characteristicsPage);
  const designators = identification === null ? null : parseDesignators(identification);
  const serialText = serial === null ? null : parseSerialNumber(serial);

  const readsZeroes = capacity.readsZeroes || (provisioning?.readsZeroes ?? false);
  const unmapBlocks = provisioning?.unmap === true ? unmapLimit(limits) : 0;
  const writeSameUnmap = provisioning?.writeSame16Unmap ?? false;
  const compareAndWriteBlocks = limits?.maxCompareAndWriteBlocks ?? 0;
  const { blockBytes } = capacity;
  return {
    identity: {
      wwid: wwid(designators, serialText, inquiry, session, lun),
      vendor: inquiry.vendor,
      product: inquiry.product,
      revision: inquiry.revision,
    },
    caps: {
      sizeBytes: capacity.blocks * blockBytes,
      blockBytes,
      preferredBytes: preferredBytes(capacity, limits),
      maxIoBytes: IO_BYTES_MAX,
      readOnly: mode?.writeProtected ?? false,
      // Not to know is to assume a cache (I09).
      volatileCache: mode?.writeCache ?? true,
      fua: true,
      trim: unmapBlocks > 0 || writeSameUnmap,
      writeZeroes: true,
      fastZero: writeSameUnmap && readsZeroes,
      extents: false,
      compareAndWriteBytes: compareAndWriteBlocks * blockBytes,
      rotational: (rotation?.rotationRate ?? 0) > 1,
    },
    dpoFua: mode?.dpoFua ?? false,
    commandBytes: commandBytes(blockBytes, limits),
    unmapBlocks,
    writeSameBlocks: bounded(limits?.maxWriteSameBlocks ?? 0),
    writeSameUnmap,
    readsZeroes,
    compareAndWriteBlocks,
  };
}

function bounded(blocks: number): number {
  return blocks === 0 ? PROVISION_BLOCKS_MAX : Math.min(blocks, 0xffffffff);
}

function unmapLimit(limits: BlockLimits | null): number {
  // A device that has the page and leaves the limit 0 does not take UNMAP, whatever it says elsewhere (SBC-3).
  if (limits === null) return PROVISION_BLOCKS_MAX;
  return limits.maxUnmapBlocks;
}

function commandBytes(blockBytes: number, limits: BlockLimits | null): number {
  const limit = limits?.maxTransferBlocks ?? 0;
  if (limit === 0) return COMMAND_BYTES_MAX;
  return Math.max(blockBytes, Math.min(COMMAND_BYTES_MAX, limit * blockBytes));
}

function preferredBytes(capacity: Capacity, limits: BlockLimits | null): number {
  const physical = capacity.blockBytes * 2 ** capacity.physicalExponent;
  const granularity = (limits?.optimalGranularityBlocks ?? 0) * capacity.blockBytes;
  const wanted = Math.max(PREFERRED_BYTES_MIN, capacity.blockBytes, physical, granularity);
  const power = 2 ** Math.ceil(Math.log2(wanted));
  return Math.min(power, Math.max(PREFERRED_BYTES_MAX, capacity.blockBytes));
}

function wwid(
  designators: readonly Designator[] | null,
  serial: string | null,
  inquiry: InquiryData,
  session: IscsiSession,
  lun: Buffer,
): string {
  const best = designators === null ? null : wwidOf(designators);
  if (best !== null) return best;
  if (serial !== null && serial !== '')
    return `serial:${inquiry.vendor}:${inquiry.product}:${serial}`;
  // It says nothing of itself: its place on the target is all there is.
  return `place:${session.targetName}:${lun.toString('hex')}`;
}

/** Unit attentions of the login are taken away here (I01). Reserved by another, or without medium, is no reason to stop. */
async function becomeReady(session: IscsiSession, lun: Buffer, options: RunOptions): Promise<void> {
  const result = await run(session, lun, { cdb: putTestUnitReady }, options);
  if (result.good) return;
  const { code } = result.verdict;
  if (code === 'SCSI_RESERVATION_CONFLICT' || code === 'SCSI_NO_MEDIUM') return;
  await runChecked(session, lun, { cdb: putTestUnitReady }, options);
}

async function standardInquiry(
  session: IscsiSession,
  lun: Buffer,
  options: RunOptions,
): Promise<InquiryData> {
  const data = await runChecked(
    session,
    lun,
    { cdb: (into, at) => putInquiry(into, at, null, INQUIRY_BYTES), receiveBytes: INQUIRY_BYTES },
    options,
  );
  const inquiry = parseInquiry(data);
  if (inquiry === null) throw badData(`${data.length} bytes of INQUIRY data`);
  const fields = { target: session.targetName, lun: lun.toString('hex') };
  if (inquiry.qualifier !== 0 || inquiry.deviceType === DeviceType.Unknown) {
    throw scsiErrors.make('SCSI_NO_LUN', { fields });
  }
  if (inquiry.deviceType !== DeviceType.Disk) {
    throw scsiErrors.make('SCSI_NO_LUN', {
      message: `the logical unit is no disk, but a device of type 0x${inquiry.deviceType.toString(16)}`,
      hint: 'With tgt LUN 0 is a controller and disks start at LUN 1.',
      fields,
    });
  }
  return inquiry;
}

/** A page, in its full length; null when the device does not have it. */
async function vpd(
  session: IscsiSession,
  lun: Buffer,
  page: number,
  options: RunOptions,
): Promise<Buffer | null> {
  const ask = async (bytes: number): Promise<Buffer | null> => {
    const result = await run(
      session,
      lun,
      { cdb: (into, at) => putInquiry(into, at, page, bytes), receiveBytes: bytes },
      options,
    );
    return result.good ? result.data : null;
  };
  const first = await ask(INQUIRY_BYTES);
  if (first === null || first.length < 4) return first;
  const whole = u16(first, 2) + 4;
  return whole <= INQUIRY_BYTES ? first : await ask(Math.min(whole, VPD_BYTES_MAX));
}

async function supportedPages(
  session: IscsiSession,
  lun: Buffer,
  options: RunOptions,
): Promise<readonly number[]> {
  const data = await vpd(session, lun, VpdPage.Supported, options);
  return (data === null ? null : parseSupportedPages(data)) ?? [VpdPage.Identification];
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

async function modeSense(
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
