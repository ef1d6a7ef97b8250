import type { Clock, Timer } from '#core/clock.ts';
import { errorText } from '#core/errors.ts';

/** First wait before a process that ended is started again; doubles with every end. */
export const RESTART_WAIT_MIN_MS = 200;
export const RESTART_WAIT_MAX_MS = 10_000;
/** A process that lived so long starts anew with the shortest wait. */
export const STABLE_LIFE_MS = 30_000;
/** A process that says nothing for so long hangs, and is killed. */
export const SILENCE_MS = 15_000;
/** How often the silence is looked at. */
const SILENCE_CHECK_MS = 3000;

export interface ExitStatus {
  readonly code: number | null;
  readonly signal: string | null;
}

/** A process as its supervisor sees it. */
export interface ChildHandle {
  readonly pid: number;
  kill(signal: 'SIGTERM' | 'SIGKILL'): void;
  /** Asks it to finish its work and end. */
  drain(): void;
  /** Called once. */
  onExit(fn: (status: ExitStatus) => void): void;
  /** Whatever it says; that it says something shows that it lives. */
  onMessage(fn: (message: unknown) => void): void;
}

export interface SupervisedLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}

export interface SupervisedOptions {
  readonly id: string;
  readonly clock: Clock;
  readonly log: SupervisedLog;
  /** Throws when the process cannot be made at all. */
  start(): ChildHandle;
  onMessage(message: unknown): void;
  /** It has a new pid, or none while it waits. */
  onChange?(): void;
}

/** Keeps one process alive: starts it again with growing waits, and kills it when it hangs. */
export class Supervised {
  readonly id: string;
  readonly #options: SupervisedOptions;
  readonly #clock: Clock;
  #child: ChildHandle | null = null;
  #timer: Timer | null = null;
  #silenceTimer: Timer | null = null;
  #waitMs = RESTART_WAIT_MIN_MS;
  #startedMs = 0;
  #heardMs = 0;
  #restarts = 0;
  #isStopping = false;
  #whenStopped: (() => void)[] = [];

  constructor(options: SupervisedOptions) {
    this.id = options.id;
    this.#options = options;
    this.#clock = options.clock;
  }

  /** Null while it is not running. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  get restarts(): number {
    return this.#restarts;
  }

  start(): void {
    this.#timer = null;
    if (this.#isStopping) return;
    this.#startedMs = this.#clock.nowMs();
    this.#heardMs = this.#startedMs;
    let child: ChildHandle;
    try {
      child = this.#options.start();
    } catch (error) {
      this.#options.log.warn({ id: this.id, error: errorText(error) }, 'cannot start the process');
      this.#restartLater();
      return;
    }
    this.#child = child;
    child.onExit((status) => {
      if (this.#child === child) this.#ended(status);
    });
    child.onMessage((message) => {
      if (this.#child !== child) return;
      this.#heardMs = this.#clock.nowMs();
      this.#options.onMessage(message);
    });
    this.#watchSilence(child);
    this.#options.onChange?.();
  }

  /** Drains it, kills it after `graceMs`; resolves when it is gone and will not come back. */
  stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    this.#timer?.cancel();
    const child = this.#child;
    if (child === null) return Promise.resolve();
    const stopped = new Promise<void>((resolve) => this.#whenStopped.push(resolve));
    this.#timer = this.#clock.after(graceMs, () => {
      this.#options.log.warn({ id: this.id, pid: child.pid, graceMs }, 'does not end: killed');
      child.kill('SIGKILL');
    });
    child.drain();
    return stopped;
  }

  /** At once, for good. */
  kill(): void {
    this.#isStopping = true;
    this.#timer?.cancel();
    this.#child?.kill('SIGKILL');
  }

  #ended(status: ExitStatus): void {
    const lifeMs = Math.round(this.#clock.nowMs() - this.#startedMs);
    this.#child = null;
    this.#silenceTimer?.cancel();
    this.#options.onChange?.();
    if (this.#isStopping) {
      this.#timer?.cancel();
      for (const resolve of this.#whenStopped.splice(0)) resolve();
      return;
    }
    this.#options.log.warn(
      { id: this.id, lifeMs, ...status },
      'process ended: it is started again',
    );
    if (lifeMs >= STABLE_LIFE_MS) this.#waitMs = RESTART_WAIT_MIN_MS;
    this.#restartLater();
  }

  #restartLater(): void {
    this.#restarts += 1;
    this.#timer = this.#clock.after(this.#waitMs, () => this.start());
    this.#waitMs = Math.min(this.#waitMs * 2, RESTART_WAIT_MAX_MS);
  }

  #watchSilence(child: ChildHandle): void {
    const armedMs = this.#clock.nowMs();
    this.#silenceTimer = this.#clock.after(SILENCE_CHECK_MS, () => {
      const nowMs = this.#clock.nowMs();
      // Late ourselves (stopped, or starved of CPU): what the child said in that time is still unread.
      if (nowMs - armedMs > 2 * SILENCE_CHECK_MS) this.#heardMs = nowMs;
      const silentMs = Math.round(nowMs - this.#heardMs);
      if (silentMs >= SILENCE_MS) {
        this.#options.log.warn({ id: this.id, pid: child.pid, silentMs }, 'process hangs: killed');
        child.kill('SIGKILL');
        return;
      }
      this.#watchSilence(child);
    });
  }
}
