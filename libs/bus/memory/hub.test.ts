import { describe, expect, test } from 'vitest';
import { systemClock } from '../../core/clock.ts';
import { seededRng } from '../../core/rng.ts';
import { VirtualClock } from '../../testkit/virtual-clock.ts';
import { busContract, codeOf } from '../contract.ts';
import { MemoryBusHub, type MemoryBusKnobs, SERVER } from './hub.ts';

for (const delayMs of [
  { min: 0, max: 0 },
  { min: 0, max: 2 },
]) {
  busContract(`memory, ${delayMs.max} ms`, async () => {
    const hub = new MemoryBusHub({ clock: systemClock, rng: seededRng(1), knobs: { delayMs } });
    const a = hub.connect('a');
    const b = hub.connect('b');
    return {
      a,
      b,
      serverDown: async () => hub.serverDown(),
      serverUp: async () => hub.serverUp(),
      serverWiped: async () => hub.wipe(),
      close: async () => {
        await a.close();
        await b.close();
      },
    };
  });
}

function setUp(knobs: Partial<MemoryBusKnobs> = {}, seed = 1) {
  const clock = new VirtualClock();
  const hub = new MemoryBusHub({ clock, rng: seededRng(seed), knobs });
  return { clock, hub, a: hub.connect('a'), b: hub.connect('b') };
}

describe('memory bus knobs', () => {
  test('delivery is asynchronous even with no delay', async () => {
    const { clock, a, b } = setUp();
    const got: unknown[] = [];
    b.subscribe('x', ({ data }) => got.push(data));
    a.publish('x', 1);
    expect(got).toEqual([]);
    await clock.settle();
    expect(got).toEqual([1]);
  });

  test('delay holds messages back and keeps their order', async () => {
    const { clock, a, b } = setUp({ delayMs: { min: 5, max: 50 } });
    const got: unknown[] = [];
    b.subscribe('x', ({ data }) => got.push(data));
    for (let i = 0; i < 50; i++) a.publish('x', i);
    await clock.advance(4);
    expect(got).toEqual([]);
    await clock.advance(50);
    expect(got).toEqual(Array.from({ length: 50 }, (_, i) => i));
  });

  test('the same seed loses and repeats the same messages', async () => {
    const run = async (): Promise<unknown[]> => {
      const { clock, a, b } = setUp({ loss: 0.3, duplication: 0.3 }, 7);
      const got: unknown[] = [];
      b.subscribe('x', ({ data }) => got.push(data));
      for (let i = 0; i < 200; i++) a.publish('x', i);
      await clock.settle();
      return got;
    };
    const first = await run();
    expect(await run()).toEqual(first);
    const distinct = new Set(first).size;
    expect(distinct).toBeGreaterThan(100);
    expect(distinct).toBeLessThan(200);
    expect(first.length).toBeGreaterThan(distinct);
  });

  test('a partition is silent: requests time out, and the buckets stay with one side', async () => {
    const { clock, hub, a, b } = setUp();
    b.serve('ask', async () => 'yes');
    const kvA = await a.keyValue('k');
    const kvB = await b.keyValue('k');
    await kvA.create('key', 1);
    hub.partition([['a', SERVER]]);
    expect(b.status).toBe('connected');
    const asked = codeOf(a.request('ask', 1, { timeoutMs: 100 }));
    const read = codeOf(kvB.get('key'));
    await clock.advance(3000);
    expect(await asked).toBe('BUS_TIMEOUT');
    expect(await read).toBe('BUS_TIMEOUT');
    expect((await kvA.get('key'))?.value).toBe(1);
    hub.heal();
    expect(await a.request('ask', 1, { timeoutMs: 100 })).toBe('yes');
    expect((await kvB.get('key'))?.value).toBe(1);
  });

  test('a watch behind a partition catches up when it heals', async () => {
    const { clock, hub, a, b } = setUp();
    const kvA = await a.keyValue('k');
    const kvB = await b.keyValue('k');
    const seen: [string, unknown][] = [];
    await kvA.create('p.1', 'one');
    await kvB.watch('p.', (entry) => seen.push([entry.key, entry.value]));
    await clock.settle();
    hub.partition([['b']]);
    await kvA.delete('p.1');
    await kvA.create('p.2', 'two');
    await clock.settle();
    expect(seen).toEqual([['p.1', 'one']]);
    hub.heal();
    await clock.settle();
    expect(seen.slice(1).sort()).toEqual([
      ['p.1', null],
      ['p.2', 'two'],
    ]);
  });

  test('a lost answer leaves the change done: the caller learns only of the timeout', async () => {
    const { clock, hub, a, b } = setUp();
    const kvA = await a.keyValue('k');
    const kvB = await b.keyValue('k');
    hub.knobs.delayMs = { min: 10, max: 10 };
    const created = codeOf(kvA.create('key', 1));
    await clock.advance(10);
    hub.partition([['a']]);
    await clock.advance(5000);
    expect(await created).toBe('BUS_TIMEOUT');
    hub.knobs.delayMs = { min: 0, max: 0 };
    expect((await kvB.get('key'))?.value).toBe(1);
  });

  test('what is under way when the server goes down is gone, and callers know', async () => {
    const { clock, hub, a, b } = setUp({ delayMs: { min: 10, max: 10 } });
    const got: unknown[] = [];
    b.subscribe('x', ({ data }) => got.push(data));
    b.serve('ask', async () => 'yes');
    a.publish('x', 1);
    const asked = codeOf(a.request('ask', 1, { timeoutMs: 1000 }));
    hub.serverDown();
    expect(await asked).toBe('BUS_DISCONNECTED');
    hub.serverUp();
    await clock.advance(1000);
    expect(got).toEqual([]);
  });
});
