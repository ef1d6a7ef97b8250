import { lunFromNumber } from '../scsi/lun.ts';
import { parseReportLuns, putReportLuns } from '../scsi/report-luns.ts';
import { badData, type RunOptions, runChecked } from './execute.ts';
import type { IscsiSession } from './session.ts';

/** REPORT LUNS is asked for this much first; what is more is asked for again, up to 16384 units. */
const FIRST_BYTES = 8 + 8 * 256;
const BYTES_MAX = 8 + 8 * 16384;

/** The list grows while we ask: then the next answer tells of more again. */
const ASKS_MAX = 4;

/** The logical units of a target, 8 bytes each as it wrote them: to be sent back unchanged (I02, F01). */
export async function reportLuns(
  session: IscsiSession,
  options: RunOptions = {},
): Promise<readonly Buffer[]> {
  const lun0 = lunFromNumber(0);
  let bytes = FIRST_BYTES;
  for (let asks = 1; ; asks++) {
    const cdb = (into: Buffer, at: number): void => putReportLuns(into, at, bytes);
    const data = await runChecked(session, lun0, { cdb, receiveBytes: bytes }, options);
    const list = parseReportLuns(data);
    if (list === null) throw badData('REPORT LUNS');
    if (list.totalBytes <= bytes || bytes === BYTES_MAX || asks === ASKS_MAX) return list.luns;
    bytes = Math.min(list.totalBytes, BYTES_MAX);
  }
}
