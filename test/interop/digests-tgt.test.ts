import { afterAll, beforeAll, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { systemClock } from '#core/clock.ts';
import { isOrionError } from '#core/errors.ts';
import { seededRng, systemRng } from '#core/rng.ts';
import { makeIsid } from '#iscsi/isid.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { parseAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';

const KIB = 1024;

const NAMES = ['None', 'CRC32C'] as const;
const COMBINATIONS = NAMES.flatMap((header) => NAMES.map((data) => [header, data] as const));

describeWith(['tgtd'], 'digests against tgtd', () => {
  let able: Tgtd;
  let unable: Tgtd;
  const open: IscsiSession[] = [];

  beforeAll(async () => {
    const params = { HeaderDigest: 'CRC32C,None', DataDigest: 'CRC32C,None' };
    able = await startTgtd({ params });
    unable = await startTgtd();
  });

  afterAll(async () => {
    for (const session of open) session.destroy(new Error('the test is over'));
    await able?.stop();
    await unable?.stop();
  });

  const login = async (
    tgtd: Tgtd,
    HeaderDigest: string,
    DataDigest: string,
    slot = 0,
  ): Promise<IscsiSession> => {
    const session = await openSession({
      network: nodeNetwork,
      clock: systemClock,
      rng: systemRng,
      portals: tgtd.portals.map((portal) => parseAddress(portal)!),
      targetName: tgtd.targetName,
      initiatorName: 'iqn.2026-11.lab:initiator',
      isid: makeIsid('digests', tgtd.targetName, slot),
      params: { HeaderDigest, DataDigest },
    });
    open.push(session);
    return session;
  };

  test.each(COMBINATIONS)(
    'HeaderDigest=%s and DataDigest=%s carry reads and writes of all sizes',
    async (header, data) => {
      const session = await login(able, header, data);
      expect(session.login.params).toMatchObject({ HeaderDigest: header, DataDigest: data });
      const lun = await attachLun(session, lunFromNumber(1));
      const rng = seededRng(11);
      const sizes = [512, 4 * KIB, 7 * 512, 64 * KIB, 257 * KIB, 2048 * KIB, 1024 * KIB + 512];
      // Together, so that PDUs of all lengths stand in one stream.
      await Promise.all(
        sizes.map(async (bytes, at) => {
          const offset = at * 4096 * KIB;
          for (let round = 0; round < 4; round++) {
            const from = Buffer.alloc(bytes);
            rng.fill(from);
            await lun.write(offset, from, 0, NO_DEADLINE);
            const into = Buffer.alloc(bytes);
            await lun.read(offset, into, NO_DEADLINE);
            expect(into.equals(from)).toBe(true);
          }
        }),
      );
      expect(session.state).toBe('open');
      await session.logout({ timeoutMs: 5000 });
    },
  );

  test('a preference is given up where tgtd has none, an insistence ends the login', async () => {
    const session = await login(unable, 'CRC32C,None', 'CRC32C,None', 1);
    expect(session.login.params).toMatchObject({ HeaderDigest: 'None', DataDigest: 'None' });
    await attachLun(session, lunFromNumber(1));
    const error = await login(unable, 'CRC32C', 'None', 2).catch((reason: unknown) => reason);
    expect(isOrionError(error) && error.code).toBe('ISCSI_LOGIN_FAILED');
  });
});
