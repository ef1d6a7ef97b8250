import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Lio, startLio, whyNoLio } from '#testkit/lio.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { describeUnless, missingReason } from '#testkit/requires.ts';
import { pathsReady, unnoticed } from './up-load.ts';

const MIB = 1024 * 1024;
const FIO_BYTES = 12 * MIB;

const reason = missingReason(['nats-server', 'fio']) ?? (await whyNoLio());

describeUnless(reason, 'orion-iscsi up on LIO, with digests', () => {
  let lio: Lio;
  let orion: Orion;

  beforeAll(async () => {
    lio = await startLio({
      portals: 2,
      // What we insist on, and nothing else.
      groups: [{ parameters: { HeaderDigest: 'CRC32C', DataDigest: 'CRC32C' } }],
      luns: [{ sizeBytes: 16 * MIB }],
    });
    orion = await startOrion({
      portals: lio.portals,
      targetName: lio.targetName,
      lun: 0,
      target: 'header_digest = "crc32c"\ndata_digest = "crc32c"',
    });
    await pathsReady(orion, 2);
  });

  afterAll(async () => {
    await orion?.stop();
    await lio?.stop();
  });

  test('a worker is killed under load: nothing is lost, and its path comes back', async () => {
    const victim = await orion.pid('n1-w0');
    const stallMs = await unnoticed({ orion, fioBytes: FIO_BYTES, rateIops: 400 }, async () => {
      process.kill(victim, 'SIGKILL');
    });
    console.log(`LIO, worker killed: longest write of a client took ${stallMs} ms`);
    await pathsReady(orion, 2);
    expect(await orion.pid('n1-w0')).not.toBe(victim);
  });
});
