import { createHash, type Hash } from 'node:crypto';
import { HttpProblem } from './problem.ts';

const SHA256_BYTES = 32;

/**
 * The SHA-256 of a Content-Digest header (RFC 9530 section 2), or null when it has only digests that we do not know,
 * which the RFC lets a recipient ignore.
 */
export function parseContentDigest(header: string | undefined): Buffer | null {
  if (header === undefined) return null;
  let found: Buffer | null = null;
  for (const member of header.split(',')) {
    const match = /^\s*([a-z*][a-z0-9_.*-]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*$/.exec(member);
    if (match === null) throw new HttpProblem('bad-digest');
    if (match[1] !== 'sha-256') continue;
    found = Buffer.from(match[2]!, 'base64');
    if (found.length !== SHA256_BYTES) throw new HttpProblem('bad-digest');
  }
  return found;
}

/** Whether a Want-Content-Digest header asks for SHA-256 (RFC 9530 section 4; a weight of 0 means "not wanted"). */
export function wantsSha256(header: string | undefined): boolean {
  if (header === undefined) return false;
  const match = /(?:^|,)\s*sha-256\s*(?:=\s*(\d+))?\s*(?:,|$)/.exec(header);
  return match !== null && match[1] !== '0';
}

export function sha256(): Hash {
  return createHash('sha256');
}

export function contentDigest(hash: Hash): string {
  return `sha-256=:${hash.digest('base64')}:`;
}

export function checkDigest(hash: Hash, expected: Buffer): void {
  const actual = hash.digest();
  if (actual.equals(expected)) return;
  throw new HttpProblem('digest-mismatch', {
    fields: { expected: expected.toString('base64'), actual: actual.toString('base64') },
  });
}
