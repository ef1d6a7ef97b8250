import { describe, expect, test } from 'vitest';
import { isOrionError } from '../core/errors.ts';
import { intBetween, type Rng, seededRng } from '../core/rng.ts';
import { ByteDevice, byteDevice } from './byte-device.ts';
import { type BlockCapabilities, NO_DEADLINE as IO, type IoContext, WriteFlag } from './device.ts';
import { MemoryDevice } from './memory.ts';

const KIB = 1024;

/** A RAM disk whose calls take effect some turns later, in an order of the generator's choice. */
class SlowDevice extends MemoryDevice {
  readonly #rng: Rng;
  readonly log: string[] = [];
  inside = 0;
  most = 0;
  writeError: Error | null = null;

  constructor(rng: Rng, blockBytes: number, caps: Partial<BlockCapabilities> = {}) {
    super({ sizeBytes: 64 * KIB, blockBytes, caps });
    this.#rng = rng;
  }

  async #later(what: string): Promise<void> {
    this.log.push(what);
    this.inside += 1;
    this.most = Math.max(this.most, this.inside);
    const turns = intBetween(this.#rng, 0, 12);
    for (let i = 0; i < turns; i++) await null;
    this.inside -= 1;
  }

  override async read(offset: number, into: Buffer, io: IoContext): Promise<void> {
    expect(into.length).toBeLessThanOrEqual(this.caps.maxIoBytes);
    // Data is taken at one moment and handed over at a later one: what a lock must protect against.
    await this.#later(`read ${offset} ${into.length}`);
    await super.read(offset, into, io);
    await this.#later('');
  }

  override async write(offset: number, from: Buffer, flags: number, io: IoContext): Promise<void> {
    expect(from.length).toBeLessThanOrEqual(this.caps.maxIoBytes);
    await this.#later(`write ${offset} ${from.length} ${flags}`);
    if (this.writeError !== null) throw this.writeError;
    await super.write(offset, from, flags, io);
    await this.#later('');
  }

  override async flush(io: IoContext): Promise<void> {
    await this.#later('flush');
    await super.flush(io);
  }

  calls(): string[] {
    return this.log.filter((line) => line !== '');
  }
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'ok',
    (error) => (isOrionError(error) ? error.code : String(error)),
  );
}

async function readAll(device: ByteDevice): Promise<Buffer> {
  const all = Buffer.alloc(device.caps.sizeBytes);
  await device.read(0, all, IO);
  return all;
}

describe('ByteDevice', () => {
  test.each([512, 4096])(
    'does what a flat buffer does at any byte, blocks of %i',
    async (blockBytes) => {
      const rng = seededRng(blockBytes);
      const device = new ByteDevice(new SlowDevice(rng, blockBytes, { maxIoBytes: 8 * KIB }));
      const size = device.caps.sizeBytes;
      const model = Buffer.alloc(size);
      for (let i = 0; i < 300; i++) {
        const offset = intBetween(rng, 0, size);
        const length = Math.min(intBetween(rng, 0, 20 * KIB), size - offset);
        if (i % 3 === 0) {
          const data = Buffer.alloc(length, i & 0xff);
          await device.write(offset, data, 0, IO);
          data.copy(model, offset);
        } else if (i % 3 === 1) {
          await device.writeZeroes(offset, length, 0, IO);
          model.fill(0, offset, offset + length);
        } else {
          const into = Buffer.alloc(length);
          await device.read(offset, into, IO);
          expect(into.equals(model.subarray(offset, offset + length))).toBe(true);
        }
      }
      expect((await readAll(device)).equals(model)).toBe(true);
    },
  );

  test.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'concurrent writes to disjoint bytes of the same blocks all survive, seed %i',
    async (seed) => {
      const rng = seededRng(seed);
      const device = new ByteDevice(new SlowDevice(rng, 4096));
      const size = device.caps.sizeBytes;
      const model = Buffer.alloc(size);
      // The device cut into pieces at random bytes, some on block boundaries: each is written once, all at a time.
      const cuts = new Set([0, size]);
      for (let i = 0; i < 60; i++) cuts.add(intBetween(rng, 0, size));
      for (let at = 0; at < size; at += 4096) if (rng.float() < 0.6) cuts.add(at);
      const edges = [...cuts].sort((a, b) => a - b);
      const writes: Promise<void>[] = [];
      for (const i of edges.keys()) {
        const from = edges[i]!;
        const to = edges[i + 1] ?? size;
        if (from === to) continue;
        const value = (i % 255) + 1;
        if (i % 7 === 3) {
          writes.push(device.writeZeroes(from, to - from, 0, IO));
          continue;
        }
        model.fill(value, from, to);
        writes.push(device.write(from, Buffer.alloc(to - from, value), 0, IO));
      }
      await Promise.all(writes);
      expect((await readAll(device)).equals(model)).toBe(true);
    },
  );

  test('an acknowledged write is never undone by a modification of its block', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const device = new ByteDevice(new SlowDevice(seededRng(seed), 4096));
      const modified = device.write(10, Buffer.from([1]), 0, IO);
      if (seed % 2 === 0) await null;
      await device.write(0, Buffer.alloc(4096, 2), 0, IO);
      await modified;
      const block = Buffer.alloc(4096);
      await device.read(0, block, IO);
      // Whichever came last: every other byte is of the full write.
      expect(block.filter((byte, i) => i !== 10 && byte !== 2).length).toBe(0);
    }
  });

  test('plain writes do not wait for one another, nor for a modification elsewhere', async () => {
    const inner = new SlowDevice(seededRng(3), 512);
    const device = new ByteDevice(inner);
    const writes = [device.write(1, Buffer.from([1]), 0, IO)];
    for (let i = 0; i < 8; i++) {
      writes.push(device.write(4096 + i * 512, Buffer.alloc(512, i), 0, IO));
    }
    await Promise.all(writes);
    expect(inner.most).toBeGreaterThanOrEqual(8);
  });

  test('a modification that fails lets the next one in', async () => {
    const inner = new SlowDevice(seededRng(4), 512);
    const device = new ByteDevice(inner);
    inner.writeError = new Error('no');
    const failing = [1, 2, 3].map((at) => codeOf(device.write(at, Buffer.from([at]), 0, IO)));
    const plain = codeOf(device.write(0, Buffer.alloc(512, 5), 0, IO));
    expect(await Promise.all([...failing, plain])).toEqual(Array(4).fill('Error: no'));
    inner.writeError = null;
    await device.write(1, Buffer.from([9]), 0, IO);
    const two = Buffer.alloc(2);
    await device.read(0, two, IO);
    expect(two).toEqual(Buffer.from([0, 9]));
  });

  test('aligned requests that fit go straight through', async () => {
    const inner = new SlowDevice(seededRng(5), 512);
    const device = new ByteDevice(inner);
    await device.read(512, Buffer.alloc(1024), IO);
    await device.write(1024, Buffer.alloc(512), WriteFlag.Fua, IO);
    expect(inner.calls()).toEqual(['read 512 1024', `write 1024 512 ${WriteFlag.Fua}`]);
  });

  test('lends what goes straight through, and leaves the rest to be read', async () => {
    const inner = Object.assign(new SlowDevice(seededRng(5), 512, { maxIoBytes: 64 * KIB }), {
      lend: async (_offset: number, length: number) => ({
        bytes: Buffer.alloc(length),
        giveBack: () => {},
      }),
    });
    const device = new ByteDevice(inner);
    expect((await device.lend(512, 32 * KIB, IO))?.bytes.length).toBe(32 * KIB);
    const { sizeBytes } = device.caps;
    for (const [offset, length] of [
      [0, 8 * KIB],
      [1, 32 * KIB],
      [0, 32 * KIB + 1],
      [0, 128 * KIB],
      [sizeBytes - 512, 32 * KIB],
    ] as const) {
      expect(device.lend(offset, length, IO), `${length} at ${offset}`).toBeNull();
    }
    expect(new ByteDevice(new SlowDevice(seededRng(5), 512)).lend(0, 32 * KIB, IO)).toBeNull();
  });

  test('long requests are split, a few pieces at a time, with the first error told', async () => {
    const inner = new SlowDevice(seededRng(6), 512, { maxIoBytes: 1500 });
    const device = new ByteDevice(inner);
    await device.write(0, Buffer.alloc(32 * KIB, 7), 0, IO);
    expect(inner.calls().length).toBe(32);
    expect(inner.most).toBeGreaterThan(1);
    expect(inner.most).toBeLessThanOrEqual(8);
    inner.writeError = new Error('piece');
    expect(await codeOf(device.write(0, Buffer.alloc(32 * KIB), 0, IO))).toBe('Error: piece');
    expect(inner.inside).toBe(0);
  });

  test('FUA becomes a flush after all pieces where the device has none', async () => {
    const inner = new SlowDevice(seededRng(7), 512, {
      fua: false,
      volatileCache: true,
      maxIoBytes: 512,
    });
    const device = new ByteDevice(inner);
    expect(device.caps.fua).toBe(true);
    await device.write(0, Buffer.alloc(1024), WriteFlag.Fua, IO);
    expect(inner.calls()).toEqual(['write 0 512 0', 'write 512 512 0', 'flush']);
    inner.log.length = 0;
    await device.trim(0, 512, WriteFlag.Fua, IO);
    await device.writeZeroes(0, 512, WriteFlag.Fua, IO);
    expect(inner.calls()).toEqual(['flush', 'flush']);
  });

  test('a trim leaves the blocks alone that it only touches', async () => {
    const device = new ByteDevice(new MemoryDevice({ sizeBytes: 64 * KIB }));
    await device.write(0, Buffer.alloc(4096, 1), 0, IO);
    await device.trim(1, 1022, 0, IO);
    await device.trim(600, 300, 0, IO);
    const all = await readAll(device);
    expect(all.subarray(0, 4096).equals(Buffer.alloc(4096, 1))).toBe(true);
    await device.trim(500, 1100, 0, IO);
    expect((await readAll(device)).subarray(512, 1536).every((byte) => byte === 0)).toBe(true);
  });

  test('fast zeroes that are not on block boundaries fail fast and change nothing', async () => {
    const device = new ByteDevice(new MemoryDevice({ sizeBytes: 64 * KIB }));
    await device.write(0, Buffer.alloc(4096, 1), 0, IO);
    const refused = device.writeZeroes(1, 1000, WriteFlag.FastOnly, IO);
    expect(await codeOf(refused)).toBe('BLOCK_UNSUPPORTED');
    expect((await readAll(device)).subarray(0, 4096).every((byte) => byte === 1)).toBe(true);
  });

  test('extents are cut to the bytes asked for', async () => {
    const device = new ByteDevice(new MemoryDevice({ sizeBytes: 64 * KIB }));
    const [extent] = await device.extents(100, 50, IO);
    expect(extent).toEqual({ offset: 100, length: 50, allocated: false, zero: true });
  });

  test('what reaches beyond the end is refused', async () => {
    const device = new ByteDevice(new MemoryDevice({ sizeBytes: 64 * KIB }));
    const past = 64 * KIB - 1;
    for (const refused of [
      device.read(past, Buffer.alloc(2), IO),
      device.write(past, Buffer.alloc(2), 0, IO),
      device.trim(past, 2, 0, IO),
      device.writeZeroes(past, 2, 0, IO),
      device.extents(past, 2, IO),
    ]) {
      expect(await codeOf(refused)).toBe('BLOCK_OUT_OF_RANGE');
    }
  });

  test('everybody who asks gets the same one for a device, so that there is one lock', () => {
    const device = new MemoryDevice({ sizeBytes: 64 * KIB });
    const bytes = byteDevice(device);
    expect(byteDevice(device)).toBe(bytes);
    expect(byteDevice(bytes)).toBe(bytes);
    expect(byteDevice(new MemoryDevice({ sizeBytes: 512 }))).not.toBe(bytes);
  });
});
