import { u16 } from '../scsi/bytes.ts';
import { scsiErrors } from '../scsi/errors.ts';
import { DeviceType, type InquiryData, parseInquiry, putInquiry } from '../scsi/inquiry.ts';
import { formatLun } from '../scsi/lun.ts';
import {
  type Designator,
  parseDesignators,
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

export interface LunIdentity {
  /** The same on every path: "naa:6001405...". */
  readonly wwid: string;
  readonly vendor: string;
  readonly product: string;
  readonly revision: string;
}

/** Who a logical unit says it is. */
export interface LunPortrait {
  readonly inquiry: InquiryData;
  readonly identity: LunIdentity;
  readonly designators: readonly Designator[];
  /** Vital product data pages that it has. */
  readonly pages: readonly number[];
}

/** Asks a logical unit who it is. Rejects when it is none, or no disk. */
export async function identify(
  session: IscsiSession,
  lun: Buffer,
  options: RunOptions,
): Promise<LunPortrait> {
  const inquiry = await standardInquiry(session, lun, options);
  const pages = await supportedPages(session, lun, options);
  const page = async (number: number): Promise<Buffer | null> =>
    pages.includes(number) ? await vpd(session, lun, number, options) : null;
  const identification = await page(VpdPage.Identification);
  const serial = await page(VpdPage.SerialNumber);
  const designators = identification === null ? null : parseDesignators(identification);
  const serialText = serial === null ? null : parseSerialNumber(serial);
  const { vendor, product, revision } = inquiry;
  const wwid = wwidFrom(designators, serialText, inquiry, session, lun);
  return {
    inquiry,
    identity: { wwid, vendor, product, revision },
    designators: designators ?? [],
    pages,
  };
}

/** NAA, EUI-64, SCSI name or T10 before the serial number (I04 of the checklist). */
function wwidFrom(
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
  const fields = { target: session.targetName, lun: formatLun(lun) };
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

/** A page, in its full length; null when the device does not have it (I03). */
export async function vpd(
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
