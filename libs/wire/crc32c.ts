import { createRequire } from 'node:module';

/** CRC32C, reflected (RFC 7143 §13.1: the polynomial 0x11edc6f41). */
const POLYNOMIAL = 0x82f63b78;

/** A call into native code costs about 0.6 µs: below this many bytes the tables are quicker. */
const NATIVE_BYTES_MIN = 256;

const SLICES = 8;

/** TABLES[k][b]: the register after byte b, followed by k zero bytes. */
const TABLES: readonly Uint32Array[] = makeTables();

function makeTables(): Uint32Array[] {
  const tables = Array.from({ length: SLICES }, () => new Uint32Array(256));
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[0]![byte] = crc >>> 0;
  }
  for (let slice = 1; slice < SLICES; slice++) {
    for (let byte = 0; byte < 256; byte++) {
      const before = tables[slice - 1]![byte]!;
      tables[slice]![byte] = (before >>> 8) ^ tables[0]![before & 0xff]!;
    }
  }
  return tables;
}

/** The checksum in JavaScript, eight bytes a step. `seed` is the checksum of what stands before. */
export function crc32cTables(bytes: Uint8Array, seed = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  let crc = ~seed;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    const low =
      crc ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    crc =
      t7[low & 0xff]! ^
      t6[(low >>> 8) & 0xff]! ^
      t5[(low >>> 16) & 0xff]! ^
      t4[low >>> 24]! ^
      t3[bytes[at + 4]!]! ^
      t2[bytes[at + 5]!]! ^
      t1[bytes[at + 6]!]! ^
      t0[bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}

type Crc32c = (bytes: Uint8Array, seed?: number) => number;

/** The optional native package; without a binary for this platform the tables do all the work. */
function loadNative(): Crc32c | null {
  try {
    return (createRequire(import.meta.url)('@node-rs/crc32') as { crc32c: Crc32c }).crc32c;
  } catch {
    return null;
  }
}

const native = loadNative();

export const hasNativeCrc32c = native !== null;

/**
 * CRC32C of `bytes`; `seed` is the checksum of the bytes before them, so that a digest may be made of pieces. On the wire
 * of iSCSI it stands low byte first (RFC 7143 §13.1, appendix A.4).
 */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  if (native === null || bytes.length < NATIVE_BYTES_MIN) return crc32cTables(bytes, seed);
  return native(bytes, seed);
}
