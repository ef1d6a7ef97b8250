import { afterAll, beforeAll, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { systemRng } from '#core/rng.ts';
import { IssuedChallenges } from '#iscsi/chap-challenges.ts';
import { discover } from '#iscsi/discovery.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { Secret } from '#security/secret.ts';
import { type Lio, LioAccess, startLio, whyNoLio } from '#testkit/lio.ts';
import { isAlive } from '#testkit/proc-stat.ts';
import { describeUnless } from '#testkit/requires.ts';
import { formatAddress } from '#wire/network.ts';
import {
  failureOf,
  readThrough,
  sessionOptions,
  withSession,
  writeAndRead,
} from './real-session.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const TIB = 1024 * 1024 * MIB;

describeUnless(await whyNoLio(), 'the initiator against LIO', () => {
  let lio: Lio;

  beforeAll(async () => {
    lio = await startLio({
      portals: 2,
      groups: [{ portals: [0] }, { portals: [1] }],
      alua: true,
      luns: [
        { sizeBytes: 64 * MIB },
        { sizeBytes: 3 * TIB, blockBytes: 4 * KIB, attributes: { emulate_tpu: 1 }, cached: true },
      ],
    });
  });

  afterAll(async () => {
    await lio?.stop();
    if (lio !== undefined) expect(isAlive(lio.pid)).toBe(false);
  });

  const options = (portal: number, slot: number) =>
    sessionOptions({ portals: [lio.portals[portal]!], targetName: lio.targetName }, slot);

  test('discovery lists both portal groups, with addresses behind the translation', async () => {
    const found = await discover(options(0, 1));
    expect(found.map(({ name }) => name)).toEqual([lio.targetName]);
    const portals = found[0]!.portals.map(({ address, tpgt }) => [formatAddress(address), tpgt]);
    expect(portals).toEqual(lio.guestPortals.map((portal, index) => [portal, index + 1]));
  });

  test('what is written through one portal group is read through the other', async () => {
    const sizes = [512, 4 * KIB, 7 * 512, 64 * KIB, 257 * KIB, 2 * MIB, MIB + 512];
    await withSession(options(0, 1), async (first) => {
      expect(first.remoteTpgt).toBe(1);
      const written = await writeAndRead(first, 0, sizes, 1);
      await withSession(options(1, 1), async (second) => {
        expect(second.remoteTpgt).toBe(2);
        await readThrough(second, 0, written);
      });
    });
  });

  test('LUNs have their identity, size and abilities, beyond 2 TiB too', async () => {
    await withSession(options(0, 1), async (session) => {
      const small = await attachLun(session, lunFromNumber(0));
      expect(small.identity).toMatchObject({ vendor: 'LIO-ORG', product: 'FILEIO' });
      expect(small.caps).toMatchObject({ sizeBytes: 64 * MIB, blockBytes: 512 });
      const large = await attachLun(session, lunFromNumber(1));
      expect(large.caps).toMatchObject({
        ...{ sizeBytes: 3 * TIB, blockBytes: 4 * KIB, trim: true, volatileCache: true },
      });
      const end = Buffer.alloc(4 * KIB, 0xa5);
      await large.write(3 * TIB - end.length, end, 0, NO_DEADLINE);
      const into = Buffer.alloc(end.length);
      await large.read(3 * TIB - end.length, into, NO_DEADLINE);
      expect(into.equals(end)).toBe(true);
    });
  });

  test('a target port group can change its state, and refuses I/O while it is unavailable', async () => {
    await lio.setAccess(LioAccess.Unavailable, 2);
    await withSession(options(1, 2), async (session) => {
      const error = await failureOf(attachLun(session, lunFromNumber(0)));
      expect(error.describe()).toMatch(/04\/0c|unavailable/i);
      await lio.setAccess(LioAccess.ActiveOptimized, 2);
      await (await attachLun(session, lunFromNumber(0))).probe(NO_DEADLINE);
    });
  });

  test('CHAP, discovery and parameters can be changed between logins', async () => {
    const chap = { user: 'alice', password: 'alice-has-a-secret' };
    await lio.configure({ chap, parameters: { HeaderDigest: 'CRC32C' } });
    await lio.configureDiscovery(chap);
    // Without a word: it closes the connection.
    const refused = await failureOf(openSession(options(0, 1)));
    expect(refused.describe()).toMatch(/closed the connection, during the login/);
    const authentication = {
      user: chap.user,
      secret: new Secret(chap.password),
      challenges: new IssuedChallenges(),
    };
    const found = await discover({ ...options(0, 1), rng: systemRng, authentication });
    expect(found).toHaveLength(1);
    const wanted = { HeaderDigest: 'CRC32C', DataDigest: 'None' };
    await withSession({ ...options(0, 1), authentication, params: wanted }, async (session) => {
      expect(session.login.params).toMatchObject(wanted);
    });
    await lio.configure({ chap: null, parameters: { HeaderDigest: 'CRC32C,None' } });
    await lio.configureDiscovery(null);
    await withSession(options(0, 1), async (session) => {
      expect(session.login.params.HeaderDigest).toBe('None');
    });
  });

  test('a script that fails is told with what it said', async () => {
    await expect(lio.run('echo before; cat /nowhere')).rejects.toThrow(
      /exit status 1[\s\S]*before/,
    );
    expect((await lio.run("echo 'a\\b'")).trim()).toBe('a\\b');
  });
});
