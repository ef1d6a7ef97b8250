import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Istgt, startIstgt } from '#testkit/istgt.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { describeWith } from '#testkit/requires.ts';
import { pathsReady, unnoticed } from './up-load.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 48 * MIB;
const FIO_BYTES = 32 * MIB;

describeWith(['istgt', 'nats-server', 'fio'], 'orion-iscsi up on istgt, with digests', () => {
  let istgt: Istgt;
  let orion: Orion;

  beforeAll(async () => {
    istgt = await startIstgt({
      portals: 2,
      targets: [{ luns: [SIZE_BYTES], parameters: { UseDigest: 'Header Data' } }],
    });
    orion = await startOrion({
      portals: istgt.portals,
      targetName: istgt.targetName,
      lun: 0,
      target: 'header_digest = "crc32c"\ndata_digest = "crc32c"',
    });
    await pathsReady(orion, 2);
  });

  afterAll(async () => {
    await orion?.stop();
    await istgt?.stop();
  });

  test('a worker is killed under load: nothing is lost, and its path comes back', async () => {
    const victim = await orion.pid('n1-w0');
    const stallMs = await unnoticed({ orion, fioBytes: FIO_BYTES, rateIops: 2000 }, async () => {
      process.kill(victim, 'SIGKILL');
    });
    console.log(`istgt, worker killed: longest write of a client took ${stallMs} ms`);
    await pathsReady(orion, 2);
    expect(await orion.pid('n1-w0')).not.toBe(victim);
  });
});
