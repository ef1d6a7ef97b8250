import { protocolError } from './errors.ts';

/** Pieces that do not touch each other, of one command. */
const PIECES_MAX = 4096;

interface Piece {
  from: number;
  to: number;
}

/**
 * Which bytes of a command came or were asked for, where that may be in any order (DataPDUInOrder=No or
 * DataSequenceInOrder=No, §13.18).
 */
export class ByteRanges {
  #pieces: Piece[] = [];

  overlaps(offset: number, length: number): boolean {
    return length > 0 && this.#pieces.some((p) => offset < p.to && p.from < offset + length);
  }

  /** No byte comes twice: then the sum of what came says whether all did. */
  add(offset: number, length: number): void {
    if (length === 0) return;
    if (this.overlaps(offset, length)) {
      throw protocolError(`Data-In at ${offset} brings bytes again (§11.7.6)`);
    }
    const to = offset + length;
    const at = this.#pieces.findIndex((piece) => piece.from >= to);
    const next = at < 0 ? this.#pieces.length : at;
    const before = this.#pieces[next - 1];
    const after = this.#pieces[next];
    if (before?.to === offset) {
      before.to = to;
      if (after?.from === to) {
        before.to = after.to;
        this.#pieces.splice(next, 1);
      }
    } else if (after?.from === to) after.from = offset;
    else {
      if (this.#pieces.length >= PIECES_MAX) throw tooMany();
      this.#pieces.splice(next, 0, { from: offset, to });
    }
  }

  /** Takes bytes that may be in it already. Returns how many were not. */
  cover(offset: number, length: number): number {
    if (length === 0) return 0;
    const end = offset + length;
    const whole = { from: offset, to: end };
    const apart: Piece[] = [];
    let fresh = length;
    for (const piece of this.#pieces) {
      if (piece.to < offset || end < piece.from) {
        apart.push(piece);
        continue;
      }
      fresh -= Math.min(piece.to, end) - Math.max(piece.from, offset);
      whole.from = Math.min(whole.from, piece.from);
      whole.to = Math.max(whole.to, piece.to);
    }
    if (apart.length >= PIECES_MAX) throw tooMany();
    const at = apart.findIndex(({ from }) => from > whole.from);
    apart.splice(at < 0 ? apart.length : at, 0, whole);
    this.#pieces = apart;
    return fresh;
  }
}

function tooMany(): Error {
  return protocolError(`more than ${PIECES_MAX} pieces of a command (§13.18)`);
}
