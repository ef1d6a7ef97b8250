import { BHS_BYTES, padOf, u24 } from '../pdu/bhs.ts';
import { DIGEST_BYTES, digestOf, putDigest } from '../pdu/digest.ts';
import type { FakeTarget } from './fake-target.ts';

/**
 * Gives the data segments of a fake target their digests, as agreed on with DataDigest=CRC32C (HeaderDigest stays None: the
 * fake reads no digests). Returns what damages the next segment that it sends.
 */
export function withDataDigest(target: FakeTarget): { damageNext: () => void } {
  const plain = target.sendBytes.bind(target);
  let damage = false;
  target.sendBytes = (bytes) => {
    const length = u24(bytes, 5);
    if (length === 0) return plain(bytes);
    const padded = length + padOf(length);
    const sealed = Buffer.alloc(BHS_BYTES + padded + DIGEST_BYTES);
    bytes.copy(sealed);
    putDigest(sealed, BHS_BYTES + padded, digestOf(sealed, BHS_BYTES, padded));
    if (damage) sealed[BHS_BYTES] = sealed[BHS_BYTES]! ^ 0x40;
    damage = false;
    plain(sealed);
  };
  return {
    damageNext: () => {
      damage = true;
    },
  };
}
