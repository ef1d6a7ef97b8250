import { afterAll, beforeAll } from 'vitest';
import { type Istgt, startIstgt } from '#testkit/istgt.ts';
import { describeWith } from '#testkit/requires.ts';
import { type ChapKind, matrixTests, OURS, THEIRS } from './matrix.ts';

const MIB = 1024 * 1024;

/** Each login takes istgt a second of sleep, in which no other can begin: several daemons, side by side. */
const LANES = 4;

describeWith(['istgt'], 'every combination with istgt', () => {
  let lanes: Istgt[];

  const start = () =>
    startIstgt({
      parameters: { MaxConnections: 4 },
      targets: [
        { luns: [16 * MIB] },
        { luns: [16 * MIB], chap: OURS },
        { luns: [16 * MIB], chap: OURS, chapOutgoing: THEIRS },
      ],
    });

  beforeAll(async () => {
    lanes = await Promise.all(Array.from({ length: LANES }, start));
  });

  afterAll(async () => {
    for (const istgt of lanes ?? []) await istgt.stop();
  });

  const target = (chap: ChapKind, lane: number) => {
    const { portals, targetNames } = lanes[lane]!;
    return { portals, targetName: targetNames[chap === 'none' ? 0 : chap === 'one-way' ? 1 : 2]! };
  };

  const md5 = { reason: 'it has MD5 only', agreed: { chap: 'mutual' } } as const;
  const level = { reason: 'its configuration refuses it', agreed: { level: 0 } } as const;

  matrixTests('istgt', {
    chap: ['none', 'one-way', 'mutual'],
    initialR2T: [true],
    connections: [1, 4],
    levels: [0],
    rows: 48,
    lun: 0,
    lanes: LANES,
    target,
    notOffered: [
      { row: { chap: 'sha256' }, ...md5 },
      { row: { chap: 'sha1' }, ...md5 },
      { row: { chap: 'sha3-256' }, ...md5 },
      {
        row: { initialR2T: false },
        reason: 'its configuration refuses it',
        agreed: { initialR2T: true },
      },
      { row: { level: 1 }, ...level },
      { row: { level: 2 }, ...level },
    ],
  });
});
