import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { DRAIN_MESSAGE } from './child-messages.ts';
import type { ChildHandle, ExitStatus } from './supervised.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const STDERR = 2;

/**
 * Starts one role of this program. Its output goes to our stderr. It has a process group of its own: Ctrl-C in a
 * terminal reaches the supervisor alone, which then ends the children in order.
 */
export function spawnRole(args: readonly string[]): ChildHandle {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', STDERR, STDERR, 'ipc'],
    detached: true,
  });
  const handle = handleOf(child);
  return {
    ...handle,
    drain: () => {
      if (child.connected) child.send(DRAIN_MESSAGE);
      else child.kill('SIGTERM');
    },
    onMessage: (fn) => child.on('message', fn),
  };
}

/** A child without messages: what it writes to stderr shows that it lives only if the caller says so. */
export function handleOf(child: ChildProcess): ChildHandle {
  return {
    pid: child.pid ?? 0,
    kill: (signal) => {
      child.kill(signal);
    },
    drain: () => {
      child.kill('SIGTERM');
    },
    onExit(fn: (status: ExitStatus) => void): void {
      child.once('exit', (code, signal) => fn({ code, signal }));
      child.on('error', (error) => {
        // A program that cannot be started has no exit; a failed send or kill has one of its own.
        if (child.pid === undefined) fn({ code: null, signal: error.message });
      });
    },
    onMessage: () => {},
  };
}
