import type { OrionError } from '../core/errors.ts';
import type { SpanIdentity } from '../core/trace-channels.ts';
import { scsiErrors } from '../scsi/errors.ts';
import { formatLun } from '../scsi/lun.ts';
import { CDB_BYTES, ScsiStatus } from '../scsi/opcodes.ts';
import { parseSense, type Sense } from '../scsi/sense.ts';
import { judge, type Verdict, verdictError } from '../scsi/sense-table.ts';
import { traceCommand } from './command-span.ts';
import { iscsiErrors } from './errors.ts';
import { extensionOf } from './extended-command.ts';
import { u32 } from './pdu/bhs.ts';
import { ServiceResponse, TaskAttribute, TaskFunction, TmfResponse } from './pdu/opcodes.ts';
import { bytesSent, bytesToSend } from './reset-mark.ts';
import type { IscsiSession } from './session.ts';
import { Direction, type Task, type TaskOwner } from './task-table.ts';

/** Tries of one command that the logical unit answers with "not now". */
export const TRIES_MAX = 12;

/** The pause before the next try doubles from the first of these to the second. */
const PAUSE_MS_MIN = 8;
const PAUSE_MS_MAX = 1000;

/** The pause before try number `attempt` (from 1), between half and all of its bound, so that many do not go together. */
export function pauseMs(session: IscsiSession, attempt: number): number {
  const bound = Math.min(PAUSE_MS_MIN * 2 ** Math.min(attempt - 1, 16), PAUSE_MS_MAX);
  return bound * (0.5 + session.rng.float() / 2);
}

export interface ScsiRequest {
  /** Writes the CDB into 16 zeroed bytes; or the CDB itself, of any length that a command can have. */
  readonly cdb: ((into: Buffer, at: number) => void) | Buffer;
  /** Data to send. */
  readonly send?: Buffer;
  /** Most bytes to receive. Together with `send`: a bidirectional command. */
  readonly receiveBytes?: number;
  /** How it is ordered among others (§11.3.1); SIMPLE when left out. */
  readonly attribute?: TaskAttribute;
  readonly timeoutMs?: number;
}

export interface ScsiResult {
  readonly status: number;
  readonly sense: Sense | null;
  /** What came in. */
  readonly data: Buffer;
  /**
   * Positive: the device had or wanted more than the command asked for, which is no error where that is an allocation length
   * (§11.4.5.3); negative: less. Of a bidirectional command: of what it sends.
   */
  readonly residual: number;
  /** The same of what a bidirectional command receives; 0 for others. */
  readonly readResidual: number;
}

class Execution implements TaskOwner {
  readonly promise: Promise<ScsiResult>;
  readonly #session: IscsiSession;
  #resolve!: (result: ScsiResult) => void;
  #reject!: (error: OrionError) => void;

  constructor(session: IscsiSession) {
    this.#session = session;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  taskDone(task: Task): void {
    const { response, status, sense, data, direction, moved, residual, extended } = task;
    const unsent = bytesToSend(task) - bytesSent(task);
    this.#session.release(task);
    if (response !== ServiceResponse.CommandCompleted) {
      this.#reject(targetFailure(response));
      return;
    }
    // GOOD for data that were never asked for, and no residual that says so (§11.4.5.1).
    if (status === ScsiStatus.Good && unsent > 0 && residual > -unsent) {
      const fields = { unsent, residual };
      this.#reject(iscsiErrors.make('ISCSI_SHORT_TRANSFER', { fields }));
      return;
    }
    this.#resolve({
      status,
      sense: sense === null ? null : parseSense(sense),
      data: (direction & Direction.Read) !== 0 ? data.subarray(0, moved) : Buffer.alloc(0),
      residual,
      readResidual: extended === null ? 0 : extended.readResidual,
    });
  }

  taskLost(_task: Task, error: OrionError): void {
    this.#reject(error);
  }
}

export function targetFailure(response: number): OrionError {
  return iscsiErrors.make('ISCSI_TARGET_FAILURE', {
    fields: { response: `0x${response.toString(16)}` },
  });
}

/** The CDB of a request: 16 bytes, or more. */
function cdbOf({ cdb }: ScsiRequest): Buffer {
  if (typeof cdb !== 'function' && cdb.length >= CDB_BYTES) return cdb;
  const whole = Buffer.alloc(CDB_BYTES);
  if (typeof cdb === 'function') cdb(whole, 0);
  else whole.set(cdb);
  return whole;
}

/** Sends one command that is not on the path of an I/O, once, and resolves with whatever the target answers. */
export function execute(
  session: IscsiSession,
  lun: Buffer,
  request: ScsiRequest,
): Promise<ScsiResult> {
  const execution = new Execution(session);
  const task = session.takeTask(execution);
  if (task === null) return Promise.reject(session.refusal());
  const { send = null, receiveBytes = null } = request;
  const cdb = cdbOf(request);
  task.lunHigh = u32(lun, 0);
  task.lunLow = u32(lun, 4);
  task.attribute = request.attribute ?? TaskAttribute.Simple;
  task.cdb = cdb.length <= CDB_BYTES ? cdb : cdb.subarray(0, CDB_BYTES);
  task.extended = extensionOf(cdb, send, receiveBytes);
  task.dataAt = 0;
  if (send !== null && receiveBytes !== null) task.direction = Direction.Both;
  else if (send !== null) task.direction = Direction.Write;
  else task.direction = receiveBytes === null ? Direction.None : Direction.Read;
  if (receiveBytes !== null) task.data = Buffer.alloc(receiveBytes);
  else if (send !== null) task.data = send;
  task.edtl = task.data.length;
  task.timeoutMs = request.timeoutMs ?? session.timeouts.commandMs;
  session.submit(task);
  return execution.promise;
}

export interface RunOptions {
  /** `Clock.nowMs()` after which there is no further try. */
  readonly deadlineMs?: number;
  /** Only what was certainly not executed is sent again. */
  readonly onlyNotExecuted?: boolean;
  /** Hears of every sense on the way. The next try waits for the promise, if it gives one. */
  readonly onSense?: (sense: Sense) => Promise<void> | null;
  /** Each try waits until this gives null: nobody knows whom it would reach. Bounded by who holds it back. */
  readonly gate?: () => Promise<void> | null;
  /** Set for sampled I/O: each try is a span of its own. */
  readonly trace?: SpanIdentity | undefined;
}

export type RunResult =
  | { readonly good: true; readonly data: Buffer }
  | { readonly good: false; readonly verdict: Verdict; readonly op: number };

/** Sends a command again while the answer says "not now", within bounds. */
export async function run(
  session: IscsiSession,
  lun: Buffer,
  request: ScsiRequest,
  options: RunOptions = {},
): Promise<RunResult> {
  const op = cdbOf(request);
  const deadlineMs = options.deadlineMs ?? Number.POSITIVE_INFINITY;
  for (let attempt = 1; ; attempt++) {
    if (options.gate !== undefined) await passed(options.gate);
    const answer = execute(session, lun, request);
    if (options.trace !== undefined) traceCommand(session, lun, op[0]!, options.trace, answer);
    const { status, sense, data } = await answer;
    if (status === ScsiStatus.Good) return { good: true, data };
    if (sense !== null) await options.onSense?.(sense);
    if (status === ScsiStatus.AcaActive && attempt === 1) await clearAca(session, lun);
    const verdict = judge(status, sense);
    if (verdict.action === 'ok') return { good: true, data };
    const safe = options.onlyNotExecuted !== true || verdict.outcome === 'not-executed';
    const again = safe && (verdict.action === 'retry' || verdict.action === 'delay');
    if (!again || attempt === TRIES_MAX) return { good: false, verdict, op: op[0]! };
    if (verdict.action === 'delay') {
      const pause = pauseMs(session, attempt);
      if (session.clock.nowMs() + pause > deadlineMs) return { good: false, verdict, op: op[0]! };
      await new Promise<void>((resolve) => session.clock.after(pause, resolve));
    }
  }
}

/** It may be closed again by the time that those who wait are told. */
async function passed(gate: () => Promise<void> | null): Promise<void> {
  for (let held = gate(); held !== null; held = gate()) await held;
}

/** Ends the auto contingent allegiance that holds our own commands (SAM-5 §5.9): then they are sent again. */
export async function clearAca(session: IscsiSession, lun: Buffer): Promise<boolean> {
  const timeoutMs = session.timeouts.commandMs;
  try {
    const { response } = await session.taskManagement(TaskFunction.ClearAca, lun, { timeoutMs });
    return response === TmfResponse.FunctionComplete;
  } catch {
    // The command says so: it is answered with ACA ACTIVE again.
    return false;
  }
}

/** `run`, with an answer other than good as an error. */
export async function runChecked(
  session: IscsiSession,
  lun: Buffer,
  request: ScsiRequest,
  options: RunOptions = {},
): Promise<Buffer> {
  const result = await run(session, lun, request, options);
  if (result.good) return result.data;
  throw verdictError(result.verdict, result.op, {
    target: session.targetName,
    portal: session.portal,
    lun: formatLun(lun),
  });
}

export function badData(what: string): OrionError {
  return scsiErrors.make('SCSI_BAD_DATA', {
    message: `the target's answer makes no sense: ${what}`,
  });
}
