import { afterAll, beforeAll, expect, test } from 'vitest';
import { startOrion, VOLUME_NAME } from '#testkit/orion.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { waitFor } from '#testkit/wait.ts';
import { pathsReady } from './up-load.ts';

/** An operator has sessions logged in anew while clients are at work. */

const BLOCK = 64 * 1024;

/** Writes and reads back without a pause, each time something else. */
function client(http: string) {
  let goesOn = true;
  let rounds = 0;
  const run = async (): Promise<void> => {
    while (goesOn) {
      const body = Buffer.alloc(BLOCK, rounds & 0xff);
      const range = `bytes ${rounds % 16 === 0 ? 0 : BLOCK}-`;
      const at = rounds % 16 === 0 ? 0 : BLOCK;
      const put = await fetch(`${http}/data`, {
        method: 'PUT',
        headers: { 'content-range': `bytes ${at}-${at + BLOCK - 1}/*` },
        body,
      });
      if (!put.ok) throw new Error(`write ${rounds}: ${put.status} ${await put.text()}`);
      const headers = { range: `${range.replace('bytes ', 'bytes=')}${at + BLOCK - 1}` };
      const got = await fetch(`${http}/data`, { headers });
      const back = Buffer.from(await got.arrayBuffer());
      if (!back.equals(body)) throw new Error(`round ${rounds} reads something else`);
      rounds += 1;
    }
  };
  const done = run();
  return {
    get rounds() {
      return rounds;
    },
    async stop(): Promise<number> {
      goesOn = false;
      await done;
      return rounds;
    },
  };
}

describeWith(['tgtd'], 'session reset', () => {
  let tgtd: Tgtd;
  beforeAll(async () => {
    tgtd = await startTgtd({ portals: 2 });
  });
  afterAll(async () => {
    await tgtd?.stop();
  });

  test.each([
    ['of a node with two paths', false, 2],
    ['of an embedded node with one path', true, 1],
  ] as const)(
    '%s logs every session in anew, and no client sees an error',
    async (_, embedded, paths) => {
      await using orion = await startOrion({
        portals: tgtd.portals.slice(0, paths),
        targetName: tgtd.targetName,
        embedded,
      });
      // A process that is busy is left out of a status.
      const sessions = () =>
        waitFor(`${paths} sessions`, async () => {
          const all = (await orion.status()).sessions;
          return all.length === paths && all.map((one) => `${one.slot}/${one.incarnation}`);
        });
      // A worker that started late gets its share some seconds after that.
      await pathsReady(orion, paths);
      const before = await sessions();
      const io = client(orion.http);
      for (const args of [
        ['session', 'reset', '--all'],
        ['session', 'reconnect', '--volume', VOLUME_NAME, '--path', '0'],
        ['connection', 'reset', '--target', tgtd.targetName, '--json'],
      ]) {
        const seen = io.rounds;
        const { code, stdout, stderr } = await orion.cli(...args);
        expect(stderr).toBe('');
        expect(stdout).toContain('logged in anew');
        expect(code).toBe(0);
        await waitFor('I/O to go on', () => io.rounds > seen);
      }
      expect(await io.stop()).toBeGreaterThan(3);
      const after = await sessions();
      for (const session of before) expect(after).not.toContain(session);
      const volume = await waitFor('the volume', async () => (await orion.status()).volumes[0]);
      expect(volume).toMatchObject({ pathsReady: paths, failovers: 0 });
    },
  );

  test('says what is wrong with an order, and leaves everything as it is', async () => {
    await using orion = await startOrion({
      portals: tgtd.portals.slice(0, 1),
      targetName: tgtd.targetName,
      volume: 'no_path_retry_ms = 0',
    });
    for (const [args, text] of [
      [['session', 'reset'], /say which sessions/],
      [['session', 'reset', '--path', '1'], /number of a path of --volume/],
      [['session', 'reset', '--volume', 'other'], /no path is like that/],
    ] as const) {
      const { code, stderr } = await orion.cli(...args);
      expect(code).toBe(2);
      expect(stderr).toMatch(text);
    }
    const last = await orion.cli('session', 'reset', '--all');
    expect(last.code).toBe(1);
    expect(last.stdout).toMatch(/GATEWAY_LAST_PATH.*no_path_retry_ms/);
    const volume = await waitFor('the volume', async () => (await orion.status()).volumes[0]);
    expect(volume).toMatchObject({ pathsReady: 1 });
  });
});
