import type { Clock } from '#core/clock.ts';
import { isOrionError } from '#core/errors.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { TIME2WAIT_MS_MAX } from '#iscsi/session-options.ts';
import { workerErrors } from './errors.ts';

type EndedSession = Pick<IscsiSession, 'cause' | 'reopenMs' | 'connections'>;

/**
 * Until when a target that ended a session wants to be left alone by the same initiator port (RFC 7143 §11.9.1, events 2 and 3), by
 * slot. Only what it names counts: a session that is lost without a word is reinstated at once, since writes wait for the
 * fence that begins with that. But a target that does not survive this (quirks.ts) has its time too.
 */
export class LoginWaits {
  readonly #clock: Clock;
  readonly #untilMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A session of this slot has ended. */
  note(slot: string, session: EndedSession): void {
    const { cause, reopenMs } = session;
    const named = isOrionError(cause) ? cause.fields.waitMs : undefined;
    const waitMs = Math.max(
      typeof named === 'number' ? named : 0,
      session.connections().length > 1 ? reopenMs : 0,
    );
    if (waitMs === 0) return;
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
