import { readdirSync, readFileSync } from 'node:fs';

/** What the kernel says about running processes. The clock tick of /proc is 10 ms on every Linux that we know. */

const TICK_MICROS = 10_000;

interface Stat {
  readonly ppid: number;
  readonly cpuMicros: number;
  readonly name: string;
  readonly state: string;
}

function stat(pid: number, thread = ''): Stat | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/${thread}stat`, 'latin1');
  } catch {
    return null;
  }
  // The name stands in parentheses and may contain anything, also parentheses.
  const end = text.lastIndexOf(')');
  const fields = text.slice(end + 2).split(' ');
  return {
    name: text.slice(text.indexOf('(') + 1, end),
    state: fields[0]!,
    ppid: Number(fields[1]),
    // utime and stime; of a process all its threads, also those that have ended.
    cpuMicros: (Number(fields[11]) + Number(fields[12])) * TICK_MICROS,
  };
}

/** True while the process exists and is no zombie. */
export function isAlive(pid: number): boolean {
  const found = stat(pid);
  return found !== null && found.state !== 'Z';
}

/** User and system time of a process, all its threads. 0 when it is gone. */
export function cpuMicros(pid: number): number {
  return stat(pid)?.cpuMicros ?? 0;
}

/** The same of its first thread alone. */
export function mainThreadMicros(pid: number): number {
  return stat(pid, `task/${pid}/`)?.cpuMicros ?? 0;
}

export function rssBytes(pid: number): number {
  try {
    const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
    return Number(match?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

export interface ProcessNode {
  readonly pid: number;
  readonly ppid: number;
  readonly name: string;
}

/** A process and everything that it started, still running. */
export function processTree(root: number): ProcessNode[] {
  const all: ProcessNode[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    const found = stat(pid);
    if (found !== null) all.push({ pid, ppid: found.ppid, name: found.name });
  }
  const members = new Set([root]);
  for (let before = 0; before !== members.size; ) {
    before = members.size;
    for (const node of all) if (members.has(node.ppid)) members.add(node.pid);
  }
  return all.filter((node) => members.has(node.pid));
}
