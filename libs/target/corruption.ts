import type { Rng } from '../core/rng.ts';
import { At, BHS_BYTES, putU24 } from '../iscsi/pdu/bhs.ts';
import type { Nonsense } from './fault-matches.ts';

const GARBAGE_BYTES = 4096;
const TRUNCATED_BYTES = 20;

/** No opcode of RFC 7143 §11.2.1.2. */
const UNKNOWN_OPCODE = 0x2f;

/** What a broken target sends instead of a PDU of `opcode`. */
export function corruptBytes(kind: Nonsense, opcode: number, rng: Rng): Buffer {
  const header = Buffer.alloc(BHS_BYTES);
  header[At.opcode] = kind === 'unknown-opcode' ? UNKNOWN_OPCODE : opcode;
  header[At.flags] = 0x80;
  switch (kind) {
    case 'garbage': {
      const garbage = Buffer.alloc(GARBAGE_BYTES);
      rng.fill(garbage);
      return garbage;
    }
    case 'oversized':
      putU24(header, At.dataSegmentLength, 0xffffff);
      return header;
    case 'truncated':
      return header.subarray(0, TRUNCATED_BYTES);
    case 'unknown-opcode':
      return header;
  }
}
