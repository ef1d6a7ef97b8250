import { describe, expect, test } from 'vitest';
import type { Clock } from '../../core/clock.ts';
import { seededRng } from '../../core/rng.ts';
import { type BlockDevice, NO_DEADLINE } from '../device.ts';
import { type DelayOptions, delayFilter } from './delay.ts';
import { type ErrorOptions, errorFilter } from './error.ts';
import { statsFilter } from './stats.ts';

/** A device that answers at once, and says what reached it. */
function recorder() {
  const calls: string[] = [];
  const note = (text: string): Promise<void> => {
    calls.push(text);
    return Promise.resolve();
  };
  const device = {
    name: 'next',
    caps: { sizeBytes: 1024 } as BlockDevice['caps'],
    read: (offset, into) => note(`read ${offset}+${into.length}`),
    write: (offset, from, flags) => note(`write ${offset}+${from.length} ${flags}`),
    flush: () => note('flush'),
    trim: (offset, length) => note(`trim ${offset}+${length}`),
    writeZeroes: (offset, length, flags) => note(`zero ${offset}+${length} ${flags}`),
    extents: async (offset, length) => {
      await note(`extents ${offset}+${length}`);
      return [{ offset, length, allocated: true, zero: false }];
    },
    compareAndWrite: async (offset, expected) => {
      await note(`caw ${offset}+${expected.length}`);
      return 3;
    },
    close: () => note('close'),
  } satisfies BlockDevice;
  return { device: device as BlockDevice, calls };
}

function steppedClock() {
  let now = 0;
  const timers: { at: number; fn: () => void }[] = [];
  const clock: Clock = {
    nowMs: () => now,
    wallMs: () => now,
    after(delayMs, fn) {
      const timer = { at: now + delayMs, fn };
      timers.push(timer);
      return { cancel: () => void timers.splice(timers.indexOf(timer), 1) };
    },
  };
  const advance = async (ms: number): Promise<void> => {
    now += ms;
    for (const timer of timers.filter(({ at }) => at <= now)) {
      timers.splice(timers.indexOf(timer), 1);
      timer.fn();
    }
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { clock, advance };
}

const io = NO_DEADLINE;
const block = Buffer.alloc(512);

async function everyCall(device: BlockDevice): Promise<void> {
  await device.read(0, block, io);
  await device.write(512, block, 1, io);
  await device.flush(io);
  await device.trim(0, 512, 0, io);
  await device.writeZeroes(0, 512, 2, io);
  expect(await device.extents(0, 512, io)).toHaveLength(1);
  expect(await device.compareAndWrite(0, block, block, io)).toBe(3);
  await device.close();
}

const ALL = [
  'read 0+512',
  'write 512+512 1',
  'flush',
  'trim 0+512',
  'zero 0+512 2',
  'extents 0+512',
  'caw 0+512',
  'close',
];

describe('every filter', () => {
  const { clock } = steppedClock();
  const rng = seededRng(1);
  test.each([
    ['stats', (next: BlockDevice) => statsFilter(next, { clock })],
    ['delay', (next: BlockDevice) => delayFilter(next, { clock, rng, delayMs: 5, probability: 0 })],
    ['error', (next: BlockDevice) => errorFilter(next, { rng, remaining: 0 })],
  ])('%s passes on what it does not change, with its arguments', async (_name, make) => {
    const { device, calls } = recorder();
    const filter = make(device);
    await everyCall(filter);
    expect(calls).toEqual(ALL);
    expect(filter.caps).toBe(device.caps);
    expect(filter.name).toBe('next');
  });

  test('returns the very promise of the device below, so that it adds no turn', () => {
    const { device } = recorder();
    const promise = Promise.resolve();
    const next: BlockDevice = { ...device, read: () => promise };
    expect(statsFilter(next, { clock }).read(0, block, io)).toBe(promise);
    expect(delayFilter(next, { clock, rng, delayMs: 5, ops: ['write'] }).read(0, block, io)).toBe(
      promise,
    );
    expect(errorFilter(next, { rng, ops: ['write'] }).read(0, block, io)).toBe(promise);
  });
});

describe('the stats filter', () => {
  test('counts operations, bytes, errors and time by kind', async () => {
    const { clock, advance } = steppedClock();
    const { device } = recorder();
    let fail = false;
    const slow: BlockDevice = {
      ...device,
      read: () =>
        new Promise((resolve, reject) =>
          clock.after(20, () => (fail ? reject(new Error('x')) : resolve())),
        ),
    };
    const filter = statsFilter(slow, { clock });
    const first = filter.read(0, block, io);
    expect(filter.counters.read.inflight).toBe(1);
    await advance(20);
    await first;
    fail = true;
    const second = filter.read(0, block, io);
    await Promise.all([expect(second).rejects.toThrow('x'), advance(20)]);
    const { ops, bytes, errors, inflight, seconds } = filter.counters.read;
    expect({ ops, bytes, errors, inflight }).toEqual({
      ops: 2,
      bytes: 512,
      errors: 1,
      inflight: 0,
    });
    expect(seconds.count).toBe(2);
    expect(seconds.sum).toBeCloseTo(0.04);
    expect(filter.counters.write.ops).toBe(0);
  });
});

describe('the delay filter', () => {
  test('holds I/O back, and can be switched off while it runs', async () => {
    const { clock, advance } = steppedClock();
    const { device, calls } = recorder();
    const options: DelayOptions = { clock, rng: seededRng(1), delayMs: 100, ops: ['write'] };
    const filter = delayFilter(device, options);
    const write = filter.write(0, block, 0, io);
    await filter.read(0, block, io);
    expect(calls).toEqual(['read 0+512']);
    await advance(99);
    expect(calls).toHaveLength(1);
    await advance(1);
    await write;
    expect(calls).toEqual(['read 0+512', 'write 0+512 0']);
    options.probability = 0;
    await filter.write(0, block, 0, io);
  });
});

describe('the error filter', () => {
  test('fails what it is told to, with the outcome it is told to claim', async () => {
    const { device, calls } = recorder();
    const options: ErrorOptions = {
      rng: seededRng(1),
      ops: ['write'],
      range: { offset: 512, length: 512 },
      errno: 'ENOSPC',
      outcome: 'unknown',
      remaining: 2,
    };
    const filter = errorFilter(device, options);
    const error = { code: 'BLOCK_INJECTED', errno: 'ENOSPC', outcome: 'unknown' };
    await expect(filter.write(512, block, 0, io)).rejects.toMatchObject(error);
    await filter.write(0, block, 0, io);
    await filter.write(1024, block, 0, io);
    await filter.read(512, block, io);
    await expect(filter.write(256, block, 0, io)).rejects.toMatchObject(error);
    await filter.write(512, block, 0, io); // no more remain
    expect(calls).toEqual(['write 0+512 0', 'write 1024+512 0', 'read 512+512', 'write 512+512 0']);
  });

  test('a range never hits a flush, and no range does', async () => {
    const { device } = recorder();
    const rng = seededRng(1);
    await errorFilter(device, { rng, range: { offset: 0, length: 1024 } }).flush(io);
    await expect(errorFilter(device, { rng, ops: ['flush'] }).flush(io)).rejects.toThrow();
  });

  test('the same seed hits the same I/O, about as often as asked', async () => {
    const run = async (seed: number): Promise<string> => {
      const { device } = recorder();
      const filter = errorFilter(device, { rng: seededRng(seed), probability: 0.3 });
      let text = '';
      for (let i = 0; i < 1000; i++) {
        text += await filter.read(0, block, io).then(
          () => '.',
          () => 'x',
        );
      }
      return text;
    };
    const first = await run(7);
    expect(await run(7)).toBe(first);
    expect(await run(8)).not.toBe(first);
    const hits = first.replaceAll('.', '').length;
    expect(hits).toBeGreaterThan(230);
    expect(hits).toBeLessThan(370);
  });
});
