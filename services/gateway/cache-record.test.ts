import { expect, test } from 'vitest';
import { busErrors } from '#bus/errors.ts';
import type { VolumeRecord } from '#contracts/records.ts';
import { CAPS, VolumeRig } from '#multipath/testing/volume-rig.ts';
import { createLogger } from '#telemetry/log.ts';
import { CacheRecord } from './cache-record.ts';
import type { Ownership } from './ownership.ts';

const log = createLogger({ level: 'silent', pretty: false, name: 'test' });

function cacheRecord(change: (apply: (record: VolumeRecord) => VolumeRecord) => Promise<void>) {
  return new CacheRecord({ change } as unknown as Ownership, log);
}

test('a cache that was found stands in the record before anything else is acknowledged', async () => {
  let record = { slots: [{ slot: 0, state: 'assigned' }] } as unknown as VolumeRecord;
  const cache = cacheRecord(async (apply) => {
    record = apply(record);
  });
  const caps = { ...CAPS, volatileCache: false };
  const rig = new VolumeRig({ caps, onCacheFound: () => cache.found(rig.volume) });
  const path = rig.add(0, caps);
  path.cacheSwitchedOn();
  const write = rig.write();
  path.take().resolve();
  await rig.settle();
  expect(write.state).toBe('ok');
  expect(record).toMatchObject({ cache: 'dirty', slots: [{ witness: true }] });
  await rig.volume.close();
});

test('writes go on when the bus cannot be reached to note a cache', async () => {
  const cache = cacheRecord(async () => {
    throw busErrors.make('BUS_TIMEOUT');
  });
  const caps = { ...CAPS, volatileCache: false };
  const rig = new VolumeRig({ caps, onCacheFound: () => cache.found(rig.volume) });
  const path = rig.add(0, caps);
  path.cacheSwitchedOn();
  const write = rig.write();
  path.take().resolve();
  await rig.settle();
  expect(write.state).toBe('ok');
  await rig.volume.close();
});
