import { describe, expect, test } from 'vitest';
import type { KeyValue } from '../bus/bus.ts';
import { busErrors } from '../bus/errors.ts';
import { MemoryBusHub, SERVER } from '../bus/memory/hub.ts';
import { intBetween, pick, seededRng } from '../core/rng.ts';
import { ProcessClock, VirtualClock } from '../testkit/virtual-clock.ts';
import { Lease } from './lease.ts';
import {
  begin,
  decide,
  judge,
  learn,
  NO_MEMORY,
  renewal,
  renewalSent,
  renewed,
} from './lease-core.ts';

const KEY = 'lease.coordinator';

class Contender {
  readonly name: string;
  readonly clock: ProcessClock;
  readonly log: string[] = [];
  readonly lease: Lease;

  constructor(
    name: string,
    kv: KeyValue,
    clock: VirtualClock,
    onAcquired?: (epoch: number) => void,
  ) {
    this.name = name;
    this.clock = new ProcessClock(clock);
    this.lease = new Lease({
      kv,
      key: KEY,
      holder: name,
      incarnation: `${name}-1`,
      clock: this.clock,
      onAcquired: (epoch) => {
        this.log.push(`acquired ${epoch}`);
        onAcquired?.(epoch);
      },
      onLost: (cause) => this.log.push(`lost ${cause}`),
      onAlarm: (alarm) => this.log.push(`alarm ${alarm}`),
    });
  }
}

async function setUp(names: string[] = ['a', 'b'], seed = 1) {
  const clock = new VirtualClock();
  const hub = new MemoryBusHub({ clock, rng: seededRng(seed), kvTimeoutMs: 3000 });
  const epochs: number[] = [];
  const contenders = [];
  for (const name of names) {
    const kv = await hub.connect(name).keyValue('orion');
    contenders.push(new Contender(name, kv, clock, (epoch) => epochs.push(epoch)));
  }
  const observer = await hub.connect('observer').keyValue('orion');
  const [a, b] = contenders as [Contender, Contender];
  return { clock, hub, contenders, a, b, observer, epochs };
}

describe('lease', () => {
  test('one of two gets it, and keeps it for as long as it renews', async () => {
    const { clock, a, b } = await setUp();
    a.lease.start();
    b.lease.start();
    await clock.advance(60_000);
    expect([a.lease.held, b.lease.held].filter(Boolean)).toHaveLength(1);
    expect([...a.log, ...b.log]).toEqual(['acquired 1']);
    expect(a.lease.epoch + b.lease.epoch).toBe(1);
  });

  test('stop lets the other have it at once, under a higher epoch', async () => {
    const { clock, a, b } = await setUp();
    a.lease.start();
    await clock.advance(100);
    b.lease.start();
    await clock.advance(100);
    await a.lease.stop();
    expect(a.log).toEqual(['acquired 1', 'lost stopped']);
    await clock.advance(10);
    expect(b.log).toEqual(['acquired 2']);
  });

  test('a holder that is cut off stops first; the other takes over after lease and margin', async () => {
    const { clock, hub, a, b } = await setUp();
    a.lease.start();
    await clock.advance(100);
    b.lease.start();
    await clock.advance(10_000);
    hub.partition([['a']]);
    const cutAt = clock.nowMs();
    await clock.runUntil(() => !a.lease.held, 10_000);
    expect(clock.nowMs() - cutAt).toBeLessThanOrEqual(5000);
    expect(b.lease.held).toBe(false);
    await clock.runUntil(() => b.lease.held, 10_000);
    expect(clock.nowMs() - cutAt).toBeLessThanOrEqual(7000 + 2000 + 100);
    expect(a.log).toEqual(['acquired 1', 'lost expired']);
    expect(b.log).toEqual(['acquired 2']);
    hub.heal();
    await clock.advance(20_000);
    expect(a.lease.held).toBe(false);
    expect(b.log).toEqual(['acquired 2']);
  });

  test('nobody can take over while the store is away, and the holder stops in time', async () => {
    const { clock, hub, a, b } = await setUp();
    a.lease.start();
    await clock.advance(100);
    b.lease.start();
    await clock.advance(5000);
    hub.serverDown();
    await clock.advance(60_000);
    expect(a.log).toEqual(['acquired 1', 'lost expired']);
    expect(b.log).toEqual([]);
    hub.serverUp();
    await clock.runUntil(() => a.lease.held || b.lease.held, 8000);
  });

  test('a short outage of the store costs nothing', async () => {
    const { clock, hub, a } = await setUp();
    a.lease.start();
    await clock.advance(10_000);
    hub.serverDown();
    await clock.advance(2000);
    hub.serverUp();
    await clock.advance(60_000);
    expect(a.log).toEqual(['acquired 1']);
    expect(a.lease.held).toBe(true);
  });

  test('a renewal whose answer was lost is recognised by its number and adopted', async () => {
    const { clock, observer } = await setUp();
    let toLose = 0;
    const kv: KeyValue = {
      incarnation: observer.incarnation,
      get: (key) => observer.get(key),
      create: (key, value) => observer.create(key, value),
      delete: (key) => observer.delete(key),
      keys: (prefix) => observer.keys(prefix),
      watch: (prefix, handler) => observer.watch(prefix, handler),
      async update(key, value, revision) {
        const updated = await observer.update(key, value, revision);
        if (toLose === 0) return updated;
        toLose -= 1;
        throw busErrors.make('BUS_TIMEOUT');
      },
    };
    const x = new Contender('x', kv, clock);
    x.lease.start();
    await clock.advance(1000);
    toLose = 3;
    await clock.advance(30_000);
    expect(toLose).toBe(0);
    expect(x.log).toEqual(['acquired 1']);
    expect(x.lease.held).toBe(true);
  });

  test('a stopped process does not believe that it still holds when it wakes', async () => {
    const { clock, hub, a, b } = await setUp();
    a.lease.start();
    await clock.advance(100);
    b.lease.start();
    await clock.advance(5000);
    a.clock.freeze();
    hub.partition([['a']]);
    await clock.advance(1800);
    expect(a.lease.held).toBe(false);
    await clock.runUntil(() => b.lease.held, 10_000);
    hub.heal();
    a.clock.thaw();
    expect(a.lease.held).toBe(false);
    await clock.advance(30_000);
    expect(a.log).toEqual(['acquired 1', 'lost stalled']);
    expect(b.log).toEqual(['acquired 2']);
  });

  test('a machine that slept gives it up, although its monotonic clock saw nothing', async () => {
    const { clock, a, b } = await setUp();
    a.lease.start();
    await clock.advance(100);
    a.clock.jumpWall(5000);
    expect(a.lease.held).toBe(false);
    await clock.advance(300);
    expect(a.log[1]).toBe('lost clock-jump');
    b.lease.start();
    await clock.advance(20_000);
    expect([a.lease.held, b.lease.held].filter(Boolean)).toHaveLength(1);
  });

  test('a blocked event loop gives it up', async () => {
    const { clock, a } = await setUp();
    a.lease.start();
    await clock.advance(100);
    clock.stall(1500);
    expect(a.lease.held).toBe(false);
    await clock.advance(300);
    expect(a.log).toEqual(['acquired 1', 'lost stalled', 'acquired 2']);
  });

  test('lost history: the holder stops, all wait a lease and a margin, epochs do not go back', async () => {
    const { clock, hub, a, b } = await setUp();
    a.lease.start();
    await clock.advance(100);
    b.lease.start();
    await clock.advance(10_000);
    await a.lease.stop();
    await clock.advance(100);
    expect(b.log).toEqual(['acquired 2']);
    a.lease.start();
    await clock.advance(1000);
    hub.wipe();
    const wipedAt = clock.nowMs();
    await clock.runUntil(() => !b.lease.held, 3000);
    await clock.runUntil(() => a.lease.held || b.lease.held, 20_000);
    expect(clock.nowMs() - wipedAt).toBeGreaterThanOrEqual(7000);
    expect(a.log).toContain('alarm bucket-replaced');
    expect(b.log.slice(1, 3).sort()).toEqual(['alarm bucket-replaced', 'lost history-lost']);
    expect(a.lease.epoch + b.lease.epoch).toBe(3);
  });

  test('a deleted record counts as lost history', async () => {
    const { clock, a, observer } = await setUp();
    a.lease.start();
    await clock.advance(100);
    await observer.delete(KEY);
    const deletedAt = clock.nowMs();
    await clock.runUntil(() => !a.lease.held, 3000);
    await clock.runUntil(() => a.lease.held, 20_000);
    expect(clock.nowMs() - deletedAt).toBeGreaterThanOrEqual(7000);
    expect(a.lease.epoch).toBe(2);
  });

  test('a record that it cannot read is left alone, with an alarm', async () => {
    const { clock, a, observer } = await setUp();
    const revision = await observer.create(KEY, { v: 2, epoch: 41, who: 'newer' });
    a.lease.start();
    await clock.advance(60_000);
    expect(a.log).toEqual(['alarm bad-record']);
    await observer.update(
      KEY,
      { v: 1, holder: 'x', incarnation: 'released', epoch: 2, leaseMs: 6000, renewSeq: 0 },
      revision,
    );
    await clock.advance(100);
    expect(a.log).toEqual(['alarm bad-record', 'acquired 42']);
  });

  test('stop returns in time also when the store does not answer', async () => {
    const { clock, hub, a } = await setUp();
    a.lease.start();
    await clock.advance(100);
    hub.partition([[SERVER, 'b', 'observer']]);
    let stopped = false;
    void a.lease.stop().then(() => {
      stopped = true;
    });
    await clock.runUntil(() => stopped, 5000);
    expect(a.log).toEqual(['acquired 1', 'lost stopped']);
    await clock.advance(10_000);
    expect(a.lease.held).toBe(false);
  });

  test('under random partitions, loss, delay, freezes and clock jumps never two hold it, and epochs only grow', async () => {
    for (let seed = 1; seed <= 12; seed++) await ordeal(seed);
  }, 30_000);
});

describe('lease decisions', () => {
  const self = { holder: 'x', incarnation: 'x-1', leaseMs: 6000, marginMs: 1000 };
  const record = { v: 1, holder: 'x', incarnation: 'x-1', epoch: 7, leaseMs: 6000 } as const;
  const first = { ...record, renewSeq: 0 };

  test('validity counts from the moment of sending, also for a renewal found later', () => {
    const tenure = begin(first, 10, 1000, self);
    expect(tenure.validUntilMs).toBe(6000);
    const second = renewal(tenure);
    const sent = renewalSent(tenure, second, 3000);
    expect(renewed(sent, second, 11, self).validUntilMs).toBe(8000);
    const third = renewal(sent);
    expect(third.renewSeq).toBe(2);
    const both = renewalSent(sent, third, 4000);
    const entry = { key: KEY, value: second, revision: 11 };
    expect(judge(both, entry, self)).toMatchObject({ validUntilMs: 8000, revision: 11 });
    // The later one may arrive yet: it is not forgotten.
    expect(judge(both, entry, self)?.unsettled).toEqual([{ renewSeq: 2, sentMs: 4000 }]);
  });

  test("a record of another incarnation, another epoch or an unknown number is somebody else's", () => {
    const tenure = begin(first, 10, 1000, self);
    const at = (value: unknown, revision = 11) =>
      judge(tenure, { key: KEY, value, revision }, self);
    expect(at(first, 10)).toBe(tenure);
    expect(at({ ...first, incarnation: 'x-2' })).toBeNull();
    expect(at({ ...first, epoch: 8 })).toBeNull();
    expect(at({ ...first, renewSeq: 5 })).toBeNull();
    expect(at('garbage')).toBeNull();
    expect(judge(tenure, null, self)).toBeNull();
  });

  test('a foreign record is dead a lease and a margin after it was first seen unchanged', () => {
    const foreign = { ...first, holder: 'y', incarnation: 'y-1' };
    const look = (nowMs: number, revision: number) => ({
      entry: { key: KEY, value: foreign, revision },
      bucket: 'b',
      nowMs,
    });
    let { memory } = learn(NO_MEMORY, look(100, 5), self);
    expect(decide(memory, look(100, 5), self)).toEqual({ do: 'wait', ms: 7000 });
    ({ memory } = learn(memory, look(7000, 6), self));
    expect(decide(memory, look(7100, 6), self)).toEqual({ do: 'wait', ms: 6900 });
    ({ memory } = learn(memory, look(14_000, 6), self));
    expect(decide(memory, look(14_000, 6), self)).toMatchObject({
      do: 'take',
      revision: 6,
      record: { epoch: 8, renewSeq: 0, incarnation: 'x-1' },
    });
  });

  test('a revision that went back is lost history', () => {
    const at = (revision: number) => ({
      entry: { key: KEY, value: first, revision },
      bucket: 'b',
      nowMs: 0,
    });
    const { memory } = learn(NO_MEMORY, at(5), self);
    const again = learn(memory, at(4), self);
    expect(again.alarm).toBe('revision-regress');
    expect(decide(again.memory, at(4), self)).toEqual({ do: 'wait', ms: 7000 });
  });
});

async function ordeal(seed: number): Promise<void> {
  const names = ['a', 'b', 'c'];
  const { clock, hub, contenders, epochs } = await setUp(names, seed);
  const rng = seededRng(seed * 1000);
  hub.knobs.delayMs = { min: 0, max: 300 };
  hub.knobs.loss = 0.05;
  for (const contender of contenders) contender.lease.start();
  for (let step = 0; step < 120; step++) {
    const victim = pick(rng, contenders);
    const trick = intBetween(rng, 0, 9);
    if (trick === 0) hub.partition([[victim.name]]);
    if (trick === 1) hub.partition([[SERVER, victim.name]]);
    if (trick === 2) hub.heal();
    if (trick === 3) victim.clock.freeze();
    if (trick <= 5) for (const contender of contenders) contender.clock.thaw();
    if (trick === 6) victim.clock.jumpWall(intBetween(rng, -5000, 5000));
    if (trick === 7) hub.serverDown();
    if (trick >= 7) hub.serverUp();
    for (let i = 0; i < 20; i++) {
      await clock.advance(intBetween(rng, 1, 200));
      const holding = contenders.filter((contender) => contender.lease.held);
      if (holding.length > 1) {
        expect.fail(`seed ${seed}: ${holding.map((one) => one.name).join(' and ')} hold it`);
      }
    }
  }
  expect(epochs).toEqual([...new Set(epochs)].sort((x, y) => x - y));
  // Left in peace, one of them leads.
  hub.heal();
  hub.serverUp();
  hub.knobs.loss = 0;
  for (const contender of contenders) contender.clock.thaw();
  await clock.runUntil(() => contenders.some((contender) => contender.lease.held), 20_000);
}
