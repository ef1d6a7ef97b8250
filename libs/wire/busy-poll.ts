import type { Workload } from '../core/workload.ts';

/**
 * With more requests under way than this there is always something to do, or throughput matters more than the time of one;
 * a processor that looks for the next event would be one taken from whoever has to cause it.
 */
const INFLIGHT_MAX = 2;

/** A look takes two microseconds. One that took this long, with nothing to do, was interrupted. */
const STOLEN_MS = 0.02;

/**
 * Interrupts come now and then, on virtual machines most of all. When so large a share of the times between two events has
 * one, somebody else needs the processor, perhaps the one that we wait for.
 */
const STOLEN_SHARE_MAX = 0.25;
const SHARE_OF = 64;

/** Nobody looks for this long then. */
const REST_MS = 50;

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
  /** Something arrived since the last look. */
  #busy = false;
  #lookedMs = 0;
  /** A look was interrupted since something arrived last, and how often that was so of late. */
  #stolen = false;
  #stolenShare = 0;
  #restUntilMs = 0;

  constructor(options: BusyPollOptions) {
    this.#options = options;
  }

  /** Something arrived. */
  heard(): void {
    const { windowMs, workload, nowMs, nextTurn } = this.#options;
    this.#busy = true;
    if (workload.inflight > INFLIGHT_MAX) return;
    const now = nowMs();
    this.#untilMs = now + windowMs;
    if (this.#looking) return this.#count(now);
    if (now < this.#restUntilMs) return;
    this.#looking = true;
    nextTurn(this.#look);
  }

  /** What was looked for has come: was that worth it? */
  #count(now: number): void {
    this.#stolenShare += ((this.#stolen ? 1 : 0) - this.#stolenShare) / SHARE_OF;
    this.#stolen = false;
    if (this.#stolenShare < STOLEN_SHARE_MAX) return;
    this.#stolenShare = 0;
    this.#restUntilMs = now + REST_MS;
  }

  #turn(): void {
    const { workload, nowMs, nextTurn } = this.#options;
    const now = nowMs();
    if (!this.#busy && now - this.#lookedMs > STOLEN_MS) this.#stolen = true;
    this.#busy = false;
    this.#lookedMs = now;
    const on = workload.inflight <= INFLIGHT_MAX && now < this.#untilMs;
    if (on && now >= this.#restUntilMs) nextTurn(this.#look);
    else this.#looking = false;
  }
}
