import { type Clock, every, type Timer } from '../core/clock.ts';

const PING_PERIOD_MS = 500;

/** Pings that may go unanswered before the peer counts as hung. */
const PING_MISSES_MAX = 3;

/** A tick that comes this late says that we were stalled ourselves, so silence of the peer proves nothing. */
const OWN_STALL_MS = 250;

export interface PeerWatchOptions {
  readonly clock: Clock;
  readonly ping: () => void;
  /** Nothing was heard for that long; pings end. */
  readonly silent: (silentMs: number) => void;
}

/** Pings the peer of a link and notices when it hangs: whatever arrives is a sign of life. */
export class PeerWatch {
  readonly #options: PeerWatchOptions;
  readonly #timer: Timer;
  #heardMs: number;
  #tickMs: number;

  constructor(options: PeerWatchOptions) {
    this.#options = options;
    this.#heardMs = options.clock.nowMs();
    this.#tickMs = this.#heardMs;
    this.#timer = every(options.clock, PING_PERIOD_MS, () => this.#tick());
  }

  heard(): void {
    this.#heardMs = this.#options.clock.nowMs();
  }

  stop(): void {
    this.#timer.cancel();
  }

  #tick(): void {
    const { clock, ping, silent } = this.#options;
    const now = clock.nowMs();
    const stalledMs = now - this.#tickMs - PING_PERIOD_MS;
    this.#tickMs = now;
    if (stalledMs > OWN_STALL_MS) this.#heardMs = now;
    const silentMs = now - this.#heardMs;
    if (silentMs <= PING_PERIOD_MS * PING_MISSES_MAX) return ping();
    this.stop();
    silent(silentMs);
  }
}
