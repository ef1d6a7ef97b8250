import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { busErrors } from '#bus/errors.ts';
import { type Clock, every, sleep } from '#core/clock.ts';
import { hexId, intBetween, type Rng } from '#core/rng.ts';
import { findProgram } from './find-program.ts';
import { isPortFree } from './ports.ts';
import { handleOf } from './spawn-child.ts';
import { writePrivate } from './state-dir.ts';
import type { ChildHandle } from './supervised.ts';

/** Below the ports that systems give to outgoing connections: ours must be free again after a restart. */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;
const PORT_TRIES_MAX = 100;
const TOKEN_BYTES = 24;
/** From its start until it greets; it reads its store first. */
const READY_MS = 20_000;
const READY_POLL_MS = 50;
/** How often it is asked whether it still greets. */
const PROBE_EVERY_MS = 4000;
const PROBE_TIMEOUT_MS = 3000;
export interface NatsPlan {
  readonly program: string;
  readonly port: number;
  /** With the token of this run: local users must not be able to give orders to the node. */
  readonly url: string;
  readonly configFile: string;
}

/** Chooses port and secret, and writes the server's configuration under the state directory. */
export async function planNats(
  stateDir: string,
  name: string,
  rng: Rng,
  program = findProgram('nats-server'),
): Promise<NatsPlan> {
  if (program === null) {
    throw busErrors.make('BUS_UNREACHABLE', { message: 'nats-server is not on PATH' });
  }
  const dir = join(stateDir, 'nats');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const port = await freePort(rng);
  const token = hexId(rng, TOKEN_BYTES);
  const configFile = join(dir, 'nats.conf');
  writePrivate(configFile, natsConfig(dir, name, port, token));
  return { program, port, url: `nats://${token}@127.0.0.1:${port}`, configFile };
}

function natsConfig(dir: string, name: string, port: number, token: string): string {
  return [
    `listen: "127.0.0.1:${port}"`,
    `server_name: ${JSON.stringify(name)}`,
    `jetstream { store_dir: ${JSON.stringify(dir)} }`,
    `authorization { token: ${JSON.stringify(token)} }`,
    'logtime: false',
    '',
  ].join('\n');
}

async function freePort(rng: Rng): Promise<number> {
  for (let i = 0; i < PORT_TRIES_MAX; i++) {
    const port = intBetween(rng, PORT_MIN, PORT_MAX);
    if (await isPortFree('127.0.0.1', port)) return port;
  }
  throw busErrors.make('BUS_UNREACHABLE', { message: 'no free port for nats-server was found' });
}

export interface NatsLog {
  debug(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/**
 * The shell watches for our end in the background (its end of stdin closes; a line means that the server ended by
 * itself), then becomes the server: so the child's pid, signals and exit are the server's own, and it dies with us.
 */
const LEASH =
  'exec 3<&0; (read -r _ <&3 || kill -TERM $$) >/dev/null 2>&1 & exec "$@" 3<&- </dev/null';

export function spawnNats(plan: NatsPlan, clock: Clock, log: NatsLog): ChildHandle {
  const child = spawn('/bin/sh', ['-c', LEASH, 'sh', plan.program, '-c', plan.configFile], {
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true,
  });
  child.stdin!.on('error', () => {}); // the watcher may be gone already
  child.once('exit', () => child.stdin!.end('ended\n'));
  passLog(child, log);
  return { ...handleOf(child), onMessage: (fn) => probeRegularly(child, plan, clock, fn) };
}

/** It has no channel to us: that it greets is what shows that it lives. */
function probeRegularly(
  child: ChildProcess,
  plan: NatsPlan,
  clock: Clock,
  alive: (message: unknown) => void,
): void {
  const timer = every(clock, PROBE_EVERY_MS, () => {
    void report(); // greets never rejects
  });
  const report = async (): Promise<void> => {
    if (await greets(plan.port)) alive(null);
  };
  child.once('exit', () => timer.cancel());
}

const LOG_LEVEL = { INF: 'debug', DBG: 'debug', TRC: 'debug', WRN: 'warn' } as const;

function passLog(child: ChildProcess, log: NatsLog): void {
  createInterface({ input: child.stderr! }).on('line', (line) => {
    const match = /^\[\d+\] \[(\w+)\] (.*)$/.exec(line);
    const level = LOG_LEVEL[match?.[1] as keyof typeof LOG_LEVEL] ?? 'error';
    log[level]({ server: 'nats' }, match?.[2] ?? line);
  });
}

/** A NATS server sends its INFO to whoever connects. Never rejects. */
export function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port });
    const done = (isUp: boolean): void => {
      socket.destroy();
      resolve(isUp);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => done(false));
    socket.once('data', (chunk) => done(chunk.toString('latin1').startsWith('INFO')));
    socket.once('error', () => done(false));
    socket.once('close', () => done(false));
  });
}

export async function untilNatsGreets(
  plan: NatsPlan,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const untilMs = clock.nowMs() + READY_MS;
  while (!(await greets(plan.port))) {
    if (clock.nowMs() > untilMs) {
      throw busErrors.make('BUS_UNREACHABLE', {
        message: `nats-server did not start within ${READY_MS} ms`,
        hint: 'Its log above says why; or set bus.url to a running one.',
      });
    }
    await sleep(clock, READY_POLL_MS, signal);
  }
}
