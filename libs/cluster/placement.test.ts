import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  hash64,
  LOAD_SLACK,
  type Place,
  placeSlots,
  placeVolume,
  rank,
  rankWorkers,
} from './placement.ts';

function places(count: number, perNode = 1): Place[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `w${i}`,
    node: `n${Math.floor(i / perNode)}`,
  }));
}

/** Places one after another, each knowing of those before. */
function placeAll(volumes: readonly string[], gateways: readonly Place[]): Map<string, string> {
  const loads = new Map<string, number>();
  return new Map(
    volumes.map((volume) => {
      const id = placeVolume(volume, gateways, loads)!;
      loads.set(id, (loads.get(id) ?? 0) + 1);
      return [volume, id];
    }),
  );
}

function countBy(values: Iterable<string | null>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) {
    if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return counts;
}

const someVolumes = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 12 }), {
  minLength: 1,
  maxLength: 60,
});

const volumes1000 = Array.from({ length: 1000 }, (_, i) => `vol-${i}`);

describe('volumes', () => {
  test('no gateway carries more than its bounded share', () => {
    fc.assert(
      fc.property(
        someVolumes,
        fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 9 }),
        (volumes, weights) => {
          const gateways = weights.map((weight, i) => ({ id: `g${i}`, node: `n${i}`, weight }));
          const counts = countBy(placeAll(volumes, gateways).values());
          const sum = weights.reduce((a, b) => a + b, 0);
          for (const { id, weight } of gateways) {
            const bound = Math.ceil(((1 + LOAD_SLACK) * volumes.length * weight) / sum);
            expect(counts.get(id) ?? 0).toBeLessThanOrEqual(bound);
          }
        },
      ),
    );
  });

  test('the order in which gateways are listed does not matter', () => {
    fc.assert(
      fc.property(
        someVolumes,
        fc.shuffledSubarray(places(8), { minLength: 8 }),
        (volumes, mixed) => {
          expect(placeAll(volumes, mixed)).toEqual(placeAll(volumes, places(8)));
        },
      ),
    );
  });

  test('without the bound a member that leaves moves its own alone, one that joins only takes', () => {
    fc.assert(
      fc.property(someVolumes, fc.integer({ min: 2, max: 10 }), (volumes, count) => {
        const all = places(count);
        const gone = all[count - 1]!;
        for (const volume of volumes) {
          const before = rank(volume, all)[0]!;
          const after = rank(volume, all.slice(0, -1))[0]!;
          if (before !== gone) expect(after).toBe(before);
        }
      }),
    );
  });

  test('with the bound a join or leave still moves little more than its share', () => {
    const before = placeAll(volumes1000, places(10));
    const after = placeAll(volumes1000, places(9));
    const moved = volumes1000.filter((volume) => before.get(volume) !== after.get(volume));
    const share = countBy(before.values()).get('w9')!;
    expect(moved.length).toBeGreaterThanOrEqual(share);
    expect(moved.length).toBeLessThanOrEqual(2 * share);
  });

  test('load follows weight', () => {
    const gateways = [
      { id: 'big', node: 'a', weight: 3 },
      { id: 'small', node: 'b', weight: 1 },
    ];
    const first = volumes1000.map((volume) => rank(volume, gateways)[0]!.id);
    expect(countBy(first).get('big')).toBeGreaterThan(700);
    expect(countBy(first).get('big')).toBeLessThan(800);
  });

  test('nobody there, or nobody with weight: null', () => {
    expect(placeVolume('v', [])).toBeNull();
    expect(placeVolume('v', [{ id: 'a', node: 'n', weight: 0 }])).toBeNull();
  });

  test('a gateway that is full is passed over while another has room', () => {
    const gateways = places(2);
    const preferred = rank('v', gateways)[0]!.id;
    const other = gateways.find((gateway) => gateway.id !== preferred)!.id;
    expect(placeVolume('v', gateways)).toBe(preferred);
    expect(placeVolume('v', gateways, new Map([[preferred, 5]]))).toBe(other);
  });
});

const layout = fc.record({
  slots: fc.integer({ min: 1, max: 8 }),
  portals: fc.integer({ min: 1, max: 4 }),
  workers: fc.integer({ min: 1, max: 8 }),
  perNode: fc.integer({ min: 1, max: 4 }),
  volume: fc.string({ minLength: 1, maxLength: 8 }),
});

function slotsOf(count: number, portals: number) {
  return Array.from({ length: count }, (_, slot) => ({
    slot,
    portal: `p${slot % portals}`,
    worker: '',
  }));
}

describe('slots', () => {
  test('a volume with two paths or more is on two workers and two nodes whenever there are two', () => {
    fc.assert(
      fc.property(layout, ({ slots, portals, workers, perNode, volume }) => {
        fc.pre(slots >= 2);
        const all = places(workers, perNode);
        const ownerNode = 'n0';
        const placed = placeSlots({
          volume,
          slots: slotsOf(slots, portals),
          workers: all,
          ownerNode,
        });
        const used = new Set(placed.values());
        const nodes = new Set([...used].map((id) => all.find((one) => one.id === id)!.node));
        expect(used.size).toBeGreaterThanOrEqual(Math.min(2, workers));
        const nodeCount = new Set(all.map((one) => one.node)).size;
        expect(nodes.size).toBeGreaterThanOrEqual(Math.min(2, nodeCount));
      }),
    );
  });

  test('the paths of a volume spread evenly over the workers', () => {
    fc.assert(
      fc.property(layout, ({ slots, portals, workers, volume }) => {
        const all = places(workers);
        const placed = placeSlots({ volume, slots: slotsOf(slots, portals), workers: all });
        for (const count of countBy(placed.values()).values()) {
          expect(count).toBeLessThanOrEqual(Math.ceil(slots / workers));
        }
      }),
    );
  });

  test('a slot whose worker is there stays; only those of the worker that went move', () => {
    fc.assert(
      fc.property(layout, ({ slots, portals, workers, perNode, volume }) => {
        fc.pre(workers >= 2);
        const all = places(workers, perNode);
        const before = placeSlots({ volume, slots: slotsOf(slots, portals), workers: all });
        const gone = before.get(0)!;
        const rest = all.filter((worker) => worker.id !== gone);
        const now = slotsOf(slots, portals).map((one) => ({
          ...one,
          worker: before.get(one.slot)!,
        }));
        const after = placeSlots({ volume, slots: now, workers: rest });
        for (const [slot, worker] of before) {
          if (worker === gone) expect(after.get(slot)).not.toBe(gone);
          else expect(after.get(slot)).toBe(worker);
        }
      }),
    );
  });

  test('two slots to one portal go to two workers', () => {
    const workers = places(2);
    const slots = [
      { slot: 0, portal: 'p0', worker: 'w0' },
      { slot: 1, portal: 'p1', worker: 'w1' },
      { slot: 2, portal: 'p0', worker: '' },
      { slot: 3, portal: 'p1', worker: '' },
    ];
    const placed = placeSlots({ volume: 'v', slots, workers });
    expect(placed.get(2)).toBe('w1');
    expect(placed.get(3)).toBe('w0');
  });

  test('workers on the node of the owner are preferred about twice as often', () => {
    const workers = places(4);
    const on = (ownerNode: string): number =>
      volumes1000.filter((volume) => {
        const slots = slotsOf(1, 1);
        return placeSlots({ volume, slots, workers, ownerNode }).get(0) === 'w0';
      }).length;
    expect(on('none')).toBeGreaterThan(200);
    expect(on('none')).toBeLessThan(300);
    expect(on('n0')).toBeGreaterThan(350);
    expect(on('n0')).toBeLessThan(450);
  });

  test('the bound on load holds over many volumes', () => {
    const workers = places(5);
    const loads = new Map<string, number>();
    for (const volume of volumes1000.slice(0, 100)) {
      const placed = placeSlots({ volume, slots: slotsOf(2, 2), workers, loads });
      for (const id of placed.values()) loads.set(id!, (loads.get(id!) ?? 0) + 1);
    }
    for (const load of loads.values()) expect(load).toBeLessThanOrEqual(50);
  });

  test('candidates for a slot are all workers, the placed one first', () => {
    const workers = places(4, 2);
    const slots = slotsOf(2, 2);
    const placed = placeSlots({ volume: 'v', slots, workers });
    const now = slots.map((one) => ({ ...one, worker: placed.get(one.slot)! }));
    const ranked = rankWorkers({ volume: 'v', slots: now, workers }, 1);
    expect(ranked[0]).toBe(placed.get(1));
    expect([...ranked].sort()).toEqual(['w0', 'w1', 'w2', 'w3']);
    expect(rankWorkers({ volume: 'v', slots: now, workers }, 9)).toEqual([]);
  });

  test('no worker: every slot is null', () => {
    expect([...placeSlots({ volume: 'v', slots: slotsOf(2, 1), workers: [] }).values()]).toEqual([
      null,
      null,
    ]);
  });
});

test('the hash is the same in every process and version: places would move otherwise', () => {
  expect(hash64('').toString(16)).toBe('efd01f60ba992926');
  expect(hash64('w0\0vol-1').toString(16)).toBe('697aab49f316b5ff');
  expect(hash64('größe').toString(16)).toBe('2eb895f56869eaa1');
});
