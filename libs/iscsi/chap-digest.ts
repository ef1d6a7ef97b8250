import { createHash } from 'node:crypto';
import type { Secret } from '../security/secret.ts';
import { parseBinary } from './text.ts';

/** Algorithms of CHAP_A: 5 is of RFC 1994, the others are registered with IANA for PPP authentication. */
export const chapAlgorithms = {
  md5: { number: 5, digestBytes: 16 },
  sha1: { number: 6, digestBytes: 20 },
  sha256: { number: 7, digestBytes: 32 },
  'sha3-256': { number: 8, digestBytes: 32 },
} as const;

export type ChapAlgorithm = keyof typeof chapAlgorithms;

/** §12.1.3: binary values have at most 1024 bytes. */
export const CHAP_BINARY_BYTES_MAX = 1024;

/** "0x" and two digits for each byte; base64 is shorter. */
const BINARY_CHARS_MAX = 2 + 2 * CHAP_BINARY_BYTES_MAX;

export function algorithmOf(number: number | null): ChapAlgorithm | null {
  const found = Object.entries(chapAlgorithms).find(([, known]) => known.number === number);
  return found === undefined ? null : (found[0] as ChapAlgorithm);
}

/** CHAP_R: the hash over identifier, secret and challenge (RFC 1994 §4.1). */
export function chapResponse(
  algorithm: ChapAlgorithm,
  id: number,
  secret: Secret,
  challenge: Uint8Array,
): Buffer {
  const hash = createHash(algorithm).update(Uint8Array.of(id));
  secret.use((bytes) => hash.update(bytes));
  return hash.update(challenge).digest();
}

/** CHAP_C or CHAP_R in hexadecimal or base64 (§6.1); null when it is neither, empty, or too long. */
export function parseChapBinary(text: string): Buffer | null {
  if (text.length > BINARY_CHARS_MAX) return null;
  const bytes = parseBinary(text);
  if (bytes === null || bytes.length === 0 || bytes.length > CHAP_BINARY_BYTES_MAX) return null;
  return bytes;
}

export function isBase64(text: string): boolean {
  return /^0[bB]/.test(text);
}

/** Hexadecimal is what every target understands; base64 is for those that use it themselves. */
export function formatChapBinary(bytes: Buffer, base64 = false): string {
  return base64 ? `0b${bytes.toString('base64')}` : `0x${bytes.toString('hex')}`;
}
