import { chmodSync, closeSync, ftruncateSync, openSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { freePort, freePorts } from './ports.ts';
import { startProcess, type TestProcess } from './process.ts';
import { type TempDir, tempDir } from './tmp.ts';

/** istgt, a second code base: disks start at LUN 0. One daemon serves any number of targets, each set up differently. */

export interface IstgtAccount {
  readonly user: string;
  readonly password: string;
}

export interface IstgtTarget {
  readonly name?: string;
  /** LUN 0, 1, … in bytes; one of 64 MiB when left out. */
  readonly luns?: readonly number[];
  /** 512 when left out. */
  readonly blockBytes?: number;
  /** Lines of its section, such as { InitialR2T: 'No', UseDigest: 'Header Data' }. */
  readonly parameters?: Readonly<Record<string, string | number>>;
  /** Who has to log in; left out: nobody has to. istgt knows CHAP with MD5 only. */
  readonly chap?: IstgtAccount;
  /** How it proves itself; with it, initiators have to ask for that. */
  readonly chapOutgoing?: IstgtAccount;
}

export interface IstgtOptions {
  /** How many portals on 127.0.0.1, all of one group; 1 when left out. */
  readonly portals?: number;
  /** One without authentication when left out. */
  readonly targets?: readonly IstgtTarget[];
  /** Lines of its section "Global", such as { MaxConnections: 8 }. */
  readonly parameters?: Readonly<Record<string, string | number>>;
  /** Where the files are: tmpfs when left out. */
  readonly backing?: 'memory' | 'disk';
}

export interface Istgt extends AsyncDisposable {
  /** "127.0.0.1:PORT" */
  readonly portals: readonly string[];
  readonly targetNames: readonly string[];
  /** Of the first target. */
  readonly targetName: string;
  /** Of the daemon that runs now. */
  readonly pid: number;
  /** "iscsi://127.0.0.1:PORT/IQN/LUN", as libiscsi and qemu take it. */
  uri(lun?: number, portal?: number, target?: number): string;
  /** The file behind LUN 0, 1, … */
  backingFile(lun: number, target?: number): string;
  /** Sends a signal: SIGKILL to crash it, SIGSTOP and SIGCONT to freeze it and let it go on. */
  kill(signal: NodeJS.Signals): void;
  /** Crashes it if it runs, and starts it anew on the same ports and files. */
  restart(): Promise<void>;
  /** What it said. */
  output(): string;
  stop(): Promise<void>;
}

const START_TRIES = 3;
const DEFAULT_BYTES = 64 * 1024 * 1024;
const NODE_BASE = 'iqn.2026-11.lab.istgt';
const PROBE_MS = 1000;

/** It reserves memory for all of them at the start. */
const SESSIONS_MAX = 16;

/** Like the sample file that comes with it, but for times that a test cannot wait. */
const GLOBAL = {
  Timeout: 30,
  NopInInterval: 20,
  DiscoveryAuthMethod: 'None',
  MaxSessions: SESSIONS_MAX,
  MaxConnections: 4,
  MaxR2T: 32,
  MaxOutstandingR2T: 16,
  DefaultTime2Wait: 2,
  DefaultTime2Retain: 60,
  FirstBurstLength: 262144,
  MaxBurstLength: 1048576,
  MaxRecvDataSegmentLength: 262144,
  InitialR2T: 'Yes',
  ImmediateData: 'Yes',
  DataPDUInOrder: 'Yes',
  DataSequenceInOrder: 'Yes',
  ErrorRecoveryLevel: 0,
};

export async function startIstgt(options: IstgtOptions = {}): Promise<Istgt> {
  for (let tries = 1; ; tries++) {
    try {
      return await start(options);
    } catch (error) {
      // Somebody else may have taken a port between our look and the daemon's.
      if (tries === START_TRIES || !/in use|bind|listen/i.test(String(error))) throw error;
    }
  }
}

interface Place {
  readonly run: TempDir;
  readonly ports: readonly number[];
  readonly controlPort: number;
  readonly backingFile: Istgt['backingFile'];
}

async function start(options: IstgtOptions): Promise<Istgt> {
  const targets = options.targets ?? [{}];
  const ports = await freePorts(options.portals ?? 1);
  const controlPort = await freePort();
  const run = tempDir('istgt');
  const data = tempDir('luns', options.backing ?? 'memory');
  const backingFile = (lun: number, target = 0): string => data.file(`t${target}-lun${lun}.img`);
  const portals = ports.map((port) => `127.0.0.1:${port}`);
  const targetNames = targets.map(targetNameOf);
  let daemon: TestProcess | undefined;

  const launch = async (): Promise<void> => {
    daemon = await startProcess({ command: 'istgt', args: ['-D', '-c', run.file('istgt.conf')] });
    await daemon.until('istgt listens', async () => {
      for (const port of ports) await probe(port);
      return true;
    });
  };
  const stop = async (): Promise<void> => {
    // On SIGTERM it waits for who is logged in.
    await daemon?.stop('SIGKILL');
    await run.remove();
    await data.remove();
  };

  try {
    for (const [index, target] of targets.entries()) {
      for (const [lun, bytes] of (target.luns ?? [DEFAULT_BYTES]).entries()) {
        makeSparse(backingFile(lun, index), bytes);
      }
    }
    writeConfiguration(options, targets, { run, ports, controlPort, backingFile });
    await launch();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    portals,
    targetNames,
    targetName: targetNames[0]!,
    get pid() {
      return daemon!.pid;
    },
    uri: (lun = 0, portal = 0, target = 0) =>
      `iscsi://${portals[portal]}/${targetNames[target]}/${lun}`,
    backingFile,
    kill: (signal) => daemon!.kill(signal),
    async restart() {
      await daemon!.stop('SIGKILL');
      await launch();
    },
    output: () => `${daemon!.stdout()}${daemon!.stderr()}`,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function targetNameOf(target: IstgtTarget, index: number): string {
  return target.name ?? `${NODE_BASE}:disk${index + 1}`;
}

function makeSparse(path: string, bytes: number): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bytes);
  closeSync(fd);
}

/** It has no control port that could be asked. */
function probe(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: PROBE_MS });
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('timeout', () => socket.destroy(new Error('no answer')));
    socket.once('error', reject);
  });
}

function lines(values: Readonly<Record<string, string | number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `  ${name} ${value}\n`)
    .join('');
}

function writeConfiguration(
  options: IstgtOptions,
  targets: readonly IstgtTarget[],
  { run, ports, controlPort, backingFile }: Place,
): void {
  const authFile = run.file('auth.conf');
  const portals = ports.map((port) => `  Portal DA1 127.0.0.1:${port}\n`).join('');
  writeFileSync(
    run.file('istgt.conf'),
    `[Global]
  NodeBase "${NODE_BASE}"
  PidFile ${run.file('istgt.pid')}
  AuthFile ${authFile}
  MediaDirectory ${run.path}
  LogFacility local7
${lines({ ...GLOBAL, ...options.parameters })}
[UnitControl]
  AuthMethod None
  Portal UC1 127.0.0.1:${controlPort}
  Netmask 127.0.0.1
[PortalGroup1]
${portals}
[InitiatorGroup1]
  InitiatorName "ALL"
  Netmask 127.0.0.1
${targets.map((target, index) => unitSection(target, index, backingFile)).join('')}`,
  );
  writeFileSync(authFile, targets.map(accountSection).join(''));
  // It reads no file that others may read.
  chmodSync(authFile, 0o600);
}

function unitSection(
  target: IstgtTarget,
  index: number,
  backingFile: Istgt['backingFile'],
): string {
  const number = index + 1;
  const method = target.chapOutgoing ? 'CHAP Mutual' : target.chap ? 'CHAP' : 'None';
  const storage = (target.luns ?? [DEFAULT_BYTES]).map(
    (bytes, lun) => `  LUN${lun} Storage ${backingFile(lun, index)} ${bytes}\n`,
  );
  return `[LogicalUnit${number}]
  TargetName "${targetNameOf(target, index)}"
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod ${method}
  ${target.chap === undefined ? '' : `AuthGroup AuthGroup${number}`}
  UnitType Disk
  UnitInquiry "istgt" "disk" "0001" "${`${number}`.padStart(8, '0')}"
  ${target.blockBytes === undefined ? '' : `BlockLength ${target.blockBytes}`}
${lines({ UseDigest: 'Auto', ...target.parameters })}${storage.join('')}`;
}

function accountSection({ chap, chapOutgoing }: IstgtTarget, index: number): string {
  if (chap === undefined) return '';
  const words = [chap, chapOutgoing].filter((account) => account !== undefined);
  const quoted = words.map(({ user, password }) => `"${user}" "${password}"`);
  return `[AuthGroup${index + 1}]\n  Auth ${quoted.join(' ')}\n`;
}
