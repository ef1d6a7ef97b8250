/**
 * Bytes in memory of somebody else. They stay what they are until whoever has them gives them back, which is done exactly
 * once; what is kept keeps the lender from lending more.
 */
export interface Lent {
  readonly bytes: Buffer;
  giveBack(): void;
}

/** A buffer that was taken from `pool`. */
export function pooled(pool: { give(buffer: Buffer): void }, bytes: Buffer): Lent {
  return { bytes, giveBack: () => pool.give(bytes) };
}
