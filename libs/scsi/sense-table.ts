import type { OrionError, Outcome } from '../core/errors.ts';
import { type ScsiErrorCode, scsiErrors } from './errors.ts';
import { opName, ScsiStatus } from './opcodes.ts';
import type { Sense } from './sense.ts';

/**
 * What to do about an answer:
 * - `ok`: the command was carried out.
 * - `retry`: send it again on this path, at once.
 * - `delay`: send it again on this path, after a pause.
 * - `other-path`: this path cannot do it now; another may.
 * - `fail`: the answer is the caller's to see.
 */
export type SenseAction = 'ok' | 'retry' | 'delay' | 'other-path' | 'fail';

/** What else a sense tells of the logical unit, besides what became of the command. */
export const SenseEffect = {
  /** The medium, or what stands behind the LUN, may be another one. */
  Medium: 'medium',
  /** Power on or a reset: what was cached and not flushed may be lost. */
  Reset: 'reset',
  Mode: 'mode',
  Capacity: 'capacity',
  /** INQUIRY data or the list of LUNs changed: the LUN may stand for another logical unit. */
  Identity: 'identity',
  /** The target port group is in another access state (ALUA). */
  Access: 'access',
  /** Our registration or reservation was taken away. */
  Preempted: 'preempted',
} as const;
export type SenseEffect = (typeof SenseEffect)[keyof typeof SenseEffect];

export interface SenseEntry {
  readonly key: number;
  /** Null: any. */
  readonly asc: number | null;
  readonly ascq: number | null;
  readonly text: string;
  readonly action: SenseAction;
  readonly code: ScsiErrorCode;
  readonly outcome?: Outcome;
  readonly effect?: SenseEffect;
}

const any = null;

/** The only list of sense codes with a meaning of their own (SPC-4 annex D). The first match counts. */
export const senseTable: readonly SenseEntry[] = [
  e(0x0, any, any, 'no sense', 'ok', 'SCSI_CHECK_CONDITION'),
  e(0x1, any, any, 'recovered error', 'ok', 'SCSI_CHECK_CONDITION'),
  e(0x2, 0x04, 0x01, 'becoming ready', 'delay', 'SCSI_NOT_READY'),
  e(0x2, 0x04, 0x02, 'initializing command required', 'fail', 'SCSI_NOT_READY', 'final'),
  e(0x2, 0x04, 0x03, 'manual intervention required', 'fail', 'SCSI_NOT_READY', 'final'),
  a(0x2, 0x0a, 'asymmetric access state transition', 'delay', 'SCSI_NOT_READY'),
  a(0x2, 0x0b, 'target port in standby state', 'other-path', 'SCSI_PATH_STANDBY'),
  a(0x2, 0x0c, 'target port in unavailable state', 'other-path', 'SCSI_PATH_STANDBY'),
  a(0x2, 0x12, 'target port in offline state', 'other-path', 'SCSI_PATH_STANDBY'),
  e(0x2, 0x04, any, 'logical unit not ready', 'delay', 'SCSI_NOT_READY'),
  e(0x2, 0x3a, any, 'medium not present', 'fail', 'SCSI_NO_MEDIUM'),
  e(0x2, any, any, 'not ready', 'delay', 'SCSI_NOT_READY'),
  e(0x3, any, any, 'medium error', 'fail', 'SCSI_MEDIUM_ERROR'),
  e(0x4, any, any, 'hardware error', 'fail', 'SCSI_HARDWARE_ERROR'),
  e(0x5, 0x20, 0x00, 'invalid command operation code', 'fail', 'SCSI_UNSUPPORTED'),
  e(0x5, 0x21, 0x00, 'logical block address out of range', 'fail', 'SCSI_OUT_OF_RANGE'),
  e(0x5, 0x24, 0x00, 'invalid field in CDB', 'fail', 'SCSI_UNSUPPORTED'),
  e(0x5, 0x25, 0x00, 'logical unit not supported', 'fail', 'SCSI_NO_LUN'),
  e(0x5, any, any, 'illegal request', 'fail', 'SCSI_ILLEGAL_REQUEST'),
  ua(0x28, 0x00, 'medium may have changed', SenseEffect.Medium),
  ua(0x29, any, 'power on, reset or nexus loss', SenseEffect.Reset),
  ua(0x2a, 0x01, 'mode parameters changed', SenseEffect.Mode),
  preempted(0x03, 'reservations preempted'),
  ua(0x2a, 0x04, 'reservations released'),
  preempted(0x05, 'registrations preempted'),
  ua(0x2a, 0x06, 'asymmetric access state changed', SenseEffect.Access),
  ua(0x2a, 0x07, 'implicit asymmetric access state transition failed', SenseEffect.Access),
  ua(0x2a, 0x09, 'capacity data has changed', SenseEffect.Capacity),
  ua(0x2f, any, 'commands cleared by another initiator'),
  ua(0x38, 0x07, 'thin provisioning soft threshold'),
  ua(0x3f, 0x03, 'INQUIRY data has changed', SenseEffect.Identity),
  ua(0x3f, 0x0e, 'reported LUNs data has changed', SenseEffect.Identity),
  ua(any, any, 'unit attention'),
  e(0x7, 0x27, 0x07, 'space allocation failed', 'fail', 'SCSI_NO_SPACE'),
  e(0x7, any, any, 'data protect', 'fail', 'SCSI_WRITE_PROTECTED'),
  e(0x8, any, any, 'blank check', 'fail', 'SCSI_MEDIUM_ERROR'),
  e(0xa, any, any, 'copy aborted', 'fail', 'SCSI_COPY_ABORTED'),
  e(0xb, any, any, 'aborted command', 'retry', 'SCSI_ABORTED'),
  e(0xd, any, any, 'volume overflow', 'fail', 'SCSI_NO_SPACE'),
  e(0xe, any, any, 'miscompare', 'fail', 'SCSI_MISCOMPARE'),
];

function e(
  key: number,
  asc: number | null,
  ascq: number | null,
  text: string,
  action: SenseAction,
  code: ScsiErrorCode,
  outcome?: Outcome,
): SenseEntry {
  return { key, asc, ascq, text, action, code, ...(outcome === undefined ? {} : { outcome }) };
}

/** A logical unit that is not ready for the access state of its target port (ASC 04h). */
function a(
  key: number,
  ascq: number,
  text: string,
  action: SenseAction,
  code: ScsiErrorCode,
): SenseEntry {
  return { ...e(key, 0x04, ascq, text, action, code), effect: SenseEffect.Access };
}

/** A unit attention: the command was not carried out, and may be sent again. */
function ua(
  asc: number | null,
  ascq: number | null,
  text: string,
  effect?: SenseEffect,
): SenseEntry {
  const entry = e(0x6, asc, ascq, text, 'retry', 'SCSI_UNIT_ATTENTION');
  return effect === undefined ? entry : { ...entry, effect };
}

/** Final for this path: somebody else has the right to write now (failover.md §4). */
function preempted(ascq: number, text: string): SenseEntry {
  const entry = e(0x6, 0x2a, ascq, text, 'fail', 'SCSI_RESERVATION_CONFLICT');
  return { ...entry, effect: SenseEffect.Preempted };
}

const unknownSense: SenseEntry = e(
  0xff,
  any,
  any,
  'a sense key without a meaning here',
  'fail',
  'SCSI_CHECK_CONDITION',
);

/** The table's line for a sense; there is always one. */
export function lookUpSense(key: number, asc: number, ascq: number): SenseEntry {
  for (const line of senseTable) {
    if (line.key !== key) continue;
    if (line.asc !== null && line.asc !== asc) continue;
    if (line.ascq !== null && line.ascq !== ascq) continue;
    return line;
  }
  return unknownSense;
}

interface StatusEntry {
  readonly action: SenseAction;
  readonly code: ScsiErrorCode;
  readonly text: string;
}

/** What the statuses other than GOOD and CHECK CONDITION mean (SAM-5). */
const statusTable: Readonly<Record<number, StatusEntry>> = {
  [ScsiStatus.ConditionMet]: { action: 'ok', code: 'SCSI_CHECK_CONDITION', text: 'CONDITION MET' },
  [ScsiStatus.Busy]: { action: 'delay', code: 'SCSI_BUSY', text: 'BUSY' },
  [ScsiStatus.TaskSetFull]: { action: 'delay', code: 'SCSI_BUSY', text: 'TASK SET FULL' },
  // Final for this path: to be in conflict is to be fenced. Never retried here (failover.md §4).
  [ScsiStatus.ReservationConflict]: {
    action: 'fail',
    code: 'SCSI_RESERVATION_CONFLICT',
    text: 'RESERVATION CONFLICT',
  },
  [ScsiStatus.AcaActive]: { action: 'delay', code: 'SCSI_ACA_ACTIVE', text: 'ACA ACTIVE' },
  [ScsiStatus.TaskAborted]: { action: 'retry', code: 'SCSI_ABORTED', text: 'TASK ABORTED' },
};

/** What an answer means, and the error for when it is not retried. */
export interface Verdict {
  readonly action: SenseAction;
  readonly code: ScsiErrorCode;
  readonly text: string;
  readonly outcome: Outcome;
  readonly sense: Sense | null;
}

/** Judges the status of a command with its sense, if there is one. */
export function judge(status: number, sense: Sense | null): Verdict {
  if (status === ScsiStatus.CheckCondition && sense !== null) {
    const line = lookUpSense(sense.key, sense.asc, sense.ascq);
    // A deferred error is about an earlier command; this one was not carried out (SPC-4 §4.5.7).
    if (sense.deferred) {
      return { action: 'retry', code: line.code, text: line.text, outcome: 'not-executed', sense };
    }
    const outcome = line.outcome ?? scsiErrors.specs[line.code].outcome;
    return { action: line.action, code: line.code, text: line.text, outcome, sense };
  }
  const line = statusTable[status];
  if (line !== undefined) {
    const outcome = scsiErrors.specs[line.code].outcome;
    return { action: line.action, code: line.code, text: line.text, outcome, sense };
  }
  const text =
    status === ScsiStatus.CheckCondition
      ? 'CHECK CONDITION without readable sense data'
      : `status 0x${status.toString(16).padStart(2, '0')}`;
  return { action: 'fail', code: 'SCSI_CHECK_CONDITION', text, outcome: 'final', sense };
}

/** The error of a verdict, with what was attempted on what. */
export function verdictError(
  verdict: Verdict,
  op: number,
  fields: Readonly<Record<string, string | number | boolean | undefined>>,
): OrionError {
  const { sense } = verdict;
  const spec = scsiErrors.specs[verdict.code];
  return scsiErrors.make(verdict.code, {
    message: `${opName(op)}: ${spec.text} (${verdict.text})`,
    outcome: verdict.outcome,
    fields:
      sense === null ? fields : { ...fields, sense: senseText(sense.key, sense.asc, sense.ascq) },
  });
}

/** "5/24/00", in hex. */
export function senseText(key: number, asc: number, ascq: number): string {
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  return `${key.toString(16)}/${hex(asc)}/${hex(ascq)}`;
}
