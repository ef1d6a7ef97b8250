import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { type Clock, every, type Timer } from '#core/clock.ts';

/** A period counts against the client when it was its turn for this share of it. */
const WAITED_SHARE = 0.9;

interface StallLimits {
  readonly stallMs: number;
  readonly stallBytes: number;
}

/**
 * The client of one data request: whether it is still there, and whether it moves. A client that we wait for and that
 * moves less than the floor is cut off; while we wait for the device instead, nothing is held against it.
 */
export class ClientWatch {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  readonly #timer: Timer;
  readonly #listeners: (() => void)[] = [];
  #movedBytes = 0;
  #waitedMs = 0;
  #waitingSinceMs: number | null = null;
  #stalled = false;

  constructor(request: IncomingMessage, clock: Clock, limits: StallLimits) {
    this.#socket = request.socket;
    this.#clock = clock;
    // Pipelined requests share a socket; `dataRequestsMax` bounds how many listen to it.
    this.#socket.setMaxListeners(0);
    this.#socket.once('close', this.#onClose);
    if (this.#socket.destroyed) this.#onClose();
    this.#timer = every(clock, limits.stallMs, () => this.#check(limits));
  }

  get gone(): boolean {
    return this.#abort.signal.aborted;
  }

  /** It was cut off because it did not move. */
  get stalled(): boolean {
    return this.#stalled;
  }

  /** Aborted when the connection is closed. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Called once when the connection is closed, at once when it is already. */
  onGone(fn: () => void): void {
    if (this.gone) fn();
    else this.#listeners.push(fn);
  }

  /** The client sent or took bytes. */
  progress(bytes: number): void {
    this.#movedBytes += bytes;
  }

  /** From here on the next step is the client's. */
  waitForClient(): void {
    this.#waitingSinceMs ??= this.#clock.nowMs();
  }

  /** From here on it is not: what the client does not do meanwhile is not held against it. */
  waitForDevice(): void {
    if (this.#waitingSinceMs === null) return;
    this.#waitedMs += this.#clock.nowMs() - this.#waitingSinceMs;
    this.#waitingSinceMs = null;
  }

  /** Cuts the connection: the only honest end of a body that cannot be completed. */
  cut(): void {
    this.#socket.destroy();
  }

  close(): void {
    this.#timer.cancel();
    this.#socket.off('close', this.#onClose);
  }

  #check(limits: StallLimits): void {
    const wasWaiting = this.#waitingSinceMs !== null;
    this.waitForDevice();
    if (this.#waitedMs >= limits.stallMs * WAITED_SHARE && this.#movedBytes < limits.stallBytes) {
      this.#stalled = true;
      this.cut();
    }
    this.#waitedMs = 0;
    this.#movedBytes = 0;
    if (wasWaiting) this.waitForClient();
  }

  #onClose = (): void => {
    if (this.gone) return;
    this.#abort.abort(new Error('the client closed the connection'));
    for (const fn of this.#listeners.splice(0)) fn();
  };
}
