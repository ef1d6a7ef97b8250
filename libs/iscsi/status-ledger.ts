/** Status numbers beyond the first missing one that are kept apart; more is a failed connection (§4.2.2.2). */
const AHEAD_MAX = 1024;
const AHEAD_MASK = AHEAD_MAX - 1;

const Mark = { Missing: 0, Arrived: 1, Settled: 2 } as const;

export const Arrival = { New: 0, Duplicate: 1, Beyond: 2 } as const;
export type Arrival = (typeof Arrival)[keyof typeof Arrival];

/** Numbers in a row. */
export interface Run {
  readonly from: number;
  readonly length: number;
}

/**
 * The status numbers of one connection at ErrorRecoveryLevel 1 and above (RFC 7143 §4.2.2.2): which came, which are missing, and
 * up to where they may be acknowledged. A status is settled once nothing of its command is missing any more.
 */
export class StatusLedger {
  /** The first one that is not settled: what ExpStatSN says. Signed. */
  expected: number;
  /** One past the last that is known to exist. */
  #end: number;
  readonly #marks = new Uint8Array(AHEAD_MAX);

  constructor(expected: number) {
    this.expected = expected | 0;
    this.#end = this.expected;
  }

  /** What `arrive` would say. */
  look(statSn: number): Arrival {
    const ahead = (statSn - this.expected) | 0;
    if (ahead < 0) return Arrival.Duplicate;
    if (ahead >= AHEAD_MAX) return Arrival.Beyond;
    return this.#marks[statSn & AHEAD_MASK] === Mark.Missing ? Arrival.New : Arrival.Duplicate;
  }

  arrive(statSn: number): Arrival {
    const arrival = this.look(statSn);
    if (arrival !== Arrival.New) return arrival;
    this.#marks[statSn & AHEAD_MASK] = Mark.Arrived;
    this.exists(statSn);
    return arrival;
  }

  /** One that arrived may be acknowledged, as soon as those before it may. Returns `expected`. */
  settle(statSn: number): number {
    this.#marks[statSn & AHEAD_MASK] = Mark.Settled;
    while (this.#marks[this.expected & AHEAD_MASK] === Mark.Settled) {
      this.#marks[this.expected & AHEAD_MASK] = Mark.Missing;
      this.expected = (this.expected + 1) | 0;
    }
    return this.expected;
  }

  /** One that arrived is to come again. */
  forget(statSn: number): void {
    this.#marks[statSn & AHEAD_MASK] = Mark.Missing;
  }

  /** The target has sent this one. False: so far ahead that the connection has failed. */
  exists(statSn: number): boolean {
    const ahead = (statSn - this.expected) | 0;
    if (ahead >= AHEAD_MAX) return false;
    if (((statSn - this.#end) | 0) >= 0) this.#end = (statSn + 1) | 0;
    return true;
  }

  /** All that the target has sent came. */
  get complete(): boolean {
    if (this.expected === this.#end) return true;
    return this.missing().length === 0;
  }

  /** What was sent and did not come. */
  missing(): Run[] {
    const runs: Run[] = [];
    let from = 0;
    let length = 0;
    for (let sn = this.expected; sn !== this.#end; sn = (sn + 1) | 0) {
      if (this.#marks[sn & AHEAD_MASK] !== Mark.Missing) {
        if (length > 0) runs.push({ from, length });
        length = 0;
        continue;
      }
      if (length === 0) from = sn;
      length += 1;
    }
    if (length > 0) runs.push({ from, length });
    return runs;
  }
}
