import { readFileSync } from 'node:fs';
import { type Clock, sleep } from '#core/clock.ts';
import { isAlive, readStaleNodeFile } from './state-dir.ts';

/** Longer than a process takes to drain; who is not gone then hangs. */
const ORPHAN_WAIT_MS = 20_000;
const POLL_MS = 50;

export interface OrphanLog {
  warn(fields: object, text: string): void;
}

/**
 * A supervisor that was killed leaves children that are just ending. Two nats-servers on one store would destroy it,
 * and two gateways cannot listen on one address: so their end is waited for, and brought about if need be.
 */
export async function untilOrphansEnd(
  stateDir: string,
  clock: Clock,
  log: OrphanLog,
): Promise<void> {
  const pids = (readStaleNodeFile(stateDir)?.processes ?? [])
    .map(({ pid }) => pid)
    .filter((pid) => pid > 0 && belongsTo(pid, stateDir));
  if (pids.length === 0) return;
  log.warn({ pids }, 'waiting for processes of an "up" that was killed');
  const untilMs = clock.nowMs() + ORPHAN_WAIT_MS;
  const left = (): number[] => pids.filter((pid) => belongsTo(pid, stateDir));
  while (left().length > 0 && clock.nowMs() < untilMs) await sleep(clock, POLL_MS);
  for (const pid of left()) {
    log.warn({ pid }, 'it does not end: killed');
    killIfThere(pid);
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Whether it is one of ours: another process may have its number by now. */
function belongsTo(pid: number, stateDir: string): boolean {
  if (!isAlive(pid)) return false;
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      .split('\0')
      .some((argument) => argument.startsWith(`${stateDir}/`));
  } catch {
    return false; // gone meanwhile, or a system without /proc: not touched
  }
}
