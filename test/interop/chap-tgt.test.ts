import { chmodSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '#core/clock.ts';
import { isOrionError, type OrionError } from '#core/errors.ts';
import { systemRng } from '#core/rng.ts';
import { type ChapOptions, DEFAULT_CHAP_ALGORITHMS } from '#iscsi/chap.ts';
import { IssuedChallenges } from '#iscsi/chap-challenges.ts';
import { makeIsid } from '#iscsi/isid.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { Secret } from '#security/secret.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { check } from '#testkit/process.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { type TempDir, tempDir } from '#testkit/tmp.ts';
import { waitFor } from '#testkit/wait.ts';
import { parseAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';

const OURS = 'alice-has-a-secret';
const THEIRS = 'tgt-has-another-one';
const WRONG = 'nobody-has-this-one';
const LUN = lunFromNumber(1);
const LOGOUT_MS = 10_000;
/** One look at the status costs a process. */
const READY_MS = 60_000;

const challenges = new IssuedChallenges();
const own = { user: 'alice', secret: new Secret(OURS), challenges };
const mutual = { user: 'storage', secret: new Secret(THEIRS) };

async function login(tgtd: Tgtd, authentication: ChapOptions | undefined): Promise<number> {
  const session = await openSession({
    ...{ network: nodeNetwork, clock: systemClock, rng: systemRng },
    portals: tgtd.portals.map((portal) => parseAddress(portal)!),
    targetName: tgtd.targetName,
    initiatorName: 'iqn.2026-11.lab:initiator',
    isid: makeIsid('chap', tgtd.targetName, 0),
    authentication,
  });
  try {
    return (await attachLun(session, LUN)).caps.sizeBytes;
  } finally {
    await session.logout({ timeoutMs: LOGOUT_MS });
  }
}

async function refusal(promise: Promise<unknown>): Promise<OrionError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(isOrionError(error)).toBe(true);
  const text = (error as OrionError).describe();
  for (const secret of [OURS, THEIRS, WRONG]) expect(text).not.toContain(secret);
  return error as OrionError;
}

describeWith(['tgtd'], 'CHAP with tgtd', () => {
  let both: Tgtd;
  let oneWay: Tgtd;

  beforeAll(async () => {
    const chap = { user: 'alice', password: OURS };
    both = await startTgtd({ chap, chapOutgoing: { user: 'storage', password: THEIRS } });
    oneWay = await startTgtd({ chap });
  });

  afterAll(async () => {
    await both?.stop();
    await oneWay?.stop();
  });

  test('one way and mutual, the right secrets open a session that does I/O', async () => {
    expect(await login(oneWay, own)).toBe(64 * 1024 * 1024);
    expect(await login(both, own)).toBe(64 * 1024 * 1024);
    expect(await login(both, { ...own, mutual })).toBe(64 * 1024 * 1024);
  });

  test('each list that begins with MD5 works, and MD5 alone', async () => {
    for (const second of DEFAULT_CHAP_ALGORITHMS.slice(1)) {
      await login(both, { ...own, mutual, algorithms: ['md5', second] });
    }
    await login(both, { ...own, mutual, algorithms: ['md5'] });
  });

  test.each<[string, ChapOptions | undefined]>([
    ['no authentication', undefined],
    ['a wrong secret', { ...own, secret: new Secret(WRONG) }],
    ['a wrong user', { ...own, user: 'bob' }],
  ])('%s is refused, and the error says where to look', async (_, authentication) => {
    const error = await refusal(login(both, authentication));
    expect(error.code).toBe('ISCSI_LOGIN_REFUSED');
    expect(error.message).toMatch(/authentication failure/);
    expect(error.hint).toMatch(/CHAP names and secrets on both sides/);
  });

  test.each<[string, ChapOptions['mutual']]>([
    ['another secret', { user: 'storage', secret: new Secret(WRONG) }],
    ['another name', { user: 'mallory', secret: new Secret(THEIRS) }],
  ])('a target that proves itself with %s than we know is left', async (_, other) => {
    const error = await refusal(login(both, { ...own, mutual: other! }));
    expect(error).toMatchObject({ code: 'ISCSI_CHAP_TARGET_FAILED', outcome: 'not-executed' });
    expect(error.hint).toMatch(/outgoing or mutual/);
  });

  test('a target that cannot prove itself is left', async () => {
    const error = await refusal(login(oneWay, { ...own, mutual }));
    expect(['ISCSI_CHAP_SKIPPED', 'ISCSI_LOGIN_REFUSED']).toContain(error.code);
  });

  test('weak and equal secrets are not used at all', async () => {
    const weak = await refusal(login(both, { ...own, secret: new Secret('short') }));
    expect(weak.code).toBe('ISCSI_CHAP_WEAK_SECRET');
    const equal = { user: 'storage', secret: own.secret };
    expect((await refusal(login(both, { ...own, mutual: equal }))).code).toBe(
      'ISCSI_CHAP_EQUAL_SECRETS',
    );
  });
});

describeWith(['tgtd', 'qemu-io'], 'orion-iscsi up on targets with CHAP', () => {
  const chap = { user: 'alice', password: OURS };
  let good: Tgtd;
  /** Logged in to with a wrong secret, and with one that lies open, until that is corrected. */
  let others: readonly { volume: string; tgtd: Tgtd }[];
  let secrets: TempDir;
  let orion: Orion;

  function secretFile(name: string, secret: string, mode = 0o600): string {
    const path = secrets.file(name);
    writeFileSync(path, `${secret}\n`);
    chmodSync(path, mode);
    return path;
  }

  const otherToml = ({ volume, tgtd }: { volume: string; tgtd: Tgtd }): string => `
[[targets]]
name = "${tgtd.targetName}"
portals = ["${tgtd.portals[0]}"]
auth = { user = "alice", secret_file = "${secrets.file(volume)}" }
[[volumes]]
name = "${volume}"
target = "${tgtd.targetName}"
lun = 1
`;

  beforeAll(async () => {
    secrets = tempDir('secrets');
    const chapOutgoing = { user: 'storage', password: THEIRS };
    good = await startTgtd({ portals: 2, chap, chapOutgoing });
    const start = async (volume: string) => ({
      volume,
      tgtd: await startTgtd({ chap, targetName: `iqn.2026-11.lab:${volume}` }),
    });
    others = [await start('wrong'), await start('exposed')];
    secretFile('wrong', WRONG);
    secretFile('exposed', OURS, 0o644);
    const file = secretFile('alice', OURS);
    orion = await startOrion({
      portals: good.portals,
      targetName: good.targetName,
      target: `auth = { user = "alice", secret_file = "${file}", mutual_user = "storage", mutual_secret_env = "TGT_SECRET" }`,
      extra: others.map(otherToml).join(''),
      env: { TGT_SECRET: THEIRS },
    });
  });

  afterAll(async () => {
    await orion?.stop();
    for (const tgtd of [good, ...(others ?? []).map((other) => other.tgtd)]) await tgtd?.stop();
    await secrets?.remove();
  });

  const ready = (volume: string, count: number) =>
    waitFor(
      `${count} paths of ${volume}`,
      async () => {
        const { paths } = await orion.status();
        const isReady = paths.filter((path) => path.volume === volume && path.state === 'ready');
        return isReady.length === count || null;
      },
      READY_MS,
    );

  test('serves a volume on both paths when each side has proved itself', async () => {
    await ready('vol1', 2);
    const steps = ['-c', 'write -P 7 0 64k', '-c', 'read -P 7 0 64k'];
    expect(await check('qemu-io', ['-f', 'raw', ...steps, orion.nbdUnix])).not.toMatch(/failed/);
  });

  test.each([
    ['wrong', /"wrong".*authentication failure.*CHAP names and secrets on both sides/],
    ['exposed', /"exposed".*SECRET_EXPOSED.*mode 0644.*chmod 600/],
  ])(
    'says what to do about a secret that is %s, and takes the corrected one',
    async (volume, text) => {
      await waitFor('the log says it', async () => text.test(orion.process.stderr()) || null);
      secretFile(volume, OURS);
      await ready(volume, 1);
    },
  );

  test('shows the secrets nowhere', async () => {
    const shown = [
      (await orion.cli('config', 'show')).stdout,
      JSON.stringify(await orion.status()),
      orion.process.stderr(),
    ].join('\n');
    expect(shown).toContain('auth.mutual_secret_env');
    for (const secret of [OURS, THEIRS, WRONG]) expect(shown).not.toContain(secret);
  });
});
