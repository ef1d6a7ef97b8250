import type { Clock, Timer } from '../core/clock.ts';
import type { Connection } from './connection.ts';
import type { SessionTimeouts } from './session-options.ts';

/**
 * A look that comes this late says that we stood still ourselves. Timers run before what has arrived meanwhile is read, so
 * the answer may be there already.
 */
const OWN_STALL_MS = 250;

/** Watches one connection: any byte that arrives is life, and only silence is pinged. */
export class Keepalive {
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #timeouts: SessionTimeouts;
  readonly #ping: () => void;
  readonly #onSilent: () => void;
  #timer: Timer | null = null;
  #dueMs = 0;
  #lastRxEvents = -1;
  #pinging = false;

  constructor(
    connection: Connection,
    clock: Clock,
    timeouts: SessionTimeouts,
    on: { readonly ping: () => void; readonly silent: () => void },
  ) {
    this.#connection = connection;
    this.#clock = clock;
    this.#timeouts = timeouts;
    this.#ping = on.ping;
    this.#onSilent = on.silent;
    this.#arm(timeouts.nopIntervalMs);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #arm(delayMs: number): void {
    this.#dueMs = this.#clock.nowMs() + delayMs;
    this.#timer = this.#clock.after(delayMs, () => this.#look());
  }

  #look(): void {
    const { rxEvents } = this.#connection;
    const alive = rxEvents !== this.#lastRxEvents;
    this.#lastRxEvents = rxEvents;
    if (alive) {
      this.#pinging = false;
      this.#arm(this.#timeouts.nopIntervalMs);
      return;
    }
    if (this.#pinging && this.#clock.nowMs() - this.#dueMs > OWN_STALL_MS) {
      this.#arm(this.#timeouts.nopTimeoutMs);
      return;
    }
    if (this.#pinging) {
      this.stop();
      this.#onSilent();
      return;
    }
    this.#pinging = true;
    this.#arm(this.#timeouts.nopTimeoutMs);
    this.#ping();
  }
}
