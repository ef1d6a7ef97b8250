import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runProcess, startProcess, type TestProcess } from '#testkit/process.ts';
import { describeWith } from '#testkit/requires.ts';
import { type TempDir, tempDir } from '#testkit/tmp.ts';
import { type Fixture, startFixture } from '../../services/gateway/http/fixture.ts';

const SIZE_BYTES = 24 * 1024 * 1024;

/** nbdkit's curl plugin turns HEAD and ranged GET into NBD: someone else's idea of what a block server over HTTP does. */
describeWith(['nbdkit', 'nbdinfo', 'nbdcopy'], 'nbdkit serves our HTTP as NBD', () => {
  let fixture: Fixture;
  let directory: TempDir;
  let nbdkit: TestProcess;
  let uri: string;

  beforeAll(async () => {
    fixture = await startFixture({ sizeBytes: SIZE_BYTES });
    directory = tempDir('http-nbdkit');
    const socket = join(directory.path, 'nbd.sock');
    uri = `nbd+unix:///?socket=${socket}`;
    nbdkit = await startProcess({
      command: 'nbdkit',
      args: ['-f', '-r', '-U', socket, 'curl', fixture.dataUrl, 'protocols=http'],
    });
    await nbdkit.until('it answers', async () => {
      const { code } = await runProcess({ command: 'nbdinfo', args: ['--size', uri] });
      return code === 0;
    });
  });

  afterAll(async () => {
    await nbdkit.stop();
    await fixture.app.close();
    expect(fixture.pool.takenBytes).toBe(0);
    await directory[Symbol.asyncDispose]();
  });

  test('with the size of the volume', async () => {
    const { stdout } = await runProcess({ command: 'nbdinfo', args: ['--json', uri] });
    expect(JSON.parse(stdout).exports[0]['export-size']).toBe(SIZE_BYTES);
  });

  test('and nbdcopy gets every byte of it', async () => {
    const path = join(directory.path, 'copy');
    const { code, stderr } = await runProcess({ command: 'nbdcopy', args: [uri, path] });
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect((await readFile(path)).equals(fixture.device.data)).toBe(true);
  });
});
