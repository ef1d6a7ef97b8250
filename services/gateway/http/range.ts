import { HttpProblem } from './problem.ts';

/** Bytes of a volume: `length` of them from `offset`. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** Ranges in one header beyond this many are not even parsed. */
const HEADER_CHARS_MAX = 1000;

/**
 * What a Range header asks of a volume (RFC 9110 sections 14.1.2 and 14.2). Null: no range, or one in a unit that
 * must be ignored, so the whole volume is meant. An end past the volume is clamped.
 */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange | null {
  if (header === undefined) return null;
  const unit = /^\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=(.*)$/s.exec(header);
  if (unit === null || header.length > HEADER_CHARS_MAX) throw new HttpProblem('bad-range');
  if (unit[1]!.toLowerCase() !== 'bytes') return null;
  // Empty list elements are allowed and mean nothing (RFC 9110 section 5.6.1.2).
  const specs = unit[2]!
    .split(',')
    .map((spec) => spec.trim())
    .filter((spec) => spec !== '');
  if (specs.length === 0) throw new HttpProblem('bad-range');
  if (specs.length > 1) {
    // Ignoring the header would be legal too, but would start a body of the size of the volume.
    throw new HttpProblem('multiple-ranges', { headers: unsatisfied(sizeBytes) });
  }
  return oneRange(specs[0]!, sizeBytes);
}

function oneRange(spec: string, sizeBytes: number): ByteRange {
  const match = /^(\d*)-(\d*)$/.exec(spec);
  if (match === null) throw new HttpProblem('bad-range');
  const [, first, last] = match as unknown as [string, string, string];
  if (first === '' && last === '') throw new HttpProblem('bad-range');
  if (first === '') {
    const length = Math.min(Number(last), sizeBytes);
    if (length === 0) throw notSatisfiable(sizeBytes, { suffixLength: 0 });
    return { offset: sizeBytes - length, length };
  }
  const offset = Number(first);
  const end = last === '' ? sizeBytes : Number(last) + 1;
  // A last position below the first makes the header invalid, not unsatisfiable.
  if (end <= offset && last !== '') throw new HttpProblem('bad-range');
  if (offset >= sizeBytes) throw notSatisfiable(sizeBytes, { offset });
  return { offset, length: Math.min(end, sizeBytes) - offset };
}

/** What a Content-Range header says of a body (RFC 9110 section 14.4). */
export function parseContentRange(header: string, sizeBytes: number): ByteRange {
  const match = /^\s*bytes\s+(\d{1,20})-(\d{1,20})\/(\d{1,20}|\*)\s*$/i.exec(header);
  if (match === null) throw new HttpProblem('bad-content-range');
  const [, first, last, size] = match as unknown as [string, string, string, string];
  const offset = Number(first);
  const length = Number(last) - offset + 1;
  if (length < 1) throw new HttpProblem('bad-content-range');
  if (size !== '*' && Number(size) !== sizeBytes) {
    throw new HttpProblem('size-mismatch', { fields: { sizeBytes } });
  }
  if (offset + length > sizeBytes) throw notSatisfiable(sizeBytes, { offset, length });
  return { offset, length };
}

export function contentRange(range: ByteRange, sizeBytes: number): string {
  return `bytes ${range.offset}-${range.offset + range.length - 1}/${sizeBytes}`;
}

export function notSatisfiable(sizeBytes: number, fields: Record<string, number>): HttpProblem {
  return new HttpProblem('range-not-satisfiable', {
    headers: unsatisfied(sizeBytes),
    fields: { sizeBytes, ...fields },
  });
}

function unsatisfied(sizeBytes: number): Record<string, string> {
  return { 'content-range': `bytes */${sizeBytes}` };
}

/** Writes go block by block; a range that cuts through a block is refused rather than rounded. */
export function checkAligned(range: ByteRange, blockBytes: number): void {
  if (range.offset % blockBytes === 0 && range.length % blockBytes === 0) return;
  throw new HttpProblem('alignment', { fields: { ...range, blockBytes } });
}
