import { expect, test } from 'vitest';
import type { VolumeRecord } from '#contracts/records.ts';
import { createLogger } from '#telemetry/log.ts';
import { CacheRecord } from './cache-record.ts';
import type { Ownership } from './ownership.ts';
import { Takeover } from './takeover.ts';
import type { Workers } from './workers.ts';

/** A takeover of a record that nobody has used yet, while no worker can be asked. */
async function takeOverNew(knownHere: boolean): Promise<VolumeRecord['cache']> {
  const slot = { slot: 0, portal: 'p', worker: '', incarnation: 0, tpgt: -1, state: 'fencing' };
  const record = { name: 'v', epoch: 1, slots: [slot] } as unknown as VolumeRecord;
  const owned = {
    record,
    epoch: 1,
    isNew: true,
    change: async (apply: (record: VolumeRecord) => VolumeRecord) => {
      owned.record = apply(owned.record);
    },
  };
  const ownership = owned as unknown as Ownership;
  const log = createLogger({ level: 'silent', pretty: false, name: 'test' });
  const takeover = new Takeover({
    ownership,
    workers: { alive: () => [] } as unknown as Workers,
    log,
    mayReset: true,
    knownHere,
    cache: new CacheRecord(ownership, log),
    recover: () => {},
    onVouched: () => {},
    onOver: () => {},
  });
  await takeover.begin();
  expect(takeover.inheritsLoss).toBe(knownHere);
  return ownership.record.cache;
}

test('a record that is new to a volume served here before stands for one that was lost, and so does its cache', async () => {
  expect(await takeOverNew(true)).toBe('lost');
});

test('a volume that is new has nothing to lose', async () => {
  expect(await takeOverNew(false)).toBeUndefined();
});
