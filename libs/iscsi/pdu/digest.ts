import { crc32c } from '../../wire/crc32c.ts';
import { BHS_BYTES } from './bhs.ts';

/** The header and data digests (§11.2.3): CRC32C, low byte first (§13.1). */
export const DIGEST_BYTES = 4;

/** A header with its digest, where no additional header segment stands between. */
export const SEALED_BHS_BYTES = BHS_BYTES + DIGEST_BYTES;

/** Names of §13.1. */
export const Digest = { None: 'None', Crc32c: 'CRC32C' } as const;

/** CRC32C of `length` bytes from `at` on; `seed` is that of the bytes before them. */
export function digestOf(buffer: Uint8Array, at: number, length: number, seed = 0): number {
  return crc32c(buffer.subarray(at, at + length), seed);
}

export function putDigest(buffer: Buffer, at: number, digest: number): void {
  buffer[at] = digest;
  buffer[at + 1] = digest >>> 8;
  buffer[at + 2] = digest >>> 16;
  buffer[at + 3] = digest >>> 24;
}

/** Whether the four bytes at `at` are this digest. */
export function isDigest(buffer: Buffer, at: number, digest: number): boolean {
  return (
    buffer[at] === (digest & 0xff) &&
    buffer[at + 1] === ((digest >>> 8) & 0xff) &&
    buffer[at + 2] === ((digest >>> 16) & 0xff) &&
    buffer[at + 3] === digest >>> 24
  );
}

/** Writes the digest of the basic header segment at `at` behind it. */
export function sealHeader(buffer: Buffer, at: number): void {
  putDigest(buffer, at + BHS_BYTES, digestOf(buffer, at, BHS_BYTES));
}
