/** What is measured: one fio job each. */

export interface Row {
  readonly id: string;
  readonly title: string;
  readonly rw: 'read' | 'write' | 'randread' | 'randwrite';
  readonly blockBytes: number;
  readonly depth: number;
  readonly unit: 'IOPS' | 'MiB/s';
}

const KIB = 1024;
const MIB = 1024 * KIB;

export const ROWS: readonly Row[] = [
  row('4k-randread-32', '4 KiB random read, 32 deep', 'randread', 4 * KIB, 32),
  row('4k-randwrite-32', '4 KiB random write, 32 deep', 'randwrite', 4 * KIB, 32),
  row('4k-randread-1', '4 KiB random read, 1 deep', 'randread', 4 * KIB, 1),
  row('64k-read-16', '64 KiB read, 16 deep', 'read', 64 * KIB, 16),
  row('64k-write-16', '64 KiB write, 16 deep', 'write', 64 * KIB, 16),
  row('1m-read-16', '1 MiB read, 16 deep', 'read', MIB, 16),
  row('1m-write-16', '1 MiB write, 16 deep', 'write', MIB, 16),
];

function row(id: string, title: string, rw: Row['rw'], blockBytes: number, depth: number): Row {
  return { id, title, rw, blockBytes, depth, unit: blockBytes < 64 * KIB ? 'IOPS' : 'MiB/s' };
}

export function isWrite(row: Row): boolean {
  return row.rw.endsWith('write');
}

/** A number of I/Os a second in the row's unit. */
export function inUnit(row: Row, iops: number): number {
  return row.unit === 'IOPS' ? iops : (iops * row.blockBytes) / MIB;
}
