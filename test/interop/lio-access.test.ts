import { afterAll, beforeAll, expect, test } from 'vitest';
import { startFio } from '#testkit/fio.ts';
import { type Lio, LioAccess, startLio, whyNoLio } from '#testkit/lio.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { describeUnless, missingReason } from '#testkit/requires.ts';
import { waitFor } from '#testkit/wait.ts';

const MIB = 1024 * 1024;

/** One look at the status costs a process; the machine with the target is slow. */
const FOLLOW_MS = 60_000;

const why = (await whyNoLio()) ?? missingReason(['fio']);

describeUnless(why, 'two port groups of LIO behind a volume', () => {
  let lio: Lio;
  let orion: Orion;

  beforeAll(async () => {
    lio = await startLio({
      portals: 2,
      groups: [{ portals: [0] }, { portals: [1] }],
      alua: true,
      luns: [{ sizeBytes: 32 * MIB }],
    });
    await lio.setAccess(LioAccess.ActiveOptimized, 1);
    await lio.setAccess(LioAccess.Standby, 2);
    const { portals, targetName } = lio;
    orion = await startOrion({ portals, targetName, lun: 0, volume: 'no_path_retry_ms = 60000' });
  });

  afterAll(async () => {
    await orion?.stop();
    await lio?.stop();
  });

  const paths = async () =>
    [...(await orion.status()).paths].sort(
      (a, b) => lio.portals.indexOf(a.portal) - lio.portals.indexOf(b.portal),
    );

  const showing = (wanted: readonly string[]): Promise<unknown> =>
    waitFor(
      `paths ${wanted.join(' and ')}`,
      async () => {
        const seen = (await paths()).map(({ state, access }) => `${state} ${access}`);
        if (seen.join() !== wanted.join()) throw new Error(`seen ${seen.join(' and ')}`);
        return true;
      },
      FOLLOW_MS,
    );

  test('change places under load: the client sees no error, no byte is wrong, and the status tells the state', async () => {
    await showing(['ready active/optimized', 'ghost standby']);
    const shown = (await orion.cli('status')).stdout;
    expect(shown).toContain('ACCESS');
    expect(shown).toContain('active/optimized');
    const run = await startFio({
      uri: orion.nbdUnix,
      // Every block once, for twenty seconds: of a block that it wrote twice fio may not know which data are right.
      rw: 'randwrite',
      depth: 8,
      sizeBytes: 16 * MIB,
      rateIops: 200,
      verify: true,
    });
    await lio.setAccess(LioAccess.ActiveOptimized, 2);
    await lio.setAccess(LioAccess.Standby, 1);
    await showing(['ghost standby', 'ready active/optimized']);
    const [away] = await paths();
    await lio.setAccess(LioAccess.ActiveNonOptimized, 1);
    await showing(['ready active/non-optimized', 'ready active/optimized']);
    const [still] = await paths();
    expect(still!.writes).toBe(away!.writes);
    await lio.setAccess(LioAccess.Unavailable, 2);
    await showing(['ready active/non-optimized', 'ghost unavailable']);
    const response = await fetch(`${orion.http}/paths`);
    const told = (await response.json()) as { paths: { access: string }[] };
    expect(told.paths.map(({ access }) => access).sort()).toEqual([
      'active/non-optimized',
      'unavailable',
    ]);
    const result = await run.result;
    expect(result).toMatchObject({ error: 0, totalErrors: 0 });
    expect(result.write.ios).toBe((16 * MIB) / 4096);
  });

  test('a session that is lost while its port is unavailable comes back, and serves when the port does', async () => {
    await lio.setAccess(LioAccess.ActiveNonOptimized, 1);
    await lio.setAccess(LioAccess.Unavailable, 2);
    await showing(['ready active/non-optimized', 'ghost unavailable']);
    const incarnations = async () =>
      (await orion.status()).sessions.map(({ slot, incarnation }) => `${slot}/${incarnation}`);
    const before = await incarnations();
    const reset = await orion.cli('session', 'reset', '--all');
    expect(reset.stderr).toBe('');
    expect(reset.code).toBe(0);
    expect((await incarnations()).filter((session) => before.includes(session))).toEqual([]);
    await showing(['ready active/non-optimized', 'ghost unavailable']);
    await lio.setAccess(LioAccess.ActiveOptimized, 2);
    await showing(['ready active/non-optimized', 'ready active/optimized']);
    const written = await startFio({
      uri: orion.nbdUnix,
      rw: 'write',
      sizeBytes: MIB,
      verify: true,
    });
    expect(await written.result).toMatchObject({ error: 0, totalErrors: 0 });
  });
});
