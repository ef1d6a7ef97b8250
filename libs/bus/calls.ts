import type { Clock } from '../core/clock.ts';
import type { ErrorFields } from '../core/errors.ts';
import type { RequestOptions } from './bus.ts';
import { busErrors } from './errors.ts';
import type { StatusCell } from './listeners.ts';

/** Calls of one client that wait for an answer; more are refused. */
export const CALLS_INFLIGHT_MAX = 4096;

/** What one client has asked the other end of its connection and waits for. */
export class Calls {
  readonly #clock: Clock;
  readonly #status: StatusCell;
  readonly #inFlight = new Set<(error: unknown) => void>();

  constructor(clock: Clock, status: StatusCell) {
    this.#clock = clock;
    this.#status = status;
  }

  /** Starts something; it is over when it resolves, rejects, times out, is aborted, or the connection breaks. */
  run<T>(
    options: RequestOptions,
    fields: ErrorFields,
    start: (
      resolve: (value: T) => void,
      reject: (error: unknown) => void,
      /** False when nobody waits any more: what has not left yet must not leave. */
      waits: () => boolean,
    ) => void,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const { signal, timeoutMs } = options;
      if (this.#status.status !== 'connected') {
        // It never left: that is certain.
        return reject(busErrors.make('BUS_DISCONNECTED', { outcome: 'not-executed', fields }));
      }
      if (signal?.aborted) return reject(signal.reason);
      if (this.#inFlight.size >= CALLS_INFLIGHT_MAX) {
        return reject(busErrors.make('BUS_OVERLOADED', { fields }));
      }
      const end = (): void => {
        timer.cancel();
        this.#inFlight.delete(fail);
        signal?.removeEventListener('abort', onAbort);
      };
      const fail = (error: unknown): void => {
        end();
        reject(error);
      };
      const onAbort = (): void => fail(signal?.reason);
      const timer = this.#clock.after(timeoutMs, () => {
        fail(busErrors.make('BUS_TIMEOUT', { fields }));
      });
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#inFlight.add(fail);
      const done = (value: T): void => {
        end();
        resolve(value);
      };
      start(done, fail, () => this.#inFlight.has(fail));
    });
  }

  /** The connection is gone: nobody knows what became of what was under way. */
  breakOff(): void {
    for (const fail of [...this.#inFlight]) fail(busErrors.make('BUS_DISCONNECTED'));
  }
}
