import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { freePort, freePorts } from './ports.ts';
import { check, startProcess, type TestProcess } from './process.ts';
import { tempDir } from './tmp.ts';

/** tgt, the everyday target: LUN 0 is its controller, so disks start at LUN 1. */

export interface TgtdLun {
  readonly sizeBytes: number;
  /** 512 when left out. */
  readonly blockBytes?: number;
  /** Reported by INQUIRY; tgt makes one up when left out. */
  readonly serial?: string;
}

export interface TgtdOptions {
  /** How many portals on 127.0.0.1; 1 when left out. */
  readonly portals?: number;
  /** LUN 1, 2, … ; one of 64 MiB when left out. */
  readonly luns?: readonly TgtdLun[];
  readonly targetName?: string;
  /** Text keys of the target, such as { MaxRecvDataSegmentLength: '262144' }. */
  readonly params?: Readonly<Record<string, string | number>>;
  /** Users that must log in with CHAP; with `outgoing` the target proves itself too. */
  readonly chap?: { readonly user: string; readonly password: string };
  readonly chapOutgoing?: { readonly user: string; readonly password: string };
  /** Where the files are: tmpfs when left out, which takes the disk out of the test. */
  readonly backing?: 'memory' | 'disk';
  readonly ioThreads?: number;
}

export interface Tgtd extends AsyncDisposable {
  /** "127.0.0.1:PORT" */
  readonly portals: readonly string[];
  readonly targetName: string;
  /** Of the daemon that runs now. */
  readonly pid: number;
  readonly controlPort: number;
  /** "iscsi://127.0.0.1:PORT/IQN/LUN", as libiscsi and qemu take it. */
  uri(lun?: number, portal?: number): string;
  /** The file behind LUN 1, 2, … */
  backingFile(lun: number): string;
  /** Runs tgtadm against this daemon, with `--lld iscsi` in front. Returns its stdout. */
  tgtadm(...args: string[]): Promise<string>;
  /** Sends a signal: SIGKILL to crash it, SIGSTOP and SIGCONT to freeze it and let it go on. */
  kill(signal: NodeJS.Signals): void;
  /** Crashes it if it runs, and starts it anew on the same ports and files. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

const START_TRIES = 3;

export async function startTgtd(options: TgtdOptions = {}): Promise<Tgtd> {
  for (let tries = 1; ; tries++) {
    try {
      return await start(options);
    } catch (error) {
      // Somebody else may have taken a port between our look and the daemon's.
      if (tries === START_TRIES || !/in use|bind/i.test(String(error))) throw error;
    }
  }
}

async function start(options: TgtdOptions): Promise<Tgtd> {
  const luns = options.luns ?? [{ sizeBytes: 64 * 1024 * 1024 }];
  const targetName = options.targetName ?? 'iqn.2026-11.lab:disk1';
  const ports = await freePorts(options.portals ?? 1);
  const portals = ports.map((port) => `127.0.0.1:${port}`);
  // Only a name for its management socket, which lies in our directory.
  const controlPort = await freePort();
  const run = tempDir('tgtd');
  const data = tempDir('luns', options.backing ?? 'memory');
  const env = { TGT_IPC_SOCKET: run.file('control') };
  const backingFile = (lun: number): string => data.file(`lun${lun}.img`);
  let daemon: TestProcess;

  const tgtadm = (...args: string[]): Promise<string> =>
    check('tgtadm', ['-C', String(controlPort), '--lld', 'iscsi', ...args], { env });

  const launch = async (): Promise<void> => {
    const threads = options.ioThreads === undefined ? [] : ['-t', String(options.ioThreads)];
    const listen = portals.map((portal) => `portal=${portal}`).join(',');
    daemon = await startProcess({
      command: 'tgtd',
      args: ['-f', '-C', String(controlPort), ...threads, '--iscsi', listen],
      env,
    });
    await daemon.until('tgtd answers', async () => {
      const shown = await tgtadm('--op', 'show', '--mode', 'portal');
      return portals.every((portal) => shown.includes(portal));
    });
    await configure(tgtadm, { ...options, luns, targetName }, backingFile);
  };

  const stop = async (): Promise<void> => {
    // It stays on SIGTERM as long as somebody is logged in.
    await daemon?.stop('SIGKILL');
    await run.remove();
    await data.remove();
  };

  try {
    luns.forEach((lun, index) => {
      makeSparse(backingFile(index + 1), lun.sizeBytes);
    });
    await launch();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    portals,
    targetName,
    controlPort,
    get pid() {
      return daemon.pid;
    },
    uri: (lun = 1, portal = 0) => `iscsi://${portals[portal]}/${targetName}/${lun}`,
    backingFile,
    tgtadm,
    kill: (signal) => daemon.kill(signal),
    async restart() {
      await daemon.stop('SIGKILL');
      await launch();
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function makeSparse(path: string, bytes: number): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bytes);
  closeSync(fd);
}

async function configure(
  tgtadm: Tgtd['tgtadm'],
  options: TgtdOptions & { readonly luns: readonly TgtdLun[]; readonly targetName: string },
  backingFile: (lun: number) => string,
): Promise<void> {
  const target = ['--mode', 'target', '--tid', '1'];
  await tgtadm('--op', 'new', ...target, '-T', options.targetName);
  for (const [index, lun] of options.luns.entries()) {
    const unit = ['--mode', 'logicalunit', '--tid', '1', '--lun', String(index + 1)];
    const file = ['--backing-store', backingFile(index + 1), '--bstype', 'rdwr'];
    const block = lun.blockBytes === undefined ? [] : ['--blocksize', String(lun.blockBytes)];
    await tgtadm('--op', 'new', ...unit, ...file, ...block);
    if (lun.serial !== undefined) {
      await tgtadm('--op', 'update', ...unit, '--params', `scsi_sn=${lun.serial}`);
    }
  }
  for (const [name, value] of Object.entries(options.params ?? {})) {
    await tgtadm('--op', 'update', ...target, '-n', name, '-v', String(value));
  }
  for (const [account, extra] of [
    [options.chap, []],
    [options.chapOutgoing, ['--outgoing']],
  ] as const) {
    if (account === undefined) continue;
    const user = ['--user', account.user];
    await tgtadm('--mode', 'account', '--op', 'new', ...user, '--password', account.password);
    await tgtadm('--mode', 'account', '--op', 'bind', '--tid', '1', ...user, ...extra);
  }
  await tgtadm('--op', 'bind', ...target, '-I', 'ALL');
}
