// `npm run bench`: ours and qemu-nbd in turn on the same target. It measures and reports; it fails only when data is wrong or
// a program breaks, never because something was slow.
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { runFio } from '#testkit/fio.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { missingReason } from '#testkit/tools.ts';
import { renderChart } from './chart.ts';
import { measure, type Sample, summarize } from './measure.ts';
import { BASELINE, DEFAULT_MODES, MODES, type Mode, type Server } from './modes.ts';
import { type Judged, judge, renderSpecFigures, renderTable, renderVerdict } from './report.ts';
import { ROWS, type Row } from './rows.ts';

const OUT = resolve(import.meta.dirname, 'out');
const ROOT = resolve(import.meta.dirname, '../..');
const MIB = 1024 * 1024;
const LUN_BYTES = 512 * MIB;
const VERIFY_BYTES = 64 * MIB;
/** Long enough for the engine to have compiled what is measured: these are programs that run for months. */
const WARM_UP_SECONDS = 10;

const USAGE = `npm run bench -- [options]
  --rounds N     rounds of every row (5)
  --seconds N    of each measurement (4)
  --rows LIST    of: ${ROWS.map((row) => row.id).join(', ')}; a part of a name is enough
  --only LIST    of: ${MODES.map((mode) => mode.id).join(', ')} (${DEFAULT_MODES.join(',')})
  --portals N    of the target (1)
  --no-verify    leaves out the pass that checks data`;

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly rows: readonly Row[];
  readonly modes: readonly Mode[];
  readonly portals: number;
  readonly verify: boolean;
}

class UsageError extends Error {}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`--${name} takes a number from 1`);
  return value;
}

function choose<T extends { readonly id: string }>(
  name: string,
  all: readonly T[],
  text: string,
  fits: (id: string, wanted: string) => boolean,
): T[] {
  const wanted = text.split(',').map((part) => part.trim());
  for (const part of wanted) {
    if (!all.some((one) => fits(one.id, part))) {
      throw new UsageError(`--${name}: there is no ${part}; there are ${all.map((one) => one.id)}`);
    }
  }
  return all.filter((one) => wanted.some((part) => fits(one.id, part)));
}

function options(args: string[]): Options | null {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '4' },
      rows: { type: 'string', default: '' },
      only: { type: 'string', default: DEFAULT_MODES.join(',') },
      portals: { type: 'string', default: '1' },
      'no-verify': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return null;
  return {
    rounds: positive('rounds', values.rounds),
    seconds: positive('seconds', values.seconds),
    rows: choose('rows', ROWS, values.rows, (id, wanted) => id.includes(wanted)),
    modes: choose('only', MODES, values.only, (id, wanted) => id === wanted),
    portals: positive('portals', values.portals),
    verify: !values['no-verify'],
  };
}

/** Every page of the backing file exists before anything is measured. */
function fill(path: string): void {
  const chunk = Buffer.alloc(MIB, 'orion');
  const fd = openSync(path, 'r+');
  for (let offset = 0; offset < LUN_BYTES; offset += MIB) writeSync(fd, chunk, 0, MIB, offset);
  closeSync(fd);
}

function firstLine(command: string, ...args: string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', cwd: ROOT, stdio: 'pipe' }).split(
      '\n',
    )[0]!;
  } catch {
    return 'unknown';
  }
}

function machine() {
  const all = cpus();
  return {
    cpu: all[0]?.model ?? 'unknown',
    cores: all.length,
    kernel: release(),
    node: process.version,
    fio: firstLine('fio', '--version'),
    qemuNbd: firstLine('qemu-nbd', '--version'),
    tgtd: firstLine('tgtd', '--version'),
    commit: firstLine('git', 'rev-parse', '--short', 'HEAD'),
  };
}

async function verify(mode: Mode, server: Server): Promise<void> {
  for (const blockBytes of [4096, 128 * 1024]) {
    await runFio({
      uri: server.uri,
      rw: 'randwrite',
      blockBytes,
      depth: 16,
      sizeBytes: VERIFY_BYTES,
      verify: true,
    });
    server.assertRunning();
  }
  console.log(`data through ${mode.title}: written, read back and right`);
}

async function run(chosen: Options, target: Tgtd, servers: Map<Mode, Server>): Promise<Judged[]> {
  for (const mode of chosen.modes) {
    servers.set(mode, await mode.start(target));
    console.log(`started ${mode.title}`);
  }
  if (chosen.verify) for (const [mode, server] of servers) await verify(mode, server);
  const samples = new Map(
    chosen.rows.map((row) => [row, new Map(chosen.modes.map((mode) => [mode, [] as Sample[]]))]),
  );
  for (let round = 0; round <= chosen.rounds; round++) {
    // Round 0 warms everything up and does not count.
    const seconds = round === 0 ? WARM_UP_SECONDS : chosen.seconds;
    for (const row of chosen.rows) {
      const rates: string[] = [];
      for (const [mode, server] of servers) {
        const sample = await measure(server, target.pid, row, seconds);
        if (round > 0) samples.get(row)!.get(mode)!.push(sample);
        rates.push(`${mode.id} ${sample.rate.toFixed(0)}`);
      }
      const name = round === 0 ? 'warm-up' : `round ${round}`;
      console.log(`${name}: ${row.title}: ${rates.join(', ')} ${row.unit}`);
    }
  }
  const results = [...samples].map(
    ([row, modes]) =>
      [row, new Map([...modes].map(([mode, list]) => [mode, summarize(list)]))] as const,
  );
  return judge(new Map(results));
}

function write(judged: readonly Judged[], chosen: Options): void {
  const host = machine();
  const when = new Date().toISOString();
  const data = {
    when,
    machine: host,
    rounds: chosen.rounds,
    seconds: chosen.seconds,
    results: judged.map(({ row, mode, ...rest }) => ({ row: row.id, mode: mode.id, ...rest })),
  };
  const subtitle = `${host.cpu}, ${host.cores} cores, Node ${host.node}, medians of ${chosen.rounds}, ${when.slice(0, 10)}`;
  mkdirSync(OUT, { recursive: true });
  writeFileSync(join(OUT, 'bench.json'), `${JSON.stringify(data, null, 2)}\n`);
  writeFileSync(join(OUT, 'bench.svg'), renderChart(judged, subtitle));
  console.log(`\nWritten: ${join(OUT, 'bench.json')} and bench.svg`);
}

async function main(): Promise<void> {
  const chosen = options(process.argv.slice(2));
  if (chosen === null) {
    console.log(USAGE);
    return;
  }
  const reason = missingReason(['tgtd', 'tgtadm', 'fio', 'qemu-nbd', 'qemu-iscsi']);
  if (reason !== null) throw new UsageError(`the bench ${reason}`);
  const servers = new Map<Mode, Server>();
  const target = await startTgtd({
    portals: chosen.portals,
    luns: [{ sizeBytes: LUN_BYTES }],
    // For who asks for them; qemu-nbd and ours do not.
    params: { HeaderDigest: 'CRC32C,None', DataDigest: 'CRC32C,None' },
  });
  try {
    fill(target.backingFile(1));
    const judged = await run(chosen, target, servers);
    const parts = [renderTable(judged), renderVerdict(judged), renderSpecFigures(judged)];
    console.log(`\n${parts.filter((part) => part !== '').join('\n\n')}`);
    if (!chosen.modes.some((mode) => mode.id === BASELINE)) console.log('No baseline: no ratios.');
    write(judged, chosen);
  } finally {
    for (const server of servers.values()) await server.stop();
    await target.stop();
  }
}

// Ends the peers by way of the exit handlers.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
try {
  await main();
} catch (error) {
  console.error(error instanceof UsageError ? `${error.message}\n${USAGE}` : error);
  process.exitCode = 1;
}
