import { protocolError } from './errors.ts';

/** Pieces that do not touch each other, of one command. */
const PIECES_MAX = 4096;

interface Piece {
  from: number;
  to: number;
}

/** Which bytes of a command came, where they may come in any order (DataPDUInOrder=No or DataSequenceInOrder=No, §13.18). */
export class ReceivedRanges {
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
      if (this.#pieces.length >= PIECES_MAX) {
        throw protocolError(`more than ${PIECES_MAX} pieces of a command (§13.18)`);
      }
      this.#pieces.splice(next, 0, { from: offset, to });
    }
  }
}
