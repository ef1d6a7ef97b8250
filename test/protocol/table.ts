import { chapRows } from './chap.ts';
import { controlRows } from './control.ts';
import { discoveryRows } from './discovery.ts';
import { loginRows } from './login.ts';
import { recovery } from './recovery.ts';
import type { Group, Row, RowStatus } from './row.ts';
import { scsiRows } from './scsi.ts';
import { sequencing } from './sequencing.ts';
import { transfers } from './transfers.ts';
import { transport } from './transport.ts';

/** How many rows each group has: a row that is lost is noticed. */
export const GROUP_SIZES: Readonly<Record<string, number>> = {
  A: 11,
  B: 26,
  C: 10,
  D: 5,
  E: 11,
  F: 16,
  G: 20,
  H: 14,
  I: 26,
};

export const groups: readonly Group[] = [
  transport,
  loginRows,
  chapRows,
  discoveryRows,
  sequencing,
  transfers,
  controlRows,
  recovery,
  scsiRows,
];

export const allRows: readonly Row[] = groups.flatMap((group) => group.rows);

export function isDone(status: RowStatus): boolean {
  return status === 'done' || status === 'done, shown on our own target only';
}
