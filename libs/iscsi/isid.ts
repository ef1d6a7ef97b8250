import { createHash } from 'node:crypto';
import { assert } from '../core/assert.ts';

/** §11.12.5: T=10b, "random": 24 bits of our choice and a 16-bit qualifier follow. */
const FORMAT_RANDOM = 0x80;

/**
 * The ISID of a path slot: the same in every process and after every restart, so that whoever holds the slot logs in
 * as the same initiator port and reinstates the session of its predecessor.
 */
export function makeIsid(clusterId: string, targetName: string, slot: number): Buffer {
  assert(Number.isInteger(slot) && slot >= 0 && slot <= 0xffff, 'a slot number has 16 bits');
  const hash = createHash('sha256').update(`${clusterId}\0${targetName}`).digest();
  return Buffer.from([FORMAT_RANDOM, hash[0]!, hash[1]!, hash[2]!, slot >>> 8, slot & 0xff]);
}
