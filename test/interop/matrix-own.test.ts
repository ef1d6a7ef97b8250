import { afterAll, beforeAll, describe } from 'vitest';
import { systemClock } from '#core/clock.ts';
import { systemRng } from '#core/rng.ts';
import { startTarget, type Target } from '#target/target.ts';
import { formatAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { type ChapKind, matrixTests, OURS, THEIRS } from './matrix.ts';

const MIB = 1024 * 1024;

describe('every combination with the target of our own', () => {
  const targets = new Map<ChapKind, Target>();

  const start = (name: string, chap: object) =>
    startTarget({
      ...{ network: nodeNetwork, clock: systemClock, rng: systemRng },
      targetName: `iqn.2026-11.lab:${name}`,
      portals: [{ address: { kind: 'tcp', host: '127.0.0.1', port: 0 } }],
      luns: [{ lun: 0, sizeBytes: 16 * MIB }],
      params: {
        ...{ headerDigest: 'CRC32C,None', dataDigest: 'CRC32C,None' },
        ...{ maxConnections: 4, errorRecoveryLevel: 2 },
      },
      ...chap,
    });

  beforeAll(async () => {
    const account = { user: OURS.user, secret: OURS.password };
    const mutual = { user: THEIRS.user, secret: THEIRS.password };
    targets.set('none', await start('open', {}));
    targets.set('one-way', await start('closed', { chap: account }));
    targets.set('mutual', await start('both', { chap: { ...account, mutual } }));
  });

  afterAll(async () => {
    for (const target of targets.values()) await target.close();
  });

  const target = (chap: ChapKind) => {
    const found = targets.get(chap) ?? targets.get('mutual')!;
    return { portals: found.addresses.map(formatAddress), targetName: found.name };
  };

  matrixTests('own', {
    chap: ['none', 'one-way', 'mutual', 'sha256', 'sha1', 'sha3-256'],
    initialR2T: [true, false],
    connections: [1, 4],
    levels: [0, 1, 2],
    rows: 386,
    lun: 0,
    target,
    notOffered: [],
  });
});
