import type { BufferPool } from '../wire/buffer-pool.ts';
import { type Lent, pooled } from '../wire/lent.ts';
import type { BlockDevice, IoContext } from './device.ts';

/** Fills `into`, which is of `pool`, and gives it back there when that fails. */
export async function readPooled(
  device: BlockDevice,
  offset: number,
  into: Buffer,
  pool: BufferPool,
  io: IoContext,
): Promise<Lent> {
  try {
    await device.read(offset, into, io);
  } catch (error) {
    pool.give(into);
    throw error;
  }
  return pooled(pool, into);
}
