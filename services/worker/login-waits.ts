import type { Clock } from '#core/clock.ts';
import { isOrionError } from '#core/errors.ts';
import { TIME2WAIT_MS_MAX } from '#iscsi/session-options.ts';
import { workerErrors } from './errors.ts';

/**
 * Until when a target that ended a session wants to be left alone by the same initiator port (RFC 7143 §11.9.1, events 2 and 3), by
 * slot. Only what it names counts: a session that is lost without a word is reinstated at once, since writes wait for the
 * fence that begins with that.
 */
export class LoginWaits {
  readonly #clock: Clock;
  readonly #untilMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Why a session of this slot has ended. */
  note(slot: string, cause: Error | null): void {
    const waitMs = isOrionError(cause) ? cause.fields.waitMs : undefined;
    if (typeof waitMs !== 'number' || waitMs === 0) return;
    this.#untilMs.set(slot, this.#clock.nowMs() + Math.min(waitMs, TIME2WAIT_MS_MAX));
  }

  /** Throws while a login would come too early; the error says how much. */
  check(slot: string, fields: { readonly volume: string; readonly slot: number }): void {
    const waitMs = (this.#untilMs.get(slot) ?? 0) - this.#clock.nowMs();
    if (waitMs > 0) {
      throw workerErrors.make('WORKER_TARGET_WAITS', { fields: { ...fields, waitMs } });
    }
    this.#untilMs.delete(slot);
  }
}
