import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { freePort } from '#testkit/ports.ts';
import { processTree } from '#testkit/proc-stat.ts';
import { startProcess, type TestProcess } from '#testkit/process.ts';
import { startQemuNbd } from '#testkit/qemu-nbd.ts';
import type { Tgtd } from '#testkit/tgtd.ts';
import { type TempDir, tempDir } from '#testkit/tmp.ts';

/** The programs that are compared: each takes LUN 1 of the target and exports it over NBD on a unix socket. */

export interface Server {
  /** For fio. */
  readonly uri: string;
  /** Every process that works for it now; their CPU time and memory are added up. */
  pids(): number[];
  /** Throws, with the program's last output, when it has ended. */
  assertRunning(): void;
  stop(): Promise<void>;
}

export interface Mode {
  readonly id: string;
  readonly title: string;
  start(target: Tgtd): Promise<Server>;
}

export const BASELINE = 'qemu';

const ROOT = resolve(import.meta.dirname, '../..');
const NODE = join(ROOT, 'node_modules/.bin/node');
const LAUNCHER = join(ROOT, 'bin/orion-iscsi');
const READY_MS = 60_000;
/** Longer than a node may take to drain. */
const STOP_MS = 30_000;

const qemu = async (target: Tgtd): Promise<Server> => {
  const server = await startQemuNbd({ source: target.uri() });
  return {
    uri: server.uri,
    pids: () => [server.pid],
    assertRunning: () => server.assertRunning(),
    stop: () => server.stop(),
  };
};

function ourConfig(
  target: Tgtd,
  dir: TempDir,
  httpPort: number,
  cluster: string,
  targetKeys: string,
): string {
  return `
[node]
name = "bench"
cluster = ${JSON.stringify(cluster)}
state_dir = ${JSON.stringify(dir.path)}
[workers]
count = 1
[gateway]
nbd_listen = [${JSON.stringify(`unix:${dir.file('nbd.sock')}`)}]
http_listen = "127.0.0.1:${httpPort}"
[[targets]]
name = ${JSON.stringify(target.targetName)}
portals = [${target.portals.map((portal) => JSON.stringify(portal)).join(', ')}]
${targetKeys}
[[volumes]]
name = "vol1"
target = ${JSON.stringify(target.targetName)}
lun = 1
`;
}

function serverOf(child: TestProcess, uri: string, dir: TempDir): Server {
  return {
    uri,
    pids: () => processTree(child.pid).map((node) => node.pid),
    assertRunning() {
      if (child.exit !== null) throw new Error(child.explain());
    },
    async stop() {
      await child.stop('SIGTERM', STOP_MS);
      await dir.remove();
    },
  };
}

/** Several of ours are logged in to the target at a time: without names of their own each would end the others' sessions. */
let nextCluster = 1;

const ours =
  (flags: readonly string[], targetKeys = '') =>
  async (target: Tgtd): Promise<Server> => {
    const dir = tempDir('bench');
    const config = dir.file('orion.toml');
    writeFileSync(
      config,
      ourConfig(target, dir, await freePort(), `bench-${nextCluster++}`, targetKeys),
    );
    const child = await startProcess({
      name: `orion-iscsi up ${flags.join(' ')}`.trim(),
      command: NODE,
      args: [LAUNCHER, 'up', ...flags, '--config', config],
    });
    try {
      const ready = await child.untilOutput(/^ready (nbd\+unix:\S+)/m, READY_MS);
      return serverOf(child, ready[1]!, dir);
    } catch (error) {
      await child.stop('SIGKILL');
      await dir.remove();
      throw error;
    }
  };

/** The target's own file over NBD by a C server: what remains when the iSCSI part costs nothing. */
const nbdkit = async (target: Tgtd): Promise<Server> => {
  const dir = tempDir('bench');
  const socket = dir.file('nbd.sock');
  const args = ['-f', '--no-sr', '-U', socket, 'file', target.backingFile(1)];
  const child = await startProcess({ command: 'nbdkit', args });
  await child.until('nbdkit listens', () => existsSync(socket));
  return serverOf(child, `nbd+unix:///?socket=${socket}`, dir);
};

export const MODES: readonly Mode[] = [
  { id: BASELINE, title: 'qemu-nbd', start: qemu },
  { id: 'embedded', title: 'ours, one process', start: ours(['--embedded']) },
  { id: 'processes', title: 'ours, gateway and worker', start: ours([]) },
  {
    id: 'embedded-digests',
    title: 'ours, one process, digests',
    start: ours(['--embedded'], 'header_digest = "crc32c"\ndata_digest = "crc32c"'),
  },
  // Not run unless asked for: the noise of the measurement, and an upper bound.
  { id: 'qemu-again', title: 'qemu-nbd again', start: qemu },
  { id: 'nbdkit', title: 'nbdkit on the file', start: nbdkit },
];
export const DEFAULT_MODES: readonly string[] = [BASELINE, 'embedded', 'processes'];
