import {
  aluaStateScript,
  discoveryScript,
  FIRST_GUEST_PORT,
  GUEST_ADDRESS,
  groupPath,
  type LioAccess,
  type LioAccount,
  type LioGroup,
  type LioGroupSettings,
  type LioLun,
  settingsScript,
  targetScript,
} from './lio-config.ts';
import { type LioControl, openControl } from './lio-control.ts';
import { lioImage } from './lio-image.ts';
import { freePorts } from './ports.ts';
import { startProcess, type TestProcess } from './process.ts';
import { tempDir } from './tmp.ts';

export { LioAccess } from './lio-config.ts';
export { whyNoLio } from './lio-image.ts';

/**
 * LIO, the target of the Linux kernel, in a virtual machine of its own: disks start at LUN 0. It needs about 5 s to
 * start, and does some 2,000 I/Os a second: for behaviour, not for speed. Tests use
 * `describeUnless(await whyNoLio(), 'title', () => ...)`.
 */
export interface LioOptions {
  /** How many portals on 127.0.0.1; 1 when left out. */
  readonly portals?: number;
  /** LUN 0, 1, … ; one of 64 MiB when left out. */
  readonly luns?: readonly LioLun[];
  readonly targetName?: string;
  /** Target portal groups 1, 2, … ; one with all portals when left out. */
  readonly groups?: readonly LioGroup[];
  /** Each portal group is a target port group (ALUA) of its own, active and optimized at first. */
  readonly alua?: boolean;
}

export interface Lio extends AsyncDisposable {
  /** "127.0.0.1:PORT" */
  readonly portals: readonly string[];
  /** The same as the target itself tells them, from its side of the address translation: "10.0.2.15:3260". */
  readonly guestPortals: readonly string[];
  readonly targetName: string;
  /** Of the virtual machine. */
  readonly pid: number;
  /** "iscsi://127.0.0.1:PORT/IQN/LUN", as libiscsi and qemu take it. */
  uri(lun?: number, portal?: number): string;
  /** Changes a portal group; what is left out stays. Logins from then on see it. */
  configure(settings: LioGroupSettings, tag?: number): Promise<void>;
  /** CHAP for discovery; null for none. */
  configureDiscovery(account: LioAccount | null, outgoing?: LioAccount | null): Promise<void>;
  /** Changes the state of the target port group that goes with a portal group. Resolves when the target is in it. */
  setAccess(state: LioAccess, tag: number, lun?: number): Promise<void>;
  /** Runs shell commands in the machine, as root, and returns what they print. */
  run(script: string): Promise<string>;
  /** The directory of a portal group in the machine. */
  groupPath(tag?: number): string;
  /** What the kernel said. */
  console(): string;
  /** Signals the virtual machine: SIGSTOP and SIGCONT to freeze it and let it go on, SIGKILL to end it. */
  kill(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

const START_TRIES = 3;
const MEMORY_MIB = 1024;
/** Five seconds are usual; on a busy machine it takes longer. */
const BOOT_MS_MAX = 180_000;
const DEFAULT_BYTES = 64 * 1024 * 1024;

export async function startLio(options: LioOptions = {}): Promise<Lio> {
  for (let tries = 1; ; tries++) {
    try {
      return await start(options);
    } catch (error) {
      // Somebody else may have taken a port between our look and the machine's.
      if (tries === START_TRIES || !/host forwarding/i.test(String(error))) throw error;
    }
  }
}

async function start(options: LioOptions): Promise<Lio> {
  const targetName = options.targetName ?? 'iqn.2026-11.lab:lio';
  const ports = await freePorts(options.portals ?? 1);
  const directory = tempDir('lio');
  let machine: TestProcess | undefined;
  let control: LioControl | undefined;
  const stop = async (): Promise<void> => {
    control?.close();
    await machine?.stop('SIGKILL');
    await directory.remove();
  };
  try {
    machine = await boot(ports, directory.file('control'));
    control = await openControl(directory.file('control'));
    const target = {
      name: targetName,
      portals: ports.length,
      luns: options.luns ?? [{ sizeBytes: DEFAULT_BYTES }],
      groups: options.groups ?? [{}],
      alua: options.alua ?? false,
    };
    await control.run(targetScript(target));
  } catch (error) {
    await stop();
    throw error;
  }
  return handle({ targetName, ports, machine, control, stop });
}

async function boot(ports: readonly number[], controlPath: string): Promise<TestProcess> {
  const image = await lioImage();
  const forwards = ports
    .map((port, index) => `,hostfwd=tcp:127.0.0.1:${port}-:${FIRST_GUEST_PORT + index}`)
    .join('');
  const machine = await startProcess({
    name: 'the virtual machine with LIO',
    command: 'qemu-system-x86_64',
    args: [
      ...['-accel', 'tcg', '-cpu', 'max', '-m', String(MEMORY_MIB)],
      ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'],
      ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
      ...['-serial', `unix:${controlPath},server=on,wait=off`],
      // It reaches nobody, and is reached at its portals only.
      ...['-netdev', `user,id=net,restrict=on${forwards}`],
      ...['-device', 'virtio-net-pci,netdev=net,romfile='],
      ...['-kernel', image.kernel, '-initrd', image.initrd],
      ...['-append', 'console=ttyS0 quiet panic=-1 mitigations=off'],
    ],
  });
  try {
    await machine.untilOutput(/lio-ready/, BOOT_MS_MAX);
  } catch (error) {
    await machine.stop('SIGKILL');
    throw error;
  }
  return machine;
}

function handle(parts: {
  targetName: string;
  ports: readonly number[];
  machine: TestProcess;
  control: LioControl;
  stop: () => Promise<void>;
}): Lio {
  const { targetName, ports, machine, control, stop } = parts;
  const portals = ports.map((port) => `127.0.0.1:${port}`);
  const run = async (script: string): Promise<string> => {
    try {
      return await control.run(script);
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${machine.explain()}`, { cause: error });
    }
  };
  return {
    portals,
    guestPortals: ports.map((_, index) => `${GUEST_ADDRESS}:${FIRST_GUEST_PORT + index}`),
    targetName,
    pid: machine.pid,
    uri: (lun = 0, portal = 0) => `iscsi://${portals[portal]}/${targetName}/${lun}`,
    configure: async (settings, tag = 1) => {
      await run(settingsScript(targetName, tag, settings));
    },
    configureDiscovery: async (account, outgoing = null) => {
      await run(discoveryScript(account, outgoing));
    },
    setAccess: async (state, tag, lun = 0) => {
      await run(aluaStateScript(lun, tag, state));
    },
    run,
    groupPath: (tag = 1) => groupPath(targetName, tag),
    console: () => machine.stdout(),
    kill: (signal) => machine.kill(signal),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
