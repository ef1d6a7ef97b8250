import { existsSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { check } from '#testkit/process.ts';
import { describeUnless, missingReason } from '#testkit/requires.ts';
import { waitFor } from '#testkit/wait.ts';
import type { Cluster } from './cluster.ts';

/** A first build downloads packages. */
const START_MS = 900_000;
const NBD_PORT = 10809;

/** The client library is loaded only where an engine may be. */
async function skipReason(): Promise<string | null> {
  if (process.env.DOCKER_HOST === undefined && !existsSync('/var/run/docker.sock')) {
    return 'no Docker engine answers';
  }
  return (await import('./cluster.ts')).unavailableReason();
}

// Not even CI has an engine everywhere: this one is skipped there too.
describeUnless(
  await skipReason(),
  'a cluster of containers',
  () => {
    let cluster: Cluster;
    beforeAll(async () => {
      cluster = await (await import('./cluster.ts')).startCluster();
    }, START_MS);
    afterAll(async () => {
      await cluster?.stop();
    }, START_MS);

    const blocks = (fill: string): Buffer => Buffer.alloc(64 * 1024, fill);
    const dataUrl = (): string => `${cluster.baseUrl}/v1/volumes/vol1/data`;

    const put = async (offset: number, data: Buffer): Promise<void> => {
      const range = `bytes ${offset}-${offset + data.length - 1}/*`;
      const headers = { 'content-range': range };
      const body = new Uint8Array(data);
      const answer = await fetch(dataUrl(), { method: 'PUT', headers, body });
      expect(answer.ok, `${answer.status} ${await answer.text()}`).toBe(true);
    };
    const get = async (offset: number, length: number): Promise<Buffer> => {
      const headers = { range: `bytes=${offset}-${offset + length - 1}` };
      const answer = await fetch(dataUrl(), { headers });
      expect(answer.status).toBe(206);
      return Buffer.from(await answer.arrayBuffer());
    };

    test('what is written over HTTP is read back', async () => {
      const data = blocks('first');
      await put(1024 * 1024, data);
      expect((await get(1024 * 1024, data.length)).equals(data)).toBe(true);
    });

    test.skipIf(missingReason(['nbdinfo']) !== null)('an NBD client sees the volume', async () => {
      const port = cluster.gateway.getMappedPort(NBD_PORT);
      const size = await check('nbdinfo', [
        '--size',
        `nbd://${cluster.gateway.getHost()}:${port}/vol1`,
      ]);
      expect(Number(size)).toBe(1024 ** 3);
    });

    test('I/O goes on when a worker is killed', async () => {
      const before = blocks('before');
      const after = blocks('after');
      await put(0, before);
      await cluster.workers[0]!.stop({ timeout: 0 });
      await put(8 * 1024 * 1024, after);
      expect((await get(0, before.length)).equals(before)).toBe(true);
      expect((await get(8 * 1024 * 1024, after.length)).equals(after)).toBe(true);
      await waitFor('readiness', async () => (await fetch(`${cluster.baseUrl}/readyz`)).ok);
    });
  },
  false,
);
