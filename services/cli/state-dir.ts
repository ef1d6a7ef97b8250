import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Static, Type as T } from 'typebox';
import { Value } from 'typebox/value';
import { errorText } from '#core/errors.ts';
import { cliErrors } from './errors.ts';

/** What `up` leaves in the state directory for other commands: who runs, and where the bus is. */
export const NodeFile = T.Object({
  v: T.Literal(1),
  mode: T.Union([T.Literal('processes'), T.Literal('embedded')]),
  cluster: T.String(),
  pid: T.Integer({ minimum: 1 }),
  /** Of the bus, with its secret: the file is for its owner alone. Empty in the embedded mode. */
  url: T.String(),
  processes: T.Array(
    T.Object({ role: T.String(), id: T.String(), pid: T.Integer(), restarts: T.Integer() }),
  ),
});
export type NodeFile = Static<typeof NodeFile>;

const NODE_FILE = 'bus.json';
const LOCK_FILE = 'up.lock';
const OTHERS_WRITE = 0o022;

export function controlSocket(stateDir: string): string {
  return join(stateDir, 'control.sock');
}

/** Makes the directory, or sees that it is ours alone: who can write in it could take over the node. */
export function prepareStateDir(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw cliErrors.make('CLI_STATE_DIR', { message: `${dir}: ${errorText(cause)}`, cause });
  }
  const stat = lstatSync(dir);
  const uid = process.getuid?.() ?? stat.uid;
  let problem: string | null = null;
  if (!stat.isDirectory()) problem = 'is no directory';
  else if (stat.uid !== uid) problem = `belongs to user ${stat.uid}, we are user ${uid}`;
  else if ((stat.mode & OTHERS_WRITE) !== 0) problem = `may be written by others: chmod 700 ${dir}`;
  if (problem !== null) throw cliErrors.make('CLI_STATE_DIR', { message: `${dir} ${problem}` });
}

/** Replaces a file in one step; only its owner may read it. */
export function writePrivate(path: string, text: string): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, text, { mode: 0o600 });
  chmodSync(temporary, 0o600);
  renameSync(temporary, path);
}

export function writeNodeFile(dir: string, content: NodeFile): void {
  writePrivate(join(dir, NODE_FILE), `${JSON.stringify(content)}\n`);
}

/** Null when nothing runs here, or what is there is not ours. */
export function readNodeFile(dir: string): NodeFile | null {
  const content = readStaleNodeFile(dir);
  return content !== null && isAlive(content.pid) ? content : null;
}

/** What the last "up" left, even when it is dead. */
export function readStaleNodeFile(dir: string): NodeFile | null {
  const content = readJson(join(dir, NODE_FILE));
  return Value.Check(NodeFile, content) ? content : null;
}

export function removeNodeFile(dir: string): void {
  rmSync(join(dir, NODE_FILE), { force: true });
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return null; // absent or half of something: the same as nothing
  }
}

const LockContent = T.Object({ pid: T.Integer({ minimum: 1 }), born: T.String() });

/** Holds the directory until `release`. Throws CLI_ALREADY_RUNNING when a living process does. */
export function lockStateDir(dir: string): { release(): void } {
  const path = join(dir, LOCK_FILE);
  const own = JSON.stringify({ pid: process.pid, born: bornOf(process.pid) });
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, own, { mode: 0o600 });
  try {
    // Two rounds: one to put a dead holder's lock away, one to win against others that did the same.
    for (let round = 0; round < 2; round++) {
      if (tryLink(temporary, path)) return { release: () => releaseLock(path, own) };
      const holder = readJson(path);
      if (Value.Check(LockContent, holder) && bornOf(holder.pid) === holder.born) {
        throw cliErrors.make('CLI_ALREADY_RUNNING', {
          message: `another "up" (process ${holder.pid}) runs on ${dir}`,
        });
      }
      putAway(path, holder);
    }
    throw cliErrors.make('CLI_ALREADY_RUNNING', { message: `another "up" has just taken ${dir}` });
  } finally {
    rmSync(temporary, { force: true });
  }
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw cliErrors.make('CLI_STATE_DIR', { message: `${to}: ${errorText(error)}`, cause: error });
  }
}

/** Takes a dead lock away. If a living one came in between, it is put back. */
function putAway(path: string, expected: unknown): void {
  const aside = `${path}.${process.pid}.old`;
  try {
    renameSync(path, aside);
  } catch {
    return; // somebody else has put it away: the next round decides
  }
  if (JSON.stringify(readJson(aside)) !== JSON.stringify(expected)) tryLink(aside, path);
  rmSync(aside, { force: true });
}

function releaseLock(path: string, own: string): void {
  if (JSON.stringify(readJson(path)) === own) rmSync(path, { force: true });
}

/** When a process began, so that another one with its number is not taken for it. Empty: there is none. */
function bornOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name may hold spaces and brackets: fields are counted from its end. The 22nd is the start time.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return isAlive(pid) ? 'unknown' : ''; // no /proc on this system
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
