import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, test } from 'vitest';
import { type Control, EXPORT_BYTES, EXPORT_DESCRIPTION, title } from '#nbd/rows/case.ts';
import { handshakeRows } from '#nbd/rows/handshake-rows.ts';
import { RawPeer } from '#nbd/rows/raw-peer.ts';
import { transmissionRows } from '#nbd/rows/transmission-rows.ts';
import { canConnect } from '#testkit/ports.ts';
import { startProcess, type TestProcess } from '#testkit/process.ts';
import { describeWith } from '#testkit/requires.ts';
import { type TempDir, tempDir } from '#testkit/tmp.ts';

/**
 * The rows that libs/nbd passes, run against other servers: what two independent programs also do is more likely to
 * be what the protocol means than what we read into it. Rows where a server is known to deviate do not name it.
 */

/** Arguments that make the server export "ram" on the socket, from the file where it needs one. */
const SERVERS: Readonly<Record<Control, (socket: string, file: string) => readonly string[]>> = {
  'qemu-nbd': (socket, file) => [
    ...['-f', 'raw', '-t', '-e', '8', '--discard=unmap', '-k', socket],
    ...['-x', 'ram', '-D', EXPORT_DESCRIPTION, file],
  ],
  nbdkit: (socket) => ['-f', '-U', socket, 'memory', String(EXPORT_BYTES)],
};

for (const name of Object.keys(SERVERS) as Control[]) {
  describeWith([name], `NBD conformance rows against ${name}`, () => {
    let dir: TempDir;
    let socket: string;
    let daemon: TestProcess;

    beforeAll(async () => {
      dir = tempDir('nbdctl', 'memory');
      socket = dir.file('nbd.sock');
      const file = dir.file('disk');
      writeFileSync(file, Buffer.alloc(EXPORT_BYTES));
      daemon = await startProcess({ command: name, args: SERVERS[name](socket, file) });
      await daemon.until('it listens', () => canConnect({ path: socket }));
    });

    afterAll(async () => {
      await daemon.stop();
      await dir.remove();
    });

    for (const row of [...handshakeRows, ...transmissionRows]) {
      if (!row.controls.includes(name)) continue;
      test(title(row), async () => {
        try {
          const connect = () => RawPeer.connect({ kind: 'unix', path: socket });
          await row.run({ server: name, connect });
        } catch (error) {
          throw new Error(`${(error as Error).message}\n${daemon.explain()}`, { cause: error });
        }
      });
    }
  });
}
