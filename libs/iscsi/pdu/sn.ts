/**
 * Serial numbers of 32 bits (RFC 7143 §4.2.2.1, RFC 1982). The hot path keeps them as signed 32-bit integers, which
 * V8 stores without a heap number; `unsigned` gives what people and codecs see.
 */

/** a - b in serial arithmetic: positive when a comes after b. */
export function snDiff(a: number, b: number): number {
  return (a - b) | 0;
}

export function snNext(sn: number): number {
  return (sn + 1) | 0;
}

export function unsigned(sn: number): number {
  return sn >>> 0;
}
