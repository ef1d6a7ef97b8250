import { errorText } from '#core/errors.ts';
import type { Logger } from '#telemetry/log.ts';

/**
 * Why paths of a volume are not in service: for the status, and for the log. A path is tried again and again, so a
 * reason is a warning when it is new, and a detail when it comes again.
 */
export class PathTroubles {
  readonly #log: Logger;
  readonly #texts = new Map<number, string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  lost(slot: number, cause: unknown): void {
    const text = errorText(cause);
    this.#texts.set(slot, text);
    this.#log.warn({ slot, err: text }, 'path lost');
  }

  notInService(slot: number, error: unknown): void {
    const text = errorText(error);
    const level = this.#texts.get(slot) === text ? 'debug' : 'warn';
    this.#texts.set(slot, text);
    this.#log[level]({ slot, err: text }, 'path is not in service yet: it is tried again');
  }

  over(slot: number): void {
    this.#texts.delete(slot);
  }

  /** Empty when there is none. */
  of(slot: number): string {
    return this.#texts.get(slot) ?? '';
  }
}
