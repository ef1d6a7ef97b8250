/** A second signal within this time is the same wish: a terminal and a launcher both pass on one Ctrl-C. */
const SAME_WISH_MS = 500;
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

export interface StopSignals {
  /** Resolves with the first signal's name. */
  readonly first: Promise<string>;
  readonly wasAsked: boolean;
  /** Asks to stop as a signal would. */
  ask(reason: string): void;
  /** Called for a later signal: the user does not want to wait. */
  onSecond(fn: () => void): void;
}

/** Takes over the signals that end a process, so that it can end in order. */
export function stopSignals(nowMs: () => number): StopSignals {
  let resolveFirst: (reason: string) => void;
  const first = new Promise<string>((resolve) => {
    resolveFirst = resolve;
  });
  let askedMs: number | null = null;
  let second: () => void = () => {};
  const ask = (reason: string): void => {
    if (askedMs === null) {
      askedMs = nowMs();
      resolveFirst(reason);
    } else if (nowMs() - askedMs > SAME_WISH_MS) {
      second();
    }
  };
  // Started through a channel, by a supervisor or a launcher: without it there is no reason to live.
  process.on('disconnect', () => {
    if (askedMs === null) ask('the parent is gone');
  });
  for (const signal of SIGNALS) process.on(signal, () => ask(signal));
  return {
    first,
    ask,
    get wasAsked() {
      return askedMs !== null;
    },
    onSecond(fn) {
      second = fn;
    },
  };
}
