import type { Timer } from '../core/clock.ts';

interface Stoppable {
  stop(): Promise<void>;
}

/** All that an actor has started since it was last initialised, and that ends with it. */
export class Life {
  readonly #abort = new AbortController();
  readonly #timers = new Set<Timer>();
  readonly #cleanups: (() => void)[] = [];
  readonly #children = new Map<string, Stoppable>();

  get ended(): boolean {
    return this.#abort.signal.aborted;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get children(): ReadonlyMap<string, Stoppable> {
    return this.#children;
  }

  addTimer(timer: Timer): void {
    this.#timers.add(timer);
  }

  removeTimer(timer: Timer): void {
    this.#timers.delete(timer);
  }

  addCleanup(fn: () => void): void {
    if (this.ended) fn();
    else this.#cleanups.push(fn);
  }

  addChild(name: string, child: Stoppable): void {
    this.#children.set(name, child);
  }

  removeChild(name: string): void {
    this.#children.delete(name);
  }

  /** Tells what is under way to stop; nothing new begins. */
  abort(reason: Error): void {
    if (this.ended) return;
    this.#abort.abort(reason);
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
  }

  /** Newest first. A cleanup that throws does not keep the others from running; gives the first error. */
  async end(reason: Error): Promise<unknown> {
    this.abort(reason);
    for (const child of [...this.#children.values()].reverse()) await child.stop();
    this.#children.clear();
    let failure: unknown = null;
    for (const cleanup of this.#cleanups.splice(0).reverse()) {
      try {
        cleanup();
      } catch (error) {
        failure ??= error;
      }
    }
    return failure;
  }
}
