import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CHUNK_BYTES, RamDisk } from './ram-disk.ts';

const MIB = 1024 * 1024;

describe('a RAM disk', () => {
  test('reads zeroes where nothing was written, and allocates only what was', () => {
    const disk = new RamDisk({ sizeBytes: 2 ** 50 });
    const into = Buffer.alloc(1000, 0xff);
    disk.read(2 ** 49, into);
    expect(into.every((byte) => byte === 0)).toBe(true);
    disk.write(2 ** 49, Buffer.alloc(1, 1));
    expect(disk.allocatedBytes).toBe(CHUNK_BYTES);
  });

  test('holds what an array of bytes would hold after any writes and zeroes', () => {
    const size = 4 * CHUNK_BYTES;
    const step = fc.record({
      offset: fc.nat(size - 1),
      length: fc.nat(2 * CHUNK_BYTES),
      byte: fc.nat(255),
    });
    const check = (steps: { offset: number; length: number; byte: number }[]): void => {
      const disk = new RamDisk({ sizeBytes: size, volatileCache: true });
      const model = Buffer.alloc(size);
      for (const { offset, length, byte } of steps) {
        const bytes = Math.min(length, size - offset);
        model.fill(byte, offset, offset + bytes);
        if (byte === 0) disk.zero(offset, bytes);
        else disk.write(offset, Buffer.alloc(bytes, byte));
      }
      const got = Buffer.alloc(size);
      disk.read(0, got);
      expect(got.equals(model)).toBe(true);
    };
    fc.assert(fc.property(fc.array(step, { maxLength: 12 }), check), { numRuns: 50 });
  });

  test('says where it is allocated', () => {
    const disk = new RamDisk({ sizeBytes: MIB });
    disk.write(CHUNK_BYTES, Buffer.alloc(2 * CHUNK_BYTES, 1));
    expect(disk.extent(0, MIB)).toEqual({ allocated: false, bytes: CHUNK_BYTES });
    expect(disk.extent(CHUNK_BYTES + 512, MIB)).toEqual({
      allocated: true,
      bytes: 2 * CHUNK_BYTES - 512,
    });
    expect(disk.extent(CHUNK_BYTES, 512)).toEqual({ allocated: true, bytes: 512 });
    disk.zero(CHUNK_BYTES, CHUNK_BYTES);
    expect(disk.extent(0, MIB)).toEqual({ allocated: false, bytes: 2 * CHUNK_BYTES });
  });

  test('loses what was not flushed, keeps what was flushed or written through', () => {
    const disk = new RamDisk({ sizeBytes: MIB, volatileCache: true });
    const at = (offset: number): number => {
      const into = Buffer.alloc(1);
      disk.read(offset, into);
      return into[0]!;
    };
    disk.write(0, Buffer.alloc(10, 1));
    disk.flush();
    disk.write(0, Buffer.alloc(10, 2));
    disk.write(5, Buffer.alloc(1, 3), 0, 1, true);
    disk.write(2 * CHUNK_BYTES, Buffer.alloc(1, 4));
    disk.zero(3 * CHUNK_BYTES, 10);
    expect(disk.dirtyBytes).toBe(2 * CHUNK_BYTES);
    disk.loseCache();
    expect([at(0), at(5), at(6), at(2 * CHUNK_BYTES)]).toEqual([1, 3, 1, 0]);
    expect(disk.dirtyBytes).toBe(0);
  });

  test('loses nothing when it has no volatile cache', () => {
    const disk = new RamDisk({ sizeBytes: MIB });
    disk.write(0, Buffer.from('kept'));
    disk.loseCache();
    const into = Buffer.alloc(4);
    disk.read(0, into);
    expect(into.toString()).toBe('kept');
  });

  test('shrinks and grows', () => {
    const disk = new RamDisk({ sizeBytes: MIB });
    disk.write(MIB - 4, Buffer.from('tail'));
    disk.resize(CHUNK_BYTES);
    expect(() => disk.read(CHUNK_BYTES, Buffer.alloc(1))).toThrow('within the disk');
    disk.resize(2 * MIB);
    const into = Buffer.alloc(4);
    disk.read(MIB - 4, into);
    expect(into).toEqual(Buffer.alloc(4));
  });
});
