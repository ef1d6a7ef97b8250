/** Big endian fields of CDBs and parameter data. LBAs are safe integers inside, 64 bits on the wire. */

const TWO32 = 2 ** 32;

export function putU16(into: Uint8Array, at: number, value: number): void {
  into[at] = value >>> 8;
  into[at + 1] = value;
}

export function putU32(into: Uint8Array, at: number, value: number): void {
  into[at] = value >>> 24;
  into[at + 1] = value >>> 16;
  into[at + 2] = value >>> 8;
  into[at + 3] = value;
}

export function putU64(into: Uint8Array, at: number, value: number): void {
  putU32(into, at, Math.floor(value / TWO32));
  putU32(into, at + 4, value % TWO32);
}

export function u16(from: Uint8Array, at: number): number {
  return (from[at]! << 8) | from[at + 1]!;
}

export function u32(from: Uint8Array, at: number): number {
  return ((from[at]! << 24) | (from[at + 1]! << 16) | (from[at + 2]! << 8) | from[at + 3]!) >>> 0;
}

/** Null above 2^53 - 1. */
export function u64(from: Uint8Array, at: number): number | null {
  const value = u32(from, at) * TWO32 + u32(from, at + 4);
  return Number.isSafeInteger(value) ? value : null;
}

/** Reservation keys: 64 bits without a meaning as a number. */
export function key64(from: Uint8Array, at: number): bigint {
  return (BigInt(u32(from, at)) << 32n) | BigInt(u32(from, at + 4));
}

export function putKey64(into: Uint8Array, at: number, key: bigint): void {
  putU32(into, at, Number((key >> 32n) & 0xffffffffn));
  putU32(into, at + 4, Number(key & 0xffffffffn));
}

/** Fixed-width ASCII without its padding; what is not printable becomes "?". */
export function ascii(from: Uint8Array, at: number, length: number): string {
  let text = '';
  for (const byte of from.subarray(at, at + length)) {
    if (byte === 0) break;
    text += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '?';
  }
  return text.trim();
}

/** Zeroes the CDB and writes its operation code. */
export function startCdb(into: Uint8Array, at: number, op: number): void {
  into.fill(0, at, at + 16);
  into[at] = op;
}
