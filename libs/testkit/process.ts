import { type ChildProcess, spawn } from 'node:child_process';
import { commandPath, findCommand } from './tools.ts';
import { pause, WAIT_DEFAULT_MS, waitFor } from './wait.ts';

/** Of each stream the newest part is kept. */
const OUTPUT_BYTES_MAX = 8 * 1024 * 1024;
const TAIL_LINES = 25;

export interface ProcessOptions {
  readonly command: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** For messages; the command when left out. */
  readonly name?: string;
  /** Fed to stdin, which is then closed. */
  readonly input?: string | Uint8Array;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A child in a process group of its own. It never outlives this process, however that ends. */
export interface TestProcess extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly exited: Promise<Exit>;
  /** Null while it runs. */
  readonly exit: Exit | null;
  stdout(): string;
  stderr(): string;
  /** Name, how it ended, and the last lines of its output: put it in the error message. */
  explain(): string;
  /** Waits until `probe` says yes. Fails at once, with the output, when the process ends before. */
  until<T>(
    what: string,
    probe: () => T | Promise<T>,
    timeoutMs?: number,
  ): Promise<Exclude<T, false | null | undefined>>;
  /** Waits for a line of stdout or stderr that matches. */
  untilOutput(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>;
  /** Signals the process alone. */
  kill(signal: NodeJS.Signals): void;
  /** Ends the whole group: `signal` first, SIGKILL after `graceMs`. Returns when it is gone. */
  stop(signal?: NodeJS.Signals, graceMs?: number): Promise<Exit>;
}

const groups = new Set<number>();
let hooked = false;

function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function hookExit(): void {
  if (hooked) return;
  hooked = true;
  process.on('exit', () => {
    for (const pid of groups) killGroup(pid, 'SIGKILL');
  });
}

/** The kernel kills the child when we die without running exit handlers (SIGKILL, crash). */
function withDeathSignal(command: string, args: readonly string[]): [string, string[]] {
  const setpriv = findCommand('setpriv');
  if (setpriv === null) return [command, [...args]];
  return [setpriv, ['--pdeathsig', 'KILL', '--', command, ...args]];
}

function capture(stream: NodeJS.ReadableStream | null): () => string {
  let chunks: Buffer[] = [];
  let bytes = 0;
  stream?.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > OUTPUT_BYTES_MAX) {
      const kept = Buffer.concat(chunks).subarray(-OUTPUT_BYTES_MAX / 2);
      chunks = [Buffer.from(kept)];
      bytes = kept.length;
    }
  });
  return () => Buffer.concat(chunks).toString();
}

/** Spawns and returns once it is known that the program could be started. */
export async function startProcess(options: ProcessOptions): Promise<TestProcess> {
  hookExit();
  const path = options.command.includes('/') ? options.command : commandPath(options.command);
  const [command, args] = withDeathSignal(path, options.args ?? []);
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    detached: true,
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', reject);
  });
  // A child that ends without reading its input is seen by its exit code.
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.input);
  return wrap(child, options.name ?? options.command);
}

function wrap(child: ChildProcess, name: string): TestProcess {
  const pid = child.pid!;
  groups.add(pid);
  const stdout = capture(child.stdout);
  const stderr = capture(child.stderr);
  let exit: Exit | null = null;
  // 'close' comes after 'exit', when the output is complete. A grandchild that holds the pipe would delay it.
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      exit = { code, signal };
      killGroup(pid, 'SIGKILL');
      groups.delete(pid);
    });
    child.once('close', () => resolve(exit!));
  });

  const explain = (): string => {
    const how =
      exit === null ? 'is running' : `ended with ${exit.signal ?? `exit code ${exit.code}`}`;
    const tail = `${stdout()}\n${stderr()}`
      .split('\n')
      .filter((line) => line.trim() !== '')
      .slice(-TAIL_LINES);
    return `${name} (pid ${pid}) ${how}; its last output:\n  ${tail.join('\n  ') || '(none)'}`;
  };

  const until: TestProcess['until'] = async (what, probe, timeoutMs = WAIT_DEFAULT_MS) => {
    try {
      return await waitFor(what, probe, timeoutMs, () => (exit === null ? null : 'it ended'));
    } catch (error) {
      throw new Error(`${(error as Error).message}; ${explain()}`, { cause: error });
    }
  };

  const stop = async (signal: NodeJS.Signals = 'SIGTERM', graceMs = 10_000): Promise<Exit> => {
    if (exit === null) {
      killGroup(pid, signal);
      const timer = setTimeout(() => killGroup(pid, 'SIGKILL'), graceMs);
      await exited;
      clearTimeout(timer);
    }
    return exited;
  };

  return {
    name,
    pid,
    exited,
    get exit() {
      return exit;
    },
    stdout,
    stderr,
    explain,
    until,
    untilOutput: (pattern, timeoutMs) =>
      until(
        `output that matches ${pattern}`,
        () => pattern.exec(stdout()) ?? pattern.exec(stderr()),
        timeoutMs,
      ),
    kill(signal) {
      if (exit === null) process.kill(pid, signal);
    },
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}

export interface RunResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs to the end and returns whatever came out. Kills it, and throws, after `timeoutMs`. */
export async function runProcess(
  options: ProcessOptions & { readonly timeoutMs?: number },
): Promise<RunResult> {
  const child = await startProcess(options);
  const timeoutMs = options.timeoutMs ?? 120_000;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    killGroup(child.pid, 'SIGKILL');
  }, timeoutMs);
  const { code, signal } = await child.exited;
  clearTimeout(timer);
  if (late) throw new Error(`not done after ${timeoutMs} ms: ${child.explain()}`);
  return { code, signal, stdout: child.stdout(), stderr: child.stderr() };
}

/** Runs to the end and returns stdout; anything but exit code 0 is an error that shows the output. */
export async function check(
  command: string,
  args: readonly string[],
  options: Omit<ProcessOptions, 'command' | 'args'> & { readonly timeoutMs?: number } = {},
): Promise<string> {
  const result = await runProcess({ ...options, command, args });
  if (result.code === 0) return result.stdout;
  const output = `${result.stdout}\n${result.stderr}`.trim().split('\n').slice(-TAIL_LINES);
  throw new Error(
    `${command} ${args.join(' ')} ended with ${result.signal ?? result.code}:\n  ${output.join('\n  ')}`,
  );
}

export { pause, waitFor };
