import { afterAll, beforeAll } from 'vitest';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { matrixTests, OURS, THEIRS } from './matrix.ts';

const MIB = 1024 * 1024;

describeWith(['tgtd'], 'every combination with tgt', () => {
  const params = {
    ...{ HeaderDigest: 'CRC32C,None', DataDigest: 'CRC32C,None' },
    ...{ InitialR2T: 'No', ImmediateData: 'Yes' },
  };
  const luns = [{ sizeBytes: 16 * MIB }];
  let open: Tgtd;
  let closed: Tgtd;

  beforeAll(async () => {
    open = await startTgtd({ params, luns });
    const chap = { chap: OURS, chapOutgoing: THEIRS };
    closed = await startTgtd({ params, luns, targetName: 'iqn.2026-11.lab:closed', ...chap });
  });

  afterAll(async () => {
    await open?.stop();
    await closed?.stop();
  });

  matrixTests('tgt', {
    chap: ['none', 'one-way', 'mutual'],
    initialR2T: [true, false],
    connections: [1],
    levels: [0],
    rows: 48,
    lun: 1,
    target: (chap) => (chap === 'none' ? open : closed),
    notOffered: [
      {
        row: { chap: 'sha256' },
        reason: 'by the number of SHA-256 it means SHA-1',
        fails: /LOGIN_REFUSED/,
      },
      { row: { chap: 'sha1' }, reason: 'it does not know the number', agreed: { chap: 'mutual' } },
      { row: { chap: 'sha3-256' }, reason: 'it has MD5 only', agreed: { chap: 'mutual' } },
      { row: { connections: 4 }, reason: 'one connection a session', agreed: { connections: 1 } },
      { row: { level: 1 }, reason: 'it recovers nothing', agreed: { level: 0 } },
      { row: { level: 2 }, reason: 'it recovers nothing', agreed: { level: 0 } },
    ],
  });
});
