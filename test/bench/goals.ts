import { isWrite, type Row } from './rows.ts';

/**
 * What has to be reached, all as ratios to the baseline (qemu-nbd) that was measured in turn in the same run. `floor`
 * must hold from the first release on; `goal` is where each row has to get.
 */

export type OurMode = 'embedded' | 'processes';

export interface Goal {
  /** Throughput: at least. */
  readonly floor: number;
  readonly goal: number;
  /** CPU per I/O: at most. Null where it is not judged. */
  readonly cpu: number | null;
  /** p99 latency: at most. */
  readonly p99: number;
}

const P99: Record<OurMode, number> = { embedded: 1.0, processes: 1.3 };
const CPU: Record<OurMode, number> = { embedded: 0.55, processes: 1.0 };

type Class = 'small' | 'oneDeep' | 'bulkRead' | 'bulkWrite';

const THROUGHPUT: Record<
  OurMode,
  Record<Class, { readonly floor: number; readonly goal: number }>
> = {
  embedded: {
    small: { floor: 1.2, goal: 1.5 },
    oneDeep: { floor: 1.0, goal: 1.1 },
    bulkRead: { floor: 1.2, goal: 1.35 },
    bulkWrite: { floor: 1.2, goal: 1.7 },
  },
  processes: {
    small: { floor: 0.9, goal: 1.2 },
    oneDeep: { floor: 0.7, goal: 0.75 },
    bulkRead: { floor: 0.9, goal: 1.0 },
    bulkWrite: { floor: 0.9, goal: 1.2 },
  },
};

function classOf(row: Row): Class {
  if (row.depth === 1) return 'oneDeep';
  if (row.unit === 'IOPS') return 'small';
  return isWrite(row) ? 'bulkWrite' : 'bulkRead';
}

/** Null for a mode that has no goals, such as the baseline measured against itself. */
export function goalOf(mode: string, row: Row): Goal | null {
  if (mode !== 'embedded' && mode !== 'processes') return null;
  return {
    ...THROUGHPUT[mode][classOf(row)],
    cpu: row.depth === 1 ? null : CPU[mode],
    p99: P99[mode],
  };
}

/** The specification's own figures, for any mode. Throughputs depend on the machine; latencies do not. */
export const SPEC_FIGURES = {
  readIops: 60_000,
  writeIops: 50_000,
  onePathBytesPerSecond: 1.2e9,
  readLatencyMs: 4,
  writeLatencyMs: 8,
} as const;
