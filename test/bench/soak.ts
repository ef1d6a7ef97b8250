// `node test/bench/soak.ts --minutes 10`: a node as processes under mixed load, and whether the memory of each process is flat.
// Not part of the tests: it takes as long as it is told to.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startFio } from '#testkit/fio.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { rssBytes } from '#testkit/proc-stat.ts';
import { startTgtd } from '#testkit/tgtd.ts';
import { missingReason } from '#testkit/tools.ts';
import { pause, waitFor } from '#testkit/wait.ts';
import { StallMeter } from '../faults/stall-meter.ts';

const OUT = resolve(import.meta.dirname, 'out');
const MIB = 1024 * 1024;
const LUN_BYTES = 256 * MIB;
/** fio has the lower part; writers that check what they wrote have a few blocks behind it. */
const FIO_BYTES = 192 * MIB;
const SAMPLE_MS = 10_000;
const MINUTE_MS = 60_000;
/** Flat: between the second and the last quarter of the run it grew by less than the larger of these. */
const GROWTH_SHARE_MAX = 0.1;
const GROWTH_BYTES_MAX = 16 * MIB;
const QUARTERS = 4;

interface Subject {
  readonly id: string;
  readonly pid: number;
  readonly rss: number[];
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

/** Medians of the second and of the last quarter: what came before is warming up. */
function trend({ rss }: Subject): { from: number; to: number; flat: boolean } {
  const quarter = Math.max(1, Math.floor(rss.length / QUARTERS));
  const from = median(rss.slice(quarter, 2 * quarter));
  const to = median(rss.slice(-quarter));
  return { from, to, flat: to - from < Math.max(GROWTH_BYTES_MAX, from * GROWTH_SHARE_MAX) };
}

function row(cells: readonly (string | number)[]): string {
  return cells.map((cell, at) => String(cell)[at === 0 ? 'padEnd' : 'padStart'](12)).join('');
}

function inMib(bytes: number): string {
  return (bytes / MIB).toFixed(1);
}

function report(subjects: readonly Subject[]): boolean {
  console.log(row(['RSS in MiB', 'first', 'quarter 2', 'quarter 4', 'last', 'max', 'verdict']));
  const flat = subjects.map((subject) => {
    const { from, to, flat } = trend(subject);
    const { rss } = subject;
    const figures = [rss[0]!, from, to, rss.at(-1)!, Math.max(...rss)].map(inMib);
    console.log(row([subject.id, ...figures, flat ? 'flat' : 'GROWS']));
    return flat;
  });
  return flat.every(Boolean);
}

async function subjectsOf(orion: Orion): Promise<Subject[]> {
  const { processes } = await orion.status();
  const all = [
    ...processes.map(({ id, pid }) => ({ id, pid })),
    { id: 'supervisor', pid: orion.process.pid },
    { id: 'nats-server', pid: orion.natsPid() },
  ];
  return all.map(({ id, pid }) => ({ id, pid, rss: [] }));
}

async function soak(orion: Orion, minutes: number): Promise<boolean> {
  const subjects = await subjectsOf(orion);
  const seconds = Math.round((minutes * MINUTE_MS) / 1000);
  const meter = await StallMeter.start(orion.socket, FIO_BYTES);
  const fio = await startFio({
    ...{ uri: orion.nbdUnix, rw: 'randrw', depth: 32, sizeBytes: FIO_BYTES, seconds },
    extraArgs: ['--bssplit=4k/70:64k/20:512k/10', '--rwmixread=60', '--norandommap'],
  });
  let over = false;
  const done = fio.result.finally(() => {
    over = true;
  });
  done.catch(() => {}); // awaited below
  while (!over) {
    for (const { pid, rss } of subjects) rss.push(rssBytes(pid));
    await Promise.race([pause(SAMPLE_MS), done.catch(() => {})]);
  }
  const result = await done;
  const stall = await meter.stop();
  const flat = report(subjects);
  const after = await subjectsOf(orion);
  const same = subjects.every(({ id, pid }) =>
    after.some((one) => one.id === id && one.pid === pid),
  );
  const { read, write } = result;
  const mib = (read.bytesPerSecond + write.bytesPerSecond) / MIB;
  console.log(
    `\n${minutes} min: ${Math.round(read.iops + write.iops)} I/O and ${mib.toFixed(0)} MiB a second, ${result.totalErrors} errors; ` +
      `${stall.writes} writes checked, ${stall.errors.length} wrong, the longest took ${Math.round(stall.longestMs)} ms`,
  );
  for (const error of stall.errors) console.log(error);
  if (!same) console.log('A process was restarted meanwhile.');
  const good = flat && same && result.totalErrors === 0 && stall.errors.length === 0;
  console.log(good ? 'Memory is flat.' : 'NOT GOOD.');
  mkdirSync(OUT, { recursive: true });
  const data = { when: new Date().toISOString(), minutes, sampleMs: SAMPLE_MS, subjects, result };
  writeFileSync(join(OUT, 'soak.json'), `${JSON.stringify(data, null, 2)}\n`);
  return good;
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { minutes: { type: 'string', default: '10' } } });
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new Error('--minutes takes a number');
  const reason = missingReason(['tgtd', 'tgtadm', 'nats-server', 'fio']);
  if (reason !== null) throw new Error(`the soak ${reason}`);
  await using target = await startTgtd({ portals: 2, luns: [{ sizeBytes: LUN_BYTES }] });
  await using orion = await startOrion({
    portals: target.portals,
    targetName: target.targetName,
  });
  await waitFor('both paths', async () => {
    const { paths } = await orion.status();
    return paths.filter(({ state }) => state === 'ready').length === 2 || null;
  });
  if (!(await soak(orion, minutes))) process.exitCode = 1;
}

// Ends the peers by way of the exit handlers.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
await main();
