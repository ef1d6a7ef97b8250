/** An armed timer. `cancel` may be called at any time, any number of times. */
export interface Timer {
  cancel(): void;
}

/**
 * Time as a dependency, so that the whole cluster can run under a virtual clock.
 * `nowMs` is monotonic and says nothing about the date; `wallMs` is the date and may jump.
 */
export interface Clock {
  nowMs(): number;
  wallMs(): number;
  /** Runs `fn` once after `delayMs`. */
  after(delayMs: number, fn: () => void): Timer;
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, fn) {
    const handle = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
};

/** Runs `fn` every `periodMs`, first after one period, until cancelled. The next run is armed after `fn` returned. */
export function every(clock: Clock, periodMs: number, fn: () => void): Timer {
  let stopped = false;
  let timer: Timer;
  const tick = (): void => {
    fn();
    if (!stopped) timer = clock.after(periodMs, tick);
  };
  timer = clock.after(periodMs, tick);
  return {
    cancel() {
      stopped = true;
      timer.cancel();
    },
  };
}

export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
