import { errorText } from '#core/errors.ts';
import { run, runChecked } from '#iscsi/execute.ts';
import { readCapacity } from '#iscsi/lun-facts.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { DeviceType, parseInquiry, putInquiry } from '#scsi/inquiry.ts';
import { formatLun } from '#scsi/lun.ts';
import { parseReportLuns, putReportLuns } from '#scsi/report-luns.ts';
import { putTestUnitReady } from '#scsi/test-unit-ready.ts';

const INQUIRY_BYTES = 96;
const FIRST_LIST_BYTES = 1024;
/** The longest list that is asked for: 16 384 units. */
const LIST_BYTES_MAX = 8 + 8 * 16_384;
/** Units that are looked at one by one. */
const LUNS_MAX = 256;
/** LUN 0 answers REPORT LUNS for all of them. */
const LUN_ZERO = Buffer.alloc(8);

/** What a logical unit says of itself. Null: it did not, or does not have it. */
export interface LunReport {
  /** As in a configuration: a small number, or the 16 digits. */
  readonly lun: string;
  readonly kind: string;
  readonly product: string;
  readonly sizeBytes: number | null;
  readonly blockBytes: number | null;
  /** "ready", or what TEST UNIT READY says. */
  readonly state: string;
}

/** Asks every logical unit of a target: REPORT LUNS, then TEST UNIT READY, INQUIRY and READ CAPACITY of each. */
export async function reportLuns(session: IscsiSession): Promise<LunReport[]> {
  const luns = await listLuns(session);
  const reports: LunReport[] = [];
  for (const lun of luns.slice(0, LUNS_MAX)) reports.push(await lookAt(session, lun));
  return reports;
}

async function listLuns(session: IscsiSession): Promise<readonly Buffer[]> {
  for (let bytes = FIRST_LIST_BYTES; ; bytes = LIST_BYTES_MAX) {
    const data = await runChecked(
      session,
      LUN_ZERO,
      { cdb: (into, at) => putReportLuns(into, at, bytes), receiveBytes: bytes },
      {},
    );
    const list = parseReportLuns(data);
    if (list === null) return [];
    if (list.totalBytes <= bytes || bytes === LIST_BYTES_MAX) return list.luns;
  }
}

async function lookAt(session: IscsiSession, lun: Buffer): Promise<LunReport> {
  const named = { lun: formatLun(lun) };
  try {
    const ready = await run(session, lun, { cdb: putTestUnitReady }, {});
    const data = await runChecked(
      session,
      lun,
      { cdb: (into, at) => putInquiry(into, at, null, INQUIRY_BYTES), receiveBytes: INQUIRY_BYTES },
      {},
    );
    const inquiry = parseInquiry(data);
    const isDisk = inquiry?.deviceType === DeviceType.Disk;
    const capacity = isDisk && ready.good ? await readCapacity(session, lun, {}) : null;
    return {
      ...named,
      kind: kindOf(inquiry?.deviceType),
      product: inquiry === null ? '' : `${inquiry.vendor} ${inquiry.product} ${inquiry.revision}`,
      sizeBytes: capacity === null ? null : capacity.blocks * capacity.blockBytes,
      blockBytes: capacity?.blockBytes ?? null,
      state: ready.good ? 'ready' : ready.verdict.text,
    };
  } catch (error) {
    return {
      ...named,
      kind: '?',
      product: '',
      sizeBytes: null,
      blockBytes: null,
      state: errorText(error),
    };
  }
}

function kindOf(deviceType: number | undefined): string {
  if (deviceType === undefined) return '?';
  if (deviceType === DeviceType.Disk) return 'disk';
  if (deviceType === DeviceType.Controller) return 'controller';
  return `type 0x${deviceType.toString(16).padStart(2, '0')}`;
}
