import { randomFillSync } from 'node:crypto';

/** Randomness as a dependency: the system's for production, a seeded one for simulation and tests. */
export interface Rng {
  u32(): number;
  /** In [0, 1). */
  float(): number;
  fill(into: Uint8Array): void;
}

export const systemRng: Rng = {
  u32() {
    return randomFillSync(new Uint32Array(1))[0]!;
  },
  float() {
    return this.u32() / 2 ** 32;
  },
  fill(into) {
    randomFillSync(into);
  },
};

/** A small, fast, seeded generator (sfc32). Not for secrets. */
export function seededRng(seed: number): Rng {
  let a = 0x9e3779b9 | 0;
  let b = 0x243f6a88 | 0;
  let c = seed | 0;
  let counter = 1;
  const u32 = (): number => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  for (let i = 0; i < 16; i++) u32();
  return {
    u32,
    float: () => u32() / 2 ** 32,
    fill(into) {
      for (let i = 0; i < into.length; i++) into[i] = u32() & 0xff;
    },
  };
}

/** An integer in [min, max]. */
export function intBetween(rng: Rng, min: number, max: number): number {
  return min + Math.floor(rng.float() * (max - min + 1));
}

export function pick<T>(rng: Rng, items: readonly T[]): T {
  return items[Math.floor(rng.float() * items.length)]!;
}

export function hexId(rng: Rng, bytes: number): string {
  const into = Buffer.alloc(bytes);
  rng.fill(into);
  return into.toString('hex');
}
