import { beforeEach, describe, expect, test } from 'vitest';
import type { KeyValue } from '#bus/bus.ts';
import { MemoryBusHub } from '#bus/memory/hub.ts';
import type { Member } from '#cluster/membership.ts';
import type { VolumePlan } from '#config/derive.ts';
import type { VolumeRecord } from '#contracts/records.ts';
import { volumeKey } from '#contracts/subjects.ts';
import { seededRng } from '#core/rng.ts';
import { createLogger } from '#telemetry/log.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { Registry } from './registry.ts';

let clock: VirtualClock;
let hub: MemoryBusHub;
let kv: KeyValue;

const gateway = (id: string, incarnation = `${id}-1`): Member =>
  ({ role: 'gateway', id, incarnation, node: 'n1', state: 'alive' }) as unknown as Member;
const PLANS = plans('iqn.2026-11.lab:disk1');

function plans(target: string): VolumePlan[] {
  return [
    {
      volume: { name: 'v' },
      target,
      initiatorName: 'iqn.2026-11.lab:me',
      lun: '0001000000000000',
      portals: ['127.0.0.1:3260', '127.0.0.1:3261'],
    } as unknown as VolumePlan,
  ];
}

const log = createLogger({ level: 'silent', pretty: false, name: 'test' });
const during = <T>(promise: Promise<T>): Promise<T> => clock.during(promise, 60_000);
const registry = (of = PLANS) => new Registry({ kv, plans: of, clock, log });

async function record(): Promise<VolumeRecord> {
  const entry = await during(kv.get(volumeKey('v')));
  return entry!.value as VolumeRecord;
}

/** What the owner of the volume writes. */
async function owner(change: Partial<VolumeRecord>): Promise<void> {
  const entry = await during(kv.get(volumeKey('v')));
  await during(
    kv.update(volumeKey('v'), { ...(entry!.value as VolumeRecord), ...change }, entry!.revision),
  );
}

beforeEach(async () => {
  clock = new VirtualClock();
  hub = new MemoryBusHub({ clock, rng: seededRng(3), kvTimeoutMs: 3000 });
  kv = await during(hub.connect('c').keyValue('orion'));
});

describe('a volume without an owner', () => {
  test('gets one that lives, and keeps it while that one does', async () => {
    const own = registry();
    await during(own.round([]));
    expect(await during(kv.get(volumeKey('v')))).toBeNull();
    await during(own.round([gateway('g0')]));
    const first = await record();
    expect(first).toMatchObject({ owner: 'g0', ownerIncarnation: 'g0-1', state: 'sealing' });
    expect(first.slots.map(({ state, incarnation }) => `${state} ${incarnation}`)).toEqual([
      'fencing 0',
      'fencing 0',
    ]);
    expect(first.cache).toBeUndefined();
    await during(own.round([gateway('g0'), gateway('g1')]));
    expect(await record()).toEqual(first);
  });

  test.each([
    ['another gateway', [gateway('g1')]],
    ['another process of the same gateway', [gateway('g0', 'g0-2')]],
  ])('goes to %s in a newer epoch, with all that its record says', async (_, living) => {
    const own = registry();
    await during(own.round([gateway('g0')]));
    await owner({ cache: 'dirty', wwid: 'naa:1', state: 'active' });
    const before = await record();
    await during(own.round(living));
    const after = await record();
    expect(after).toMatchObject({ cache: 'dirty', wwid: 'naa:1', state: 'sealing' });
    expect(after.ownerIncarnation).toBe(living[0]!.incarnation);
    expect(after.epoch).toBe(before.epoch + 1);
    expect(after.slots.map(({ slot }) => slot)).toEqual(before.slots.map(({ slot }) => slot));
  });
});

describe('a record that is lost with the store of the bus', () => {
  test.each([
    ['was only just written', {}, 'dirty'],
    ['said that there are unflushed writes', { cache: 'dirty' }, 'dirty'],
    ['said that writes may be gone', { cache: 'lost' }, 'lost'],
  ] as const)(
    'and %s is made anew with a cache that nobody vouches for',
    async (_, change, cache) => {
      const own = registry();
      await during(own.round([gateway('g0')]));
      const { epoch } = await record();
      if (Object.keys(change).length > 0) {
        await owner(change);
        await during(own.round([gateway('g0')]));
      }
      hub.wipe();
      await clock.advance(2_000);
      await during(own.round([gateway('g1')]));
      const made = await record();
      expect(made.cache).toBe(cache);
      expect(made.slots.some(({ witness }) => witness === true)).toBe(false);
      expect(made.epoch).toBeGreaterThan(epoch);
    },
  );

  test('is remembered by a coordinator that did not lead when it was there', async () => {
    await during(registry().round([gateway('g0')]));
    const other = registry();
    await during(other.look());
    hub.wipe();
    await clock.advance(2_000);
    await during(other.round([gateway('g0')]));
    expect((await record()).cache).toBe('dirty');
  });

  test('says nothing of another unit', async () => {
    const configured = [...PLANS];
    const own = registry(configured);
    await during(own.round([gateway('g0')]));
    configured.splice(0, 1, ...plans('iqn.2026-11.lab:disk2'));
    hub.wipe();
    await clock.advance(2_000);
    await during(own.round([gateway('g0')]));
    expect((await record()).cache).toBeUndefined();
  });
});
