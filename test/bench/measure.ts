import { runFio } from '#testkit/fio.ts';
import { cpuMicros, mainThreadMicros, rssBytes } from '#testkit/proc-stat.ts';
import type { Server } from './modes.ts';
import { inUnit, isWrite, type Row } from './rows.ts';

/** One fio run of one row against one server. */
export interface Sample {
  /** In the row's unit. */
  readonly rate: number;
  readonly meanMicros: number;
  readonly p99Micros: number;
  /** Of all processes of the server. */
  readonly cpuMicrosPerIo: number;
  /** Of one core, that the target's thread for initiators had while the job ran: near 1 it is what bounds the row. */
  readonly targetShare: number;
  readonly rssBytes: number;
}

export interface Summary {
  readonly rate: number;
  readonly rateMin: number;
  readonly rateMax: number;
  readonly meanMicros: number;
  readonly p99Micros: number;
  readonly cpuMicrosPerIo: number;
  readonly targetShare: number;
  readonly rssBytes: number;
  readonly samples: readonly Sample[];
}

/** CPU time by process, so that one that was restarted in between does not count as negative time. */
function cpuByPid(server: Server): Map<number, number> {
  return new Map(server.pids().map((pid) => [pid, cpuMicros(pid)]));
}

export async function measure(
  server: Server,
  targetPid: number,
  row: Row,
  seconds: number,
): Promise<Sample> {
  const targetBefore = mainThreadMicros(targetPid);
  const before = cpuByPid(server);
  const result = await runFio({
    uri: server.uri,
    rw: row.rw,
    blockBytes: row.blockBytes,
    depth: row.depth,
    seconds,
  });
  server.assertRunning();
  const targetMicros = mainThreadMicros(targetPid) - targetBefore;
  let cpu = 0;
  let rss = 0;
  for (const [pid, now] of cpuByPid(server)) {
    cpu += now - (before.get(pid) ?? 0);
    rss += rssBytes(pid);
  }
  const side = isWrite(row) ? result.write : result.read;
  return {
    rate: inUnit(row, side.iops),
    meanMicros: side.meanMicros,
    p99Micros: side.p99Micros,
    cpuMicrosPerIo: cpu / Math.max(1, side.ios),
    targetShare: targetMicros / 1000 / Math.max(1, result.runtimeMs),
    rssBytes: rss,
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length % 2 === 1) return sorted[middle]!;
  return sorted.length === 0 ? Number.NaN : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function summarize(samples: readonly Sample[]): Summary {
  const of = (pick: (sample: Sample) => number): number => median(samples.map(pick));
  const rates = samples.map((sample) => sample.rate);
  return {
    rate: of((sample) => sample.rate),
    rateMin: Math.min(...rates),
    rateMax: Math.max(...rates),
    meanMicros: of((sample) => sample.meanMicros),
    p99Micros: of((sample) => sample.p99Micros),
    cpuMicrosPerIo: of((sample) => sample.cpuMicrosPerIo),
    targetShare: of((sample) => sample.targetShare),
    rssBytes: Math.max(...samples.map((sample) => sample.rssBytes)),
    samples,
  };
}
