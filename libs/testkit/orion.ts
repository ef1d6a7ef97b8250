import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { PathStatus, SessionStatus, VolumeStatus } from '../contracts/messages.ts';
import { freePort } from './ports.ts';
import { processTree } from './proc-stat.ts';
import { type Exit, runProcess, startProcess, type TestProcess } from './process.ts';
import { type TempDir, tempDir } from './tmp.ts';
import { waitFor } from './wait.ts';

/** Our own program, started as a user would: a file, `orion-iscsi up`, the `ready` lines. */

const ROOT = resolve(import.meta.dirname, '../..');
const NODE = join(ROOT, 'node_modules/.bin/node');
const LAUNCHER = join(ROOT, 'bin/orion-iscsi');
const READY_MS = 60_000;
const STOP_GRACE_MS = 30_000;

export interface OrionOptions {
  readonly portals: readonly string[];
  readonly targetName: string;
  readonly lun?: number;
  readonly workers?: number;
  readonly embedded?: boolean;
  /** Lines of TOML for the [[volumes]] table. */
  readonly volume?: string;
  /** Lines of TOML for the [[targets]] table. */
  readonly target?: string;
  /** More TOML at the end of the file. */
  readonly extra?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface OrionStatus {
  readonly node: string;
  readonly processes: readonly {
    readonly role: string;
    readonly id: string;
    readonly pid: number;
    readonly uptimeMs: number;
  }[];
  readonly sessions: readonly SessionStatus[];
  readonly paths: readonly PathStatus[];
  readonly volumes: readonly VolumeStatus[];
}

export interface Orion extends AsyncDisposable {
  readonly process: TestProcess;
  readonly configFile: string;
  readonly dir: TempDir;
  /** Of volume "vol1": over the unix socket, over TCP, and over HTTP. */
  readonly nbdUnix: string;
  readonly nbdTcp: string;
  readonly http: string;
  readonly socket: string;
  status(): Promise<OrionStatus>;
  /** Pid of the process with this id ("n1-w0") now; waits for a status in which it is, as one that is busy is left out. */
  pid(id: string): Promise<number>;
  /** Of the nats-server that it started. */
  natsPid(): number;
  pids(): number[];
  cli(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }>;
  /** Ends it in good order, with time for that on a slow machine. */
  stop(): Promise<Exit>;
}

export const VOLUME_NAME = 'vol1';

export async function startOrion(options: OrionOptions): Promise<Orion> {
  const dir = tempDir('orion');
  const configFile = dir.file('orion.toml');
  const socket = dir.file('nbd.sock');
  const [nbdPort, httpPort] = [await freePort(), await freePort()];
  writeFileSync(
    configFile,
    `
[node]
name = "n1"
state_dir = ${JSON.stringify(dir.path)}
[workers]
count = ${options.workers ?? 2}
[gateway]
nbd_listen = [${JSON.stringify(`unix:${socket}`)}, "127.0.0.1:${nbdPort}"]
http_listen = "127.0.0.1:${httpPort}"
[[targets]]
name = ${JSON.stringify(options.targetName)}
portals = ${JSON.stringify(options.portals)}
${options.target ?? ''}
[[volumes]]
name = "${VOLUME_NAME}"
target = ${JSON.stringify(options.targetName)}
lun = ${options.lun ?? 1}
${options.volume ?? ''}
${options.extra ?? ''}
`,
  );
  const flags = options.embedded === true ? ['--embedded'] : [];
  const child = await startProcess({
    name: `orion-iscsi up ${flags.join(' ')}`.trim(),
    command: NODE,
    args: [LAUNCHER, 'up', ...flags, '--config', configFile],
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const cli = async (...args: string[]) => {
    const run = await runProcess({
      command: NODE,
      args: [LAUNCHER, ...args, '--config', configFile],
    });
    return { code: run.code, stdout: run.stdout, stderr: run.stderr };
  };
  const status = async (): Promise<OrionStatus> => {
    const run = await cli('status', '--json');
    if (run.code !== 0) throw new Error(`status failed: ${run.stderr}`);
    return JSON.parse(run.stdout) as OrionStatus;
  };
  const stop = async (): Promise<Exit> => {
    const exit = await child.stop('SIGTERM', STOP_GRACE_MS);
    await dir.remove();
    return exit;
  };
  const uri = async (scheme: RegExp): Promise<string> =>
    (await child.untilOutput(new RegExp(`^ready (${scheme.source}\\S+)`, 'm'), READY_MS))[1]!;
  try {
    return {
      process: child,
      configFile,
      dir,
      socket,
      nbdUnix: await uri(/nbd\+unix:/),
      nbdTcp: await uri(/nbd:/),
      http: await uri(/http:/),
      status,
      pid: (id) =>
        waitFor(
          `process ${id} in the status`,
          async () => (await status()).processes.find((process) => process.id === id)?.pid,
        ),
      natsPid() {
        const found = processTree(child.pid).find(({ name }) => name.startsWith('nats-server'));
        if (found === undefined) throw new Error('nats-server does not run');
        return found.pid;
      },
      pids: () => processTree(child.pid).map((node) => node.pid),
      cli,
      stop,
      [Symbol.asyncDispose]: async () => {
        await stop();
      },
    };
  } catch (error) {
    await child.stop('SIGKILL');
    await dir.remove();
    throw error;
  }
}
