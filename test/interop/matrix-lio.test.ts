import { afterAll, beforeAll } from 'vitest';
import { type Lio, startLio, whyNoLio } from '#testkit/lio.ts';
import { describeUnless } from '#testkit/requires.ts';
import { type ChapKind, matrixTests, OURS, THEIRS } from './matrix.ts';

const MIB = 1024 * 1024;

describeUnless(await whyNoLio(), 'every combination with LIO', () => {
  const common = {
    attributes: { default_erl: 2 },
    parameters: {
      ...{ InitialR2T: 'No', ImmediateData: 'Yes', MaxConnections: 4, ErrorRecoveryLevel: 2 },
      ...{ HeaderDigest: 'CRC32C,None', DataDigest: 'CRC32C,None' },
      ...{ MaxRecvDataSegmentLength: 262144, MaxOutstandingR2T: 4 },
    },
  };
  let lio: Lio;

  beforeAll(async () => {
    lio = await startLio({
      portals: 3,
      luns: [{ sizeBytes: 16 * MIB }],
      groups: [
        { ...common, portals: [0] },
        { ...common, portals: [1], chap: OURS },
        { ...common, portals: [2], chap: OURS, chapOutgoing: THEIRS },
      ],
    });
  });

  afterAll(async () => {
    await lio?.stop();
  });

  const target = (chap: ChapKind) => {
    const portal = chap === 'none' ? 0 : chap === 'one-way' ? 1 : 2;
    return { portals: [lio.portals[portal]!], targetName: lio.targetName };
  };

  matrixTests('LIO', {
    chap: ['none', 'one-way', 'mutual', 'sha256', 'sha1', 'sha3-256'],
    initialR2T: [true, false],
    connections: [1, 4],
    levels: [0, 1, 2],
    rows: 338,
    lun: 0,
    target,
    notOffered: [],
    avoided: [
      {
        row: { connections: 4, initialR2T: false, immediateData: false },
        reason: 'data of a command that waits for one of another connection end the connection',
      },
    ],
  });
});
