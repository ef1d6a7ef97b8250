import type { Clock } from '#core/clock.ts';
import { errorText } from '#core/errors.ts';
import { printable } from '#core/printable.ts';
import { AsyncEvent, nameOf } from '#iscsi/pdu/opcodes.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import type { SessionEvent } from '#iscsi/session-control.ts';
import type { Logger } from '#telemetry/log.ts';

/** Lines about one kind of event that a session may write in one period; a target can send millions. */
export const LINES_MAX = 5;
export const PERIOD_MS = 60_000;

/** Errors of a connection quote what the target said. */
const TEXT_CHARS_MAX = 500;

type Fields = Readonly<Record<string, string | number>>;

interface Line {
  readonly level: 'info' | 'warn';
  readonly fields: Fields;
  readonly text: string;
}

/** Lines of one kind in the period that runs. */
interface Tally {
  untilMs: number;
  lines: number;
  leftOut: number;
}

export type EventLog = Pick<Logger, 'info' | 'warn'>;

/** Text of an error, or of anything else that a target has a part in. */
export function told(error: unknown): string {
  return printable(errorText(error)).slice(0, TEXT_CHARS_MAX);
}

/**
 * Logs what a target says beside its answers, for as long as the session lives. Each kind of event has a bound of its own, so
 * that a flood of one does not hide another; the next line of that kind says how many were left out, at the latest that of
 * the end.
 */
export function logSession(session: IscsiSession, log: EventLog, clock: Clock): void {
  const tallies = new Map<SessionEvent['kind'], Tally>();
  const write = ({ level, fields, text }: Line, leftOut: number): void => {
    const { portal } = session;
    log[level]({ portal, ...fields, ...(leftOut === 0 ? {} : { leftOut }) }, text);
  };
  session.onEvent((event) => {
    const line = lineOf(event);
    if (line === null) return;
    const nowMs = clock.nowMs();
    let tally = tallies.get(event.kind);
    if (tally === undefined || nowMs >= tally.untilMs) {
      tally = { untilMs: nowMs + PERIOD_MS, lines: 0, leftOut: tally?.leftOut ?? 0 };
      tallies.set(event.kind, tally);
    }
    if (tally.lines === LINES_MAX) {
      tally.leftOut += 1;
      return;
    }
    tally.lines += 1;
    write(line, tally.leftOut);
    tally.leftOut = 0;
  });
  session.onClosed(() => {
    for (const [kind, { leftOut }] of tallies) {
      if (leftOut === 0) continue;
      write({ level: 'warn', fields: { event: kind }, text: 'events were not logged' }, leftOut);
    }
  });
}

/** Null: told elsewhere. */
function lineOf(event: SessionEvent): Line | null {
  switch (event.kind) {
    case 'scsi':
      // The sense is the device's news: whoever uses the logical unit acts on it, and tells it.
      return null;
    case 'reject':
      return {
        level: 'warn',
        fields: { reason: event.reason, pdu: event.pdu },
        text: `the target rejects ${event.pdu}: ${event.reason} (RFC 7143 §11.17)`,
      };
    case 'async':
      return {
        level: event.event === AsyncEvent.Vendor ? 'info' : 'warn',
        fields: { event: event.event, vendorCode: event.vendorCode },
        text: `asynchronous message of the target: ${nameOf(AsyncEvent, event.event)} (RFC 7143 §11.9.1)`,
      };
    case 'logout-requested':
      return { level: 'warn', fields: {}, text: 'the target asks for a logout' };
    case 'negotiation-requested':
      return { level: 'info', fields: {}, text: 'the target asks for a negotiation' };
    case 'tasks-terminated':
      return {
        level: 'warn',
        fields: { lun: event.lun.toString('hex'), commands: event.count },
        text: 'the target has ended commands for the sake of somebody else',
      };
    case 'connection':
      return connectionLine(event);
  }
}

function connectionLine(event: Extract<SessionEvent, { kind: 'connection' }>): Line {
  const { cid, portal, state, reason } = event;
  // Its portal may be another one than that of the session.
  const fields = { cid, portal: printable(portal), state };
  if (reason === null) return { level: 'info', fields, text: `connection ${cid} is in use` };
  return {
    level: 'warn',
    fields: { ...fields, err: told(reason) },
    text: `connection ${cid} was lost, or did not come`,
  };
}
