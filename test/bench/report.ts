import { goalOf, SPEC_FIGURES } from './goals.ts';
import type { Summary } from './measure.ts';
import { BASELINE, type Mode } from './modes.ts';
import { isWrite, type Row } from './rows.ts';

/** What came out, by row and mode. A mode is missing in a row when it could not be measured. */
export type Results = ReadonlyMap<Row, ReadonlyMap<Mode, Summary>>;

export interface Judged {
  readonly row: Row;
  readonly mode: Mode;
  readonly summary: Summary;
  /** To the baseline; null when that was not measured. */
  readonly ratio: number | null;
  readonly cpuRatio: number | null;
  readonly p99Ratio: number | null;
  readonly belowFloor: string[];
  readonly misses: string[];
}

/** tgtd has one thread that talks to initiators: with so much of a core in use by it, it is what bounds the row. */
const TARGET_SHARE_FULL = 0.9;

const text = (value: number | null, digits = 2): string =>
  value === null || !Number.isFinite(value) ? '-' : value.toFixed(digits);

export function judge(results: Results): Judged[] {
  const judged: Judged[] = [];
  for (const [row, modes] of results) {
    const baseline = [...modes].find(([mode]) => mode.id === BASELINE)?.[1];
    for (const [mode, summary] of modes) {
      const to = (pick: (summary: Summary) => number): number | null =>
        baseline === undefined ? null : pick(summary) / pick(baseline);
      const ratio = to((one) => one.rate);
      const cpuRatio = to((one) => one.cpuMicrosPerIo);
      const p99Ratio = to((one) => one.p99Micros);
      const goal = goalOf(mode.id, row);
      const belowFloor: string[] = [];
      const misses: string[] = [];
      if (goal !== null && ratio !== null && cpuRatio !== null && p99Ratio !== null) {
        if (ratio < goal.floor) belowFloor.push(`rate ${text(ratio)} < ${goal.floor}`);
        if (ratio < goal.goal) misses.push(`rate ${text(ratio)} < ${goal.goal}`);
        if (goal.cpu !== null && cpuRatio > goal.cpu) {
          misses.push(`CPU ${text(cpuRatio)} > ${goal.cpu}`);
        }
        if (p99Ratio > goal.p99) misses.push(`p99 ${text(p99Ratio)} > ${goal.p99}`);
      }
      judged.push({ row, mode, summary, ratio, cpuRatio, p99Ratio, belowFloor, misses });
    }
  }
  return judged;
}

const COLUMNS: readonly (readonly [string, (one: Judged) => string])[] = [
  ['', (one) => one.mode.title],
  ['median', (one) => text(one.summary.rate, 0)],
  ['min-max', (one) => `${text(one.summary.rateMin, 0)}-${text(one.summary.rateMax, 0)}`],
  ['unit', (one) => one.row.unit],
  ['ratio', (one) => text(one.ratio)],
  ['p99 µs', (one) => text(one.summary.p99Micros, 0)],
  ['ratio', (one) => text(one.p99Ratio)],
  ['CPU µs/IO', (one) => text(one.summary.cpuMicrosPerIo, 1)],
  ['ratio', (one) => text(one.cpuRatio)],
  ['target', (one) => `${text(100 * one.summary.targetShare, 0)} %`],
  ['RSS MiB', (one) => text(one.summary.rssBytes / 2 ** 20, 0)],
];

export function renderTable(judged: readonly Judged[]): string {
  const cells = judged.map((one) => COLUMNS.map(([, cell]) => cell(one)));
  const widths = COLUMNS.map(([title], column) =>
    Math.max(title.length, ...cells.map((line) => line[column]!.length)),
  );
  const line = (values: readonly string[]): string =>
    values
      .map((value, i) => (i === 0 ? value.padEnd(widths[i]!) : value.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  const out: string[] = [line(COLUMNS.map(([title]) => title))];
  let row: Row | null = null;
  judged.forEach((one, index) => {
    if (one.row !== row) {
      row = one.row;
      out.push('', row.title);
    }
    out.push(line(cells[index]!));
  });
  return out.join('\n');
}

export function renderVerdict(judged: readonly Judged[]): string {
  const bound = ({ row, summary }: Judged): string => {
    const all = judged.filter((one) => one.row === row && one.mode.id === BASELINE);
    const most = Math.max(summary.targetShare, ...all.map((one) => one.summary.targetShare));
    return most < TARGET_SHARE_FULL ? '' : ' (the target is at its limit)';
  };
  const ours = judged.filter((one) => goalOf(one.mode.id, one.row) !== null);
  if (ours.length === 0) return 'No mode with goals was measured.';
  const list = (title: string, pick: (one: Judged) => string[]): string[] => {
    const missed = ours.filter((one) => pick(one).length > 0);
    if (missed.length === 0) return [`${title}: reached by all ${ours.length}.`];
    return [
      `${title}: missed by ${missed.length} of ${ours.length}`,
      ...missed.map(
        (one) => `  ${one.row.title}, ${one.mode.title}: ${pick(one).join(', ')}${bound(one)}`,
      ),
    ];
  };
  return [...list('Floors', (one) => one.belowFloor), ...list('Goals', (one) => one.misses)].join(
    '\n',
  );
}

/** The specification's figures beside the best of ours. */
export function renderSpecFigures(judged: readonly Judged[]): string {
  const ours = judged.filter((one) => goalOf(one.mode.id, one.row) !== null);
  const highest = (rows: (row: Row) => boolean, pick: (one: Judged) => number): number => {
    const values = ours.filter((one) => rows(one.row)).map(pick);
    return values.length === 0 ? Number.NaN : Math.max(...values);
  };
  const rate = (one: Judged): number => one.summary.rate;
  const small = (row: Row): boolean => row.unit === 'IOPS' && row.depth > 1;
  const bulk = (row: Row): boolean => row.unit === 'MiB/s';
  const lines: readonly (readonly [string, number, number, string])[] = [
    ['4 KiB reads', highest((r) => small(r) && !isWrite(r), rate), SPEC_FIGURES.readIops, 'IOPS'],
    ['4 KiB writes', highest((r) => small(r) && isWrite(r), rate), SPEC_FIGURES.writeIops, 'IOPS'],
    ['one path', highest(bulk, rate), SPEC_FIGURES.onePathBytesPerSecond / 2 ** 20, 'MiB/s'],
    [
      'mean latency of 4 KiB reads, worst mode',
      highest(
        (r) => r.unit === 'IOPS' && !isWrite(r),
        (one) => one.summary.meanMicros / 1000,
      ),
      SPEC_FIGURES.readLatencyMs,
      'ms or less',
    ],
    [
      'mean latency of 4 KiB writes, worst mode',
      highest(
        (r) => r.unit === 'IOPS' && isWrite(r),
        (one) => one.summary.meanMicros / 1000,
      ),
      SPEC_FIGURES.writeLatencyMs,
      'ms or less',
    ],
  ];
  const known = lines.filter(([, measured]) => Number.isFinite(measured));
  if (known.length === 0) return '';
  const digits = (value: number): string => text(value, value < 100 ? 2 : 0);
  return [
    "The specification's figures (rates are bounded here by the target and the cores it shares with fio and us):",
    ...known.map(
      ([name, measured, figure, unit]) =>
        `  ${name}: ${digits(measured)} (${digits(figure)} ${unit})`,
    ),
  ].join('\n');
}
