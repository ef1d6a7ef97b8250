import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { canConnect, freePort } from './ports.ts';

const START_TIMEOUT_MS = 30_000;
const PORT_TRIES = 5;
const OUTPUT_KEPT = 4000;

export interface NatsServerOptions {
  /** JetStream's store; a temporary directory, removed by `stop`, when left out. */
  readonly dir?: string;
  /** A free one when left out. */
  readonly port?: number;
}

export interface NatsServer {
  readonly url: string;
  readonly port: number;
  readonly dir: string;
  readonly pid: number;
  /** Resolves when the process is gone (for signals that end it). */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Starts it again on the same port and store, killing it first if it runs. Empties the store when `wipe`. */
  restart(options?: { wipe?: boolean }): Promise<void>;
  stop(): Promise<void>;
}

/** Whether nats-server is on PATH (Debian package nats-server). */
export function haveNatsServer(): boolean {
  const dirs = (process.env.PATH ?? '').split(delimiter).concat('/usr/sbin');
  return dirs.some((dir) => existsSync(join(dir, 'nats-server')));
}

/** A real nats-server with JetStream on loopback. */
export async function startNatsServer(options: NatsServerOptions = {}): Promise<NatsServer> {
  const own = options.dir === undefined;
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'orion-nats-')));
  let { port, child } = await startOnSomePort(dir, options.port);
  const server = {
    dir,
    port,
    url: `nats://127.0.0.1:${port}`,
    get pid() {
      return child.pid!;
    },
    async kill(signal: NodeJS.Signals) {
      if (!runs(child)) return;
      child.kill(signal);
      if (signal !== 'SIGSTOP' && signal !== 'SIGCONT' && signal !== 'SIGHUP') {
        await once(child, 'exit');
      }
    },
    async restart({ wipe = false }: { wipe?: boolean } = {}) {
      await server.kill('SIGKILL');
      if (wipe) await rm(join(dir, 'jetstream'), { recursive: true, force: true });
      child = await start(dir, port);
    },
    async stop() {
      await server.kill('SIGKILL');
      if (own) await rm(dir, { recursive: true, force: true });
    },
  };
  return server;
}

async function startOnSomePort(
  dir: string,
  wanted: number | undefined,
): Promise<{ port: number; child: ChildProcess }> {
  for (let left = PORT_TRIES; ; left--) {
    const port = wanted ?? (await freePort());
    try {
      return { port, child: await start(dir, port) };
    } catch (error) {
      // Between finding a free port and listening on it somebody else may take it.
      if (wanted !== undefined || left === 1) throw error;
    }
  }
}

async function start(dir: string, port: number): Promise<ChildProcess> {
  const args = ['-a', '127.0.0.1', '-p', String(port), '-js', '-sd', dir];
  const child = spawn('nats-server', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: `${process.env.PATH}${delimiter}/usr/sbin` },
  });
  let output = '';
  let failed: Error | null = null;
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-OUTPUT_KEPT);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  child.on('error', (error) => {
    failed = error;
  });
  const untilMs = Date.now() + START_TIMEOUT_MS;
  while (!output.includes('Server is ready') || !(await canConnect({ host: '127.0.0.1', port }))) {
    if (failed !== null) throw failed;
    if (!runs(child)) throw new Error(`nats-server ended: ${output}`);
    if (Date.now() > untilMs) {
      child.kill('SIGKILL');
      throw new Error(`nats-server is not ready: ${output}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return child;
}

function runs(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}
