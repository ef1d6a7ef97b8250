import type { BusStatus, Subscription } from './bus.ts';

/** Who wants to know of changes of `status`, and the status itself. */
export class StatusCell {
  #status: BusStatus;
  readonly #listeners = new Set<(status: BusStatus) => void>();

  constructor(status: BusStatus) {
    this.#status = status;
  }

  get status(): BusStatus {
    return this.#status;
  }

  /** Tells the listeners when it is a change. Closed is the last one. */
  set(status: BusStatus): void {
    if (status === this.#status || this.#status === 'closed') return;
    this.#status = status;
    for (const fn of [...this.#listeners]) fn(status);
  }

  listen(fn: (status: BusStatus) => void): Subscription {
    const own = (status: BusStatus): void => fn(status);
    this.#listeners.add(own);
    return { unsubscribe: () => void this.#listeners.delete(own) };
  }
}
