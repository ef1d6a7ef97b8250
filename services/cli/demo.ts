import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'smol-toml';
import { systemClock } from '#core/clock.ts';
import { systemRng } from '#core/rng.ts';
import { formatBytes } from '#core/units.ts';
import { startTarget, type Target } from '#target/target.ts';
import { formatAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { upEmbedded } from './embedded.ts';
import { findProgram } from './find-program.ts';
import { loadCliConfig } from './load-config.ts';
import type { Output } from './output.ts';
import { isPortFree } from './ports.ts';
import { writePrivate } from './state-dir.ts';

const DISK_BYTES = 256 * 1024 * 1024;
const TARGET = 'iqn.2026-11.io.orion-iscsi:demo';
const VOLUME = 'vol1';
const NBD_PORT = 10809;
const HTTP_PORT = 8080;
const PORT_TRIES_MAX = 50;
const HOST = '127.0.0.1';
const LAUNCHER = fileURLToPath(new URL('../../bin/orion-iscsi', import.meta.url));

/** The main job on a machine with nothing else: our own target, two paths, NBD and HTTP. Resolves the exit code. */
export async function demo(output: Output): Promise<number> {
  const stateDir = mkdtempSync(join(tmpdir(), 'orion-demo-'));
  chmodSync(stateDir, 0o700);
  let target: Target | null = null;
  try {
    target = await startDemoTarget();
    const file = join(stateDir, 'demo.toml');
    const places = await choosePlaces(stateDir);
    writePrivate(file, stringify(configOf(stateDir, target, places)));
    if (!output.json) output.line(introduction(target));
    const loaded = loadCliConfig({ config: file });
    let isTold = false;
    return await upEmbedded(loaded, output, {
      onReady() {
        if (!isTold && !output.json) output.line(nextSteps(file, places));
        isTold = true;
      },
    });
  } finally {
    await target?.close();
    rmSync(stateDir, { recursive: true, force: true });
  }
}

function startDemoTarget(): Promise<Target> {
  const anyPort = { kind: 'tcp', host: HOST, port: 0 } as const;
  return startTarget({
    network: nodeNetwork,
    clock: systemClock,
    rng: systemRng,
    targetName: TARGET,
    portals: [{ address: anyPort }, { address: anyPort }],
    luns: [{ lun: 1, sizeBytes: DISK_BYTES }],
  });
}

interface Places {
  readonly socket: string;
  readonly nbd: string;
  readonly http: string;
}

async function choosePlaces(stateDir: string): Promise<Places> {
  const nbdPort = await nextFreePort(NBD_PORT);
  const httpPort = await nextFreePort(HTTP_PORT);
  return {
    socket: join(stateDir, 'nbd.sock'),
    nbd: `${HOST}:${nbdPort}`,
    http: `${HOST}:${httpPort}`,
  };
}

/** The usual port, or the next one that nobody uses; 0 (any) when a long row of them is taken. */
async function nextFreePort(first: number): Promise<number> {
  for (let port = first; port < first + PORT_TRIES_MAX; port++) {
    if (await isPortFree(HOST, port)) return port;
  }
  return 0;
}

function configOf(stateDir: string, target: Target, { socket, nbd, http }: Places): object {
  return {
    node: { name: 'demo', state_dir: stateDir },
    telemetry: { log_level: 'warn' },
    gateway: { nbd_listen: [`unix:${socket}`, nbd], http_listen: http },
    targets: [{ name: target.name, portals: target.addresses.map(formatAddress) }],
    volumes: [{ name: VOLUME, target: target.name, lun: 1, description: 'RAM disk of the demo' }],
  };
}

function introduction(target: Target): string {
  const portals = target.addresses.map(formatAddress).join(' and ');
  return `Our own iSCSI target serves a RAM disk of ${formatBytes(DISK_BYTES)} on ${portals}: one volume, two paths.`;
}

interface Step {
  readonly text: string;
  readonly command: string;
  /** Of a program that may be missing. */
  readonly packageName?: string;
}

function nextSteps(file: string, { socket, nbd, http }: Places): string {
  const unixUri = `nbd+unix:///${VOLUME}?socket=${socket}`;
  const data = `http://${http}/v1/volumes/${VOLUME}/data`;
  const steps: Step[] = [
    { text: 'look at the volume', command: `nbdinfo '${unixUri}'`, packageName: 'libnbd-bin' },
    {
      text: 'write a pattern, and read it back',
      command: `qemu-io -f raw -c 'write -P 0x5a 0 1M' -c 'read -P 0x5a 0 1M' 'nbd://${nbd}/${VOLUME}'`,
      packageName: 'qemu-utils',
    },
    {
      text: 'read 4 KiB over HTTP',
      command: `curl -s -r 0-4095 ${data} | od -A d -t x1z | head`,
      packageName: 'curl',
    },
    {
      text: 'write 4 KiB over HTTP',
      command: `head -c 4096 /dev/urandom | curl -sS -X PUT -H 'Content-Range: bytes 0-4095/*' --data-binary @- ${data}`,
      packageName: 'curl',
    },
    { text: 'see processes, paths and sessions', command: `${launcher()} status --config ${file}` },
  ];
  const lines = steps.map(({ text, command, packageName }) => {
    const program = /^(?:head [^|]*\| )?(\S+)/.exec(command)![1]!;
    const isMissing = packageName !== undefined && findProgram(program) === null;
    const note = isMissing ? ` (needs the Debian package ${packageName})` : '';
    return `\n# ${text}${note}\n${command}`;
  });
  return `\nTry in another terminal:\n${lines.join('\n')}\n\nCtrl-C ends the demo; the disk is gone then.`;
}

/** As one would type it from here. */
function launcher(): string {
  const near = relative(process.cwd(), LAUNCHER);
  return near.startsWith('..') || !existsSync(near) ? LAUNCHER : near;
}
