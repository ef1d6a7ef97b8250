import { describe, expect, test } from 'vitest';
import { isOrionError } from '../core/errors.ts';
import { intBetween, seededRng } from '../core/rng.ts';
import { NO_DEADLINE as IO, WriteFlag } from './device.ts';
import { MemoryDevice } from './memory.ts';

const MIB = 1024 * 1024;

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'ok',
    (error) => (isOrionError(error) ? error.code : String(error)),
  );
}

async function read(device: MemoryDevice, offset: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length, 0xff);
  await device.read(offset, into, IO);
  return into;
}

describe('MemoryDevice', () => {
  test('holds a terabyte in no memory until it is written', async () => {
    const device = new MemoryDevice({ sizeBytes: 2 ** 40 });
    expect(device.allocatedBytes).toBe(0);
    expect((await read(device, 2 ** 40 - 4096, 4096)).every((byte) => byte === 0)).toBe(true);
    await device.write(2 ** 39, Buffer.alloc(512, 3), 0, IO);
    expect(device.allocatedBytes).toBeLessThanOrEqual(MIB);
    expect(await read(device, 2 ** 39, 512)).toEqual(Buffer.alloc(512, 3));
  });

  test('does what a flat buffer does, over random operations', async () => {
    const rng = seededRng(7);
    const size = 2 * MIB;
    const model = Buffer.alloc(size);
    const device = new MemoryDevice({ sizeBytes: size });
    for (let i = 0; i < 400; i++) {
      const offset = intBetween(rng, 0, size / 512 - 1) * 512;
      const length = Math.min(intBetween(rng, 1, 1200) * 512, size - offset);
      const kind = i % 4;
      if (kind === 0) {
        const data = Buffer.alloc(length, i & 0xff);
        rng.fill(data.subarray(0, 512));
        await device.write(offset, data, 0, IO);
        data.copy(model, offset);
      } else if (kind === 1) {
        await device.writeZeroes(offset, length, i % 8 === 1 ? WriteFlag.NoHole : 0, IO);
        model.fill(0, offset, offset + length);
      } else if (kind === 2) {
        await device.trim(offset, length, 0, IO);
        model.fill(0, offset, offset + length);
      } else {
        expect(
          (await read(device, offset, length)).equals(model.subarray(offset, offset + length)),
        ).toBe(true);
      }
    }
    expect((await read(device, 0, size)).equals(model)).toBe(true);
  });

  test('gives memory back on trim and keeps it for NO_HOLE', async () => {
    const device = new MemoryDevice({ sizeBytes: 4 * MIB });
    await device.write(0, Buffer.alloc(2 * MIB, 1), 0, IO);
    expect(device.allocatedBytes).toBe(2 * MIB);
    await device.writeZeroes(0, MIB, WriteFlag.NoHole, IO);
    expect(device.allocatedBytes).toBe(2 * MIB);
    await device.trim(0, 4 * MIB, 0, IO);
    expect(device.allocatedBytes).toBe(0);
  });

  test('reports extents merged, in order, clipped to the range', async () => {
    const device = new MemoryDevice({ sizeBytes: 4 * MIB });
    await device.write(MIB, Buffer.alloc(512, 1), 0, IO);
    const extents = await device.extents(512, 2 * MIB, IO);
    expect(extents.map(({ allocated }) => allocated)).toEqual([false, true, false]);
    expect(extents[0]).toEqual({ offset: 512, length: MIB - 512, allocated: false, zero: true });
    expect(extents.reduce((sum, { length }) => sum + length, 0)).toBe(2 * MIB);
  });

  test('compares and writes at once, and tells the first difference', async () => {
    const device = new MemoryDevice({ sizeBytes: MIB });
    const zero = Buffer.alloc(512);
    const one = Buffer.alloc(512, 1);
    expect(await device.compareAndWrite(0, zero, one, IO)).toBe(-1);
    const almost = Buffer.alloc(512, 1);
    almost[77] = 2;
    expect(await device.compareAndWrite(0, almost, zero, IO)).toBe(77);
    expect(await read(device, 0, 512)).toEqual(one);
  });

  test.each([
    [0, 511, 'BLOCK_UNALIGNED'],
    [1, 512, 'BLOCK_UNALIGNED'],
    [MIB, 512, 'BLOCK_OUT_OF_RANGE'],
    [MIB - 512, 1024, 'BLOCK_OUT_OF_RANGE'],
    [-512, 512, 'BLOCK_OUT_OF_RANGE'],
    [Number.NaN, 512, 'BLOCK_OUT_OF_RANGE'],
    [2 ** 60, 512, 'BLOCK_OUT_OF_RANGE'],
  ])('refuses offset %d length %d with %s', async (offset, length, code) => {
    const device = new MemoryDevice({ sizeBytes: MIB });
    const buffer = Buffer.alloc(length);
    expect(await codeOf(device.read(offset, buffer, IO))).toBe(code);
    expect(await codeOf(device.write(offset, buffer, 0, IO))).toBe(code);
    expect(await codeOf(device.trim(offset, length, 0, IO))).toBe(code);
    expect(await codeOf(device.writeZeroes(offset, length, 0, IO))).toBe(code);
    expect(await codeOf(device.extents(offset, length, IO))).toBe(code);
  });

  test('refuses writes when it is read-only, and everything when it is closed', async () => {
    const device = new MemoryDevice({ sizeBytes: MIB, caps: { readOnly: true } });
    expect(await codeOf(device.write(0, Buffer.alloc(512), 0, IO))).toBe('BLOCK_READ_ONLY');
    expect(await codeOf(device.trim(0, 512, 0, IO))).toBe('BLOCK_READ_ONLY');
    expect(await codeOf(device.read(0, Buffer.alloc(512), IO))).toBe('ok');
    await device.close();
    expect(await codeOf(device.read(0, Buffer.alloc(512), IO))).toBe('BLOCK_CLOSED');
    expect(await codeOf(device.flush(IO))).toBe('BLOCK_CLOSED');
  });
});
