import type { OutQueue } from '../wire/out-queue.ts';
import { protocolError } from './errors.ts';

/** Answers that may wait in the socket of one connection; a target that does not read them is given up. */
const UNSENT_ANSWERS_MAX = 256;

/** Counts what a target makes us send by what it sends: answers to its pings, acknowledgements, requests that it wishes for. */
export class UnsentAnswers {
  /** The batch with the last of them, and how many the socket held at most. */
  #seq = 0;
  #count = 0;

  /** Before one more is put into `out`. Throws when the target leaves too many unread. */
  add(out: OutQueue): void {
    if (out.flushedSeq >= this.#seq) this.#count = 0;
    this.#count += 1;
    this.#seq = out.seq;
    if (this.#count > UNSENT_ANSWERS_MAX) {
      throw protocolError('the target sends on and on, and does not read our answers');
    }
  }
}
