import { canConnect } from './ports.ts';
import { startProcess } from './process.ts';
import { tempDir } from './tmp.ts';

/** qemu-nbd over iscsi://: the C program that does the same job (needs the tools `qemu-nbd` and `qemu-iscsi`). */
export interface QemuNbd extends AsyncDisposable {
  readonly pid: number;
  readonly socket: string;
  /** For fio, nbdinfo, nbdcopy. */
  readonly uri: string;
  /** Throws, with its last output, when it has ended. */
  assertRunning(): void;
  stop(): Promise<void>;
}

export interface QemuNbdOptions {
  /** "iscsi://127.0.0.1:3260/IQN/1", or a file. */
  readonly source: string;
  /** NBD clients at once. */
  readonly clients?: number;
  readonly extraArgs?: readonly string[];
}

export async function startQemuNbd(options: QemuNbdOptions): Promise<QemuNbd> {
  const dir = tempDir('qnbd');
  const socket = dir.file('nbd.sock');
  const clients = String(options.clients ?? 8);
  const daemon = await startProcess({
    command: 'qemu-nbd',
    args: [
      ...['-f', 'raw', '-t', '-e', clients, '-k', socket],
      ...(options.extraArgs ?? []),
      options.source,
    ],
  });
  const stop = async (): Promise<void> => {
    await daemon.stop();
    await dir.remove();
  };
  try {
    await daemon.until('qemu-nbd listens', () => canConnect({ path: socket }));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    pid: daemon.pid,
    socket,
    uri: `nbd+unix:///?socket=${socket}`,
    assertRunning() {
      if (daemon.exit !== null) throw new Error(daemon.explain());
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
