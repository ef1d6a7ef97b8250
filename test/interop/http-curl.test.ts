import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { runProcess } from '#testkit/process.ts';
import { describeWith } from '#testkit/requires.ts';
import { type TempDir, tempDir } from '#testkit/tmp.ts';
import { type Fixture, startFixture } from '../../services/gateway/http/fixture.ts';

const MIB = 1024 * 1024;

describeWith(['curl'], 'curl reads and writes a volume', () => {
  let fixture: Fixture;
  let directory: TempDir;

  beforeAll(async () => {
    fixture = await startFixture({ sizeBytes: 16 * MIB });
    directory = tempDir('http-curl');
  });

  beforeEach(() => {
    fixture.device.calls.length = 0;
  });

  afterAll(async () => {
    await fixture.app.close();
    expect(fixture.pool.takenBytes).toBe(0);
    await directory[Symbol.asyncDispose]();
  });

  /** Runs curl on the data of the volume; gives status, head and body. */
  async function curl(...args: string[]) {
    const [head, body] = [join(directory.path, 'head'), join(directory.path, 'body')];
    await writeFile(body, '');
    const result = await runProcess({
      command: 'curl',
      args: [
        ...['-sS', '--max-time', '60', '-D', head, '-o', body, '-w', '%{http_code}'],
        // It would wait one second for "100 Continue", and send without it then.
        ...['--expect100-timeout', '60', ...args],
      ],
    });
    return {
      exit: result.code,
      status: Number(result.stdout),
      head: (await readFile(head, 'latin1')).toLowerCase(),
      body: await readFile(body),
    };
  }

  const problem = (body: Buffer): string => JSON.parse(body.toString()).type;

  test('a range', async () => {
    const { status, head, body } = await curl('-r', '0-4095', fixture.dataUrl);
    expect(status).toBe(206);
    expect(head).toContain(`content-range: bytes 0-4095/${16 * MIB}`);
    expect(body.equals(fixture.device.data.subarray(0, 4096))).toBe(true);
  });

  test('the last bytes', async () => {
    const { status, body } = await curl('-r', '-512', fixture.dataUrl);
    expect(status).toBe(206);
    expect(body.equals(fixture.device.data.subarray(-512))).toBe(true);
  });

  test('a range beyond the end', async () => {
    const { status, head, body } = await curl('-r', '999999999999-', fixture.dataUrl);
    expect(status).toBe(416);
    expect(head).toContain(`content-range: bytes */${16 * MIB}`);
    expect(problem(body)).toBe('urn:orion-iscsi:problem:range-not-satisfiable');
  });

  test('two ranges', async () => {
    const { status, body } = await curl('-r', '0-1,5-6', fixture.dataUrl);
    expect(status).toBe(416);
    expect(problem(body)).toBe('urn:orion-iscsi:problem:multiple-ranges');
  });

  test('the whole volume, and its size alone', async () => {
    const whole = await curl(fixture.dataUrl);
    expect(whole.status).toBe(200);
    expect(whole.body.equals(fixture.device.data)).toBe(true);
    const head = await curl('-I', fixture.dataUrl);
    expect(head.head).toContain(`content-length: ${16 * MIB}`);
    expect(head.head).toContain('accept-ranges: bytes');
  });

  test('a download that is resumed', async () => {
    const path = join(directory.path, 'resumed');
    await writeFile(path, fixture.device.data.subarray(0, 5_000_001));
    const args = ['-sS', '-C', '-', '-o', path, fixture.dataUrl];
    const { code } = await runProcess({ command: 'curl', args });
    expect(code).toBe(0);
    expect((await readFile(path)).equals(fixture.device.data)).toBe(true);
  });

  test('an upload of a file to a range, which curl announces with "Expect: 100-continue"', async () => {
    const path = join(directory.path, 'upload');
    const data = randomBytes(5 * MIB);
    await writeFile(path, data);
    const range = `Content-Range: bytes ${MIB}-${6 * MIB - 1}/*`;
    const { status, head } = await curl('-T', path, '-H', range, fixture.dataUrl);
    expect(status).toBe(204);
    expect(head).toContain('100 continue');
    expect(head).toContain('x-durable: flushed');
    expect(fixture.device.data.subarray(MIB, 6 * MIB).equals(data)).toBe(true);
    expect(fixture.device.calls.at(-1)).toBe('flush');
  });

  test('an upload without Content-Range is refused before it is sent', async () => {
    const path = join(directory.path, 'upload');
    await writeFile(path, Buffer.alloc(16 * MIB));
    const { exit, status, head, body } = await curl('-T', path, fixture.dataUrl);
    expect(exit).toBe(0);
    expect(status).toBe(400);
    expect(head).not.toContain('100 continue');
    expect(problem(body)).toBe('urn:orion-iscsi:problem:range-required');
    expect(fixture.device.calls).toEqual([]);
  });

  test('an upload that is refused while curl is sending still gets its answer', async () => {
    const path = join(directory.path, 'upload');
    await writeFile(path, Buffer.alloc(16 * MIB));
    for (let i = 0; i < 5; i++) {
      const { status, body } = await curl('-T', path, '-H', 'Expect:', fixture.dataUrl);
      expect(status).toBe(400);
      expect(problem(body)).toBe('urn:orion-iscsi:problem:range-required');
    }
    expect(fixture.device.calls).toEqual([]);
  });

  test('operations', async () => {
    const { status, body } = await curl(
      ...['-X', 'PATCH', '-H', 'Content-Type: application/vnd.orion.block-ops+json'],
      ...['-d', '{"ops":[{"op":"zero","offset":0,"length":4096},{"op":"flush"}]}'],
      fixture.dataUrl,
    );
    expect(status).toBe(200);
    expect(JSON.parse(body.toString()).results).toHaveLength(2);
    expect(fixture.device.data.subarray(0, 4096).equals(Buffer.alloc(4096))).toBe(true);
  });
});
