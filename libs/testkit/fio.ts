import { startProcess, type TestProcess } from './process.ts';

/** fio as an independent NBD client: it makes the load, measures, and verifies what it wrote. */

export interface FioOptions {
  /** "nbd+unix:///vol1?socket=/path" or "nbd://host:port/vol1". */
  readonly uri: string;
  readonly rw: 'read' | 'write' | 'randread' | 'randwrite' | 'rw' | 'randrw';
  readonly blockBytes?: number;
  readonly depth?: number;
  /** Runs for this long; else until `sizeBytes` are done. */
  readonly seconds?: number;
  readonly rampSeconds?: number;
  /** The part of the device that is used; all of it when left out. */
  readonly sizeBytes?: number;
  readonly offsetBytes?: number;
  /** Writes checksums and reads them back. */
  readonly verify?: boolean;
  readonly rateIops?: number;
  readonly extraArgs?: readonly string[];
  readonly timeoutMs?: number;
}

export interface FioSide {
  readonly ios: number;
  readonly iops: number;
  readonly bytesPerSecond: number;
  readonly meanMicros: number;
  readonly p50Micros: number;
  readonly p99Micros: number;
  readonly p999Micros: number;
  readonly maxMicros: number;
}

export interface FioResult {
  /** fio's error number, 0 when all went well. */
  readonly error: number;
  readonly totalErrors: number;
  readonly runtimeMs: number;
  readonly read: FioSide;
  readonly write: FioSide;
  readonly stderr: string;
}

export interface FioRun {
  readonly process: TestProcess;
  /** Rejects when fio could not run at all or reports an error, with its output in the message. */
  readonly result: Promise<FioResult>;
}

const TIMEOUT_DEFAULT_MS = 300_000;

function fioArgs(options: FioOptions): string[] {
  const set = (name: string, value: string | number | undefined): string[] =>
    value === undefined ? [] : [`--${name}=${value}`];
  return [
    '--name=job',
    '--ioengine=nbd',
    `--uri=${options.uri}`,
    `--rw=${options.rw}`,
    ...set('bs', options.blockBytes ?? 4096),
    ...set('iodepth', options.depth ?? 1),
    ...(options.seconds === undefined ? [] : ['--time_based', `--runtime=${options.seconds}`]),
    ...set('ramp_time', options.rampSeconds),
    ...set('size', options.sizeBytes),
    ...set('offset', options.offsetBytes),
    ...set('rate_iops', options.rateIops),
    ...(options.verify ? ['--verify=crc32c', '--verify_fatal=1', '--serialize_overlap=1'] : []),
    // Or it leaves a file in the working directory.
    '--verify_state_save=0',
    '--randrepeat=0',
    '--output-format=json',
    ...(options.extraArgs ?? []),
  ];
}

/** Starts a load and returns at once, for tests that break something while it runs. */
export async function startFio(options: FioOptions): Promise<FioRun> {
  const child = await startProcess({ command: 'fio', args: fioArgs(options) });
  const timeoutMs = options.timeoutMs ?? (options.seconds ?? 0) * 1000 + TIMEOUT_DEFAULT_MS;
  const timer = setTimeout(() => void child.stop('SIGKILL'), timeoutMs);
  const result = child.exited.then((exit) => {
    clearTimeout(timer);
    const parsed = parse(child);
    if (exit.code !== 0 || parsed === null || parsed.error !== 0) throw new Error(child.explain());
    return parsed;
  });
  // Awaited later by whoever started it; until then a failure is not unhandled.
  result.catch(() => {});
  return { process: child, result };
}

export async function runFio(options: FioOptions): Promise<FioResult> {
  return (await startFio(options)).result;
}

interface RawSide {
  readonly total_ios: number;
  readonly iops: number;
  readonly bw_bytes: number;
  readonly clat_ns: {
    readonly mean: number;
    readonly max: number;
    readonly percentile?: Readonly<Record<string, number>>;
  };
}

interface RawJob {
  readonly error: number;
  readonly total_err?: number;
  readonly job_runtime: number;
  readonly read: RawSide;
  readonly write: RawSide;
}

function side(raw: RawSide): FioSide {
  const percentile = (name: string): number => (raw.clat_ns.percentile?.[name] ?? 0) / 1000;
  return {
    ios: raw.total_ios,
    iops: raw.iops,
    bytesPerSecond: raw.bw_bytes,
    meanMicros: raw.clat_ns.mean / 1000,
    p50Micros: percentile('50.000000'),
    p99Micros: percentile('99.000000'),
    p999Micros: percentile('99.900000'),
    maxMicros: raw.clat_ns.max / 1000,
  };
}

function parse(child: TestProcess): FioResult | null {
  const text = child.stdout();
  // Messages may stand before the JSON.
  const start = text.indexOf('\n{') + 1;
  let job: RawJob | undefined;
  try {
    job = (JSON.parse(text.slice(text.startsWith('{') ? 0 : start)) as { jobs: RawJob[] }).jobs[0];
  } catch {
    return null;
  }
  if (job === undefined) return null;
  return {
    error: job.error,
    totalErrors: job.total_err ?? 0,
    runtimeMs: job.job_runtime,
    read: side(job.read),
    write: side(job.write),
    stderr: child.stderr(),
  };
}
