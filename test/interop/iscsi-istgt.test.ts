import { afterAll, beforeAll, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { IssuedChallenges } from '#iscsi/chap-challenges.ts';
import { discover } from '#iscsi/discovery.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { Secret } from '#security/secret.ts';
import { type Istgt, startIstgt } from '#testkit/istgt.ts';
import { describeWith } from '#testkit/requires.ts';
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

describeWith(['istgt'], 'the initiator against istgt', () => {
  let istgt: Istgt;
  const chap = { user: 'alice', password: 'alice-has-a-secret' };

  beforeAll(async () => {
    istgt = await startIstgt({
      portals: 2,
      targets: [{ luns: [64 * MIB, 8 * MIB] }, { chap }, { luns: [8 * MIB], blockBytes: 4 * KIB }],
    });
  });

  afterAll(async () => {
    await istgt?.stop();
  });

  const options = (target: number, slot: number) =>
    sessionOptions({ portals: istgt.portals, targetName: istgt.targetNames[target]! }, slot);

  test('discovery lists all targets with both portals', async () => {
    const found = await discover(options(0, 1));
    expect(found.map(({ name }) => name)).toEqual(istgt.targetNames);
    for (const { portals } of found) {
      expect(portals.map(({ address }) => formatAddress(address))).toEqual(istgt.portals);
    }
  });

  test('what is written through one session is read through another', async () => {
    const sizes = [512, 4 * KIB, 7 * 512, 64 * KIB, 257 * KIB, 2 * MIB, MIB + 512];
    await withSession(options(0, 1), async (first) => {
      const written = await writeAndRead(first, 0, sizes, 1);
      await withSession(options(0, 2), (second) => readThrough(second, 0, written));
    });
  });

  test('LUNs have their identity, size and block length', async () => {
    await withSession(options(0, 1), async (session) => {
      for (const [number, sizeBytes] of [64 * MIB, 8 * MIB].entries()) {
        const lun = await attachLun(session, lunFromNumber(number));
        expect(lun.caps).toMatchObject({ sizeBytes, blockBytes: 512 });
        expect(lun.identity.vendor).toBe('istgt');
      }
    });
    await withSession(options(2, 1), async (session) => {
      const lun = await attachLun(session, lunFromNumber(0));
      expect(lun.caps).toMatchObject({ sizeBytes: 8 * MIB, blockBytes: 4 * KIB });
    });
  });

  test('a target with CHAP takes who knows the secret', async () => {
    // It rejects the method instead of ending the login by a status.
    expect((await failureOf(openSession(options(1, 1)))).describe()).toMatch(
      /none of the authentication methods/,
    );
    const authentication = {
      user: chap.user,
      secret: new Secret(chap.password),
      challenges: new IssuedChallenges(),
    };
    await withSession({ ...options(1, 1), authentication }, async (session) => {
      await (await attachLun(session, lunFromNumber(0))).probe(NO_DEADLINE);
    });
  });

  test('it is killed and started anew on the same ports and files', async () => {
    const session = await openSession(options(0, 3));
    const written = await writeAndRead(session, 0, [64 * KIB], 7);
    const closed = new Promise((resolve) => session.onClosed(resolve));
    await istgt.restart();
    await closed;
    await withSession(options(0, 3), (next) => readThrough(next, 0, written));
  });
});
