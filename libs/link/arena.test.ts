import { describe, expect, test } from 'vitest';
import { seededRng } from '../core/rng.ts';
import { Arena, PAGE_BYTES } from './arena.ts';

const MIB = 1024 * 1024;

describe('an arena', () => {
  test('never hands out a place that overlaps one that is taken, whatever sizes come and go', () => {
    const bytes = 8 * MIB;
    const arena = new Arena(bytes);
    const rng = seededRng(7);
    const taken: { readonly page: number; readonly end: number }[] = [];
    let refused = 0;
    for (let i = 0; i < 20_000; i++) {
      const free = taken.length > 0 && rng.float() < 0.5;
      if (free) {
        const [place] = taken.splice(Math.floor(rng.float() * taken.length), 1);
        arena.give(place!.page);
        continue;
      }
      const length = 1 + Math.floor(rng.float() * (rng.float() < 0.3 ? MIB : 80_000));
      const page = arena.take(length);
      if (page < 0) {
        refused += 1;
        continue;
      }
      const end = page * PAGE_BYTES + length;
      expect(end).toBeLessThanOrEqual(bytes);
      for (const other of taken) {
        expect(end <= other.page * PAGE_BYTES || page * PAGE_BYTES >= other.end).toBe(true);
      }
      taken.push({ page, end });
    }
    expect(refused).toBeGreaterThan(0);
  });

  test('gives whole chunks to another size when nothing of them is in use', () => {
    const arena = new Arena(2 * MIB);
    const small = Array.from({ length: 32 }, () => arena.take(64 * 1024));
    expect(small).not.toContain(-1);
    expect(arena.take(64 * 1024)).toBe(-1);
    expect(arena.take(MIB)).toBe(-1);
    for (const page of small.slice(1)) arena.give(page);
    expect(arena.take(MIB)).toBeGreaterThan(0);
    expect(arena.take(MIB)).toBe(-1);
  });

  test('hands out first what was given back last', () => {
    const arena = new Arena(MIB);
    const [first] = [arena.take(100_000), arena.take(100_000)];
    arena.give(first!);
    expect(arena.take(200_000)).toBe(first);
  });

  test('takes a place back only once', () => {
    const arena = new Arena(MIB);
    const page = arena.take(MIB);
    arena.give(page);
    expect(() => arena.give(page)).toThrow('given back once');
  });
});
