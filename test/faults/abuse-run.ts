import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { abuseEpisode } from './abuse-episode.ts';

/** Episodes before the memory is taken as what the abuse needs: code is compiled, pools are filled. */
const WARM_EPISODES = 100;
/** How often the memory is looked at. */
const LOOK_EVERY = 50;
const MIB = 1024 * 1024;
/** More growth than this, over the whole run and after collecting, is a leak. */
export const GROWTH_BYTES_MAX = 24 * MIB;

export interface AbuseReport {
  episodes: number;
  sessions: number;
  done: number;
  failed: number;
  checkedBlocks: number;
  readonly harms: Record<string, number>;
  readonly ends: Record<string, number>;
  readonly kinds: Record<string, number>;
  readonly faults: string[];
  /** Bytes in use after collecting: once it was warm, at the end, and at most. */
  memory: { warm: number; last: number; most: number };
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes in use that cannot be collected. */
export async function memory(): Promise<number> {
  for (let i = 0; i < 2; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    collect();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

function addAll(into: Record<string, number>, more: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(more)) into[name] = (into[name] ?? 0) + count;
}

/** Runs episodes from `seed` on while `goesOn` says so; stops at the first fault. */
export async function abuse(
  seed: number,
  goesOn: (episodes: number) => boolean,
): Promise<AbuseReport> {
  const report: AbuseReport = {
    ...{ episodes: 0, sessions: 0, done: 0, failed: 0, checkedBlocks: 0 },
    ...{ harms: {}, ends: {}, kinds: {}, faults: [], memory: { warm: 0, last: 0, most: 0 } },
  };
  const stray = (error: unknown): void => {
    report.faults.push(`nobody caught ${String(error)}`);
  };
  process.on('uncaughtException', stray);
  process.on('unhandledRejection', stray);
  while (goesOn(report.episodes) && report.faults.length === 0) {
    const at = seed + report.episodes;
    const result = await abuseEpisode(at);
    report.episodes += 1;
    report.sessions += result.sessions;
    report.done += result.done;
    report.failed += result.failed;
    report.checkedBlocks += result.checkedBlocks;
    addAll(report.harms, result.harms);
    addAll(report.ends, result.ends);
    addAll(report.kinds, result.kinds);
    report.faults.push(...result.faults.map((fault) => `seed ${at}: ${fault}`));
    if (report.episodes % LOOK_EVERY === 0) await look(report);
  }
  process.off('uncaughtException', stray);
  process.off('unhandledRejection', stray);
  return report;
}

async function look(report: AbuseReport): Promise<void> {
  const bytes = await memory();
  const { memory: seen } = report;
  if (report.episodes <= WARM_EPISODES) seen.warm = bytes;
  seen.last = bytes;
  seen.most = Math.max(seen.most, bytes);
  if (bytes - seen.warm > GROWTH_BYTES_MAX) {
    report.faults.push(`memory grew by ${Math.round((bytes - seen.warm) / MIB)} MiB`);
  }
}

const mib = (bytes: number): string => (bytes / MIB).toFixed(1);

export function renderReport(report: AbuseReport): string {
  const list = (of: Readonly<Record<string, number>>): string =>
    Object.entries(of)
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => `  ${String(count).padStart(8)} ${name}`)
      .join('\n');
  const { warm, last, most } = report.memory;
  return [
    `${report.episodes} episodes, ${report.sessions} sessions, ${report.done} commands succeeded, ${report.failed} failed`,
    `${report.checkedBlocks} blocks were compared (with digests)`,
    `memory: ${mib(warm)} MiB when warm, ${mib(last)} MiB at the end, ${mib(most)} MiB at most`,
    'what was done to the streams:',
    list(report.harms),
    'what sessions had agreed on, and what they recovered:',
    list(report.kinds),
    'how logins and sessions ended:',
    list(report.ends),
    report.faults.length === 0 ? 'nothing is wrong' : report.faults.join('\n'),
  ].join('\n');
}
