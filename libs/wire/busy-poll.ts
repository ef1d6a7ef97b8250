import type { Workload } from '../core/workload.ts';

/**
 * With more requests under way than this there is always something to do, or throughput matters more than the time of one;
 * a processor that looks for the next event would be one taken from whoever has to cause it.
 */
const INFLIGHT_MAX = 2;

export interface BusyPollOptions {
  /** How long after the last event the next one is looked for. */
  readonly windowMs: number;
  readonly workload: Workload;
  readonly nowMs: () => number;
  /** Calls back after the event loop has looked once for events. */
  readonly nextTurn: (fn: () => void) => void;
}

/**
 * Keeps the event loop looking for a short while after something arrived, where it would else go to sleep: to be woken up
 * costs more than the time of a local request, on both sides, and once for each process that it passes.
 */
export class BusyPoll {
  readonly #options: BusyPollOptions;
  readonly #look = (): void => this.#turn();
  #untilMs = 0;
  #looking = false;

  constructor(options: BusyPollOptions) {
    this.#options = options;
  }

  /** Something arrived. */
  heard(): void {
    const { windowMs, workload, nowMs, nextTurn } = this.#options;
    if (workload.inflight > INFLIGHT_MAX) return;
    this.#untilMs = nowMs() + windowMs;
    if (this.#looking) return;
    this.#looking = true;
    nextTurn(this.#look);
  }

  #turn(): void {
    const { workload, nowMs, nextTurn } = this.#options;
    if (workload.inflight <= INFLIGHT_MAX && nowMs() < this.#untilMs) nextTurn(this.#look);
    else this.#looking = false;
  }
}
