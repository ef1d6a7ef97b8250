import { type BlockCapabilities, type Extent, type IoContext, WriteFlag } from '../block/device.ts';
import { blockErrors } from '../block/errors.ts';
import { assert } from '../core/assert.ts';
import { isOrionError, OrionError, type Outcome } from '../core/errors.ts';
import type { PathDevice } from '../multipath/path.ts';
import { scsiErrors } from '../scsi/errors.ts';
import { formatLun } from '../scsi/lun.ts';
import { ScsiOp } from '../scsi/opcodes.ts';
import { parseSense, type Sense } from '../scsi/sense.ts';
import { judge, lookUpSense, senseText, verdictError } from '../scsi/sense-table.ts';
import { putSynchronizeCache10, putSynchronizeCache16 } from '../scsi/synchronize-cache.ts';
import { putTestUnitReady } from '../scsi/test-unit-ready.ts';
import { traceTransfer } from './command-span.ts';
import { iscsiErrors } from './errors.ts';
import { pauseMs, type RunOptions, run, runChecked, TRIES_MAX, targetFailure } from './execute.ts';
import { type LunFacts, type LunIdentity, learnLun } from './lun-facts.ts';
import { compareAndWrite, trim, writeZeroes } from './lun-provision.ts';
import { u32 } from './pdu/bhs.ts';
import { ServiceResponse, TaskAttribute, TaskFunction, TmfResponse } from './pdu/opcodes.ts';
import type { IscsiSession } from './session.ts';
import { Direction, type Task, type TaskOwner } from './task-table.ts';

const UNIT_ATTENTION = 0x6;

export interface UnitAttention {
  readonly asc: number;
  readonly ascq: number;
  readonly text: string;
}

// The resolvers of the promise that is being made: one executor for all, so that an I/O makes no closure.
let resolveNew: (value: never) => void;
let rejectNew: (error: Error) => void;
const capture = (resolve: (value: never) => void, reject: (error: Error) => void): void => {
  resolveNew = resolve;
  rejectNew = reject;
};

/** Learns what the logical unit is, and gives it as a block device on this session. */
export async function attachLun(
  session: IscsiSession,
  lun: Buffer,
  options: { readonly deadlineMs?: number } = {},
): Promise<IscsiLun> {
  assert(lun.length === 8, 'a LUN has 8 bytes');
  const facts = await learnLun(session, lun, options);
  return new IscsiLun(session, Buffer.from(lun), facts);
}

/**
 * A logical unit on one session. Long I/O is cut into commands; unit attentions and "busy" are tried again here, within
 * bounds. When the session is lost every I/O rejects with what is known of it, and the device stays lost.
 */
export class IscsiLun implements PathDevice, TaskOwner {
  readonly name: string;
  readonly caps: BlockCapabilities;
  readonly identity: LunIdentity;
  readonly session: IscsiSession;
  readonly lun: Buffer;
  readonly facts: LunFacts;
  readonly #lunHigh: number;
  readonly #lunLow: number;
  readonly #blockBytes: number;
  readonly #commandBytes: number;
  readonly #timeoutMs: number;
  /** The device does not know WRITE SAME(16): found out by trying. */
  noWriteSame = false;
  #closed = false;
  /** CmdSN of the last LOGICAL UNIT RESET that was carried out: commands before it are gone. */
  #resetCmdSn: number | null = null;
  #deferred: Sense | null = null;
  #synchronize16 = false;
  #attentionListeners: ((attention: UnitAttention) => void)[] = [];

  constructor(session: IscsiSession, lun: Buffer, facts: LunFacts) {
    this.session = session;
    this.lun = lun;
    this.facts = facts;
    this.caps = facts.caps;
    this.identity = facts.identity;
    this.name = `${session.targetName} lun ${formatLun(lun)} via ${session.portal}`;
    this.#lunHigh = u32(lun, 0);
    this.#lunLow = u32(lun, 4);
    this.#blockBytes = facts.caps.blockBytes;
    this.#commandBytes = facts.commandBytes;
    this.#timeoutMs = session.timeouts.commandMs;
  }

  read(offset: number, into: Buffer, io: IoContext): Promise<void> {
    if (into.length <= this.#commandBytes) {
      return this.#transfer(Direction.Read, offset, into, 0, into.length, false, io);
    }
    return this.#split(Direction.Read, offset, into, false, io);
  }

  write(offset: number, from: Buffer, flags: number, io: IoContext): Promise<void> {
    const fua = (flags & WriteFlag.Fua) !== 0 && this.caps.volatileCache;
    if (this.caps.readOnly) return Promise.reject(this.#readOnly());
    if (fua && !this.facts.dpoFua) return this.#writeAndFlush(offset, from, io);
    if (from.length <= this.#commandBytes) {
      return this.#transfer(Direction.Write, offset, from, 0, from.length, fua, io);
    }
    return this.#split(Direction.Write, offset, from, fua, io);
  }

  /** One command. Nothing is allocated here but the promise. */
  #transfer(
    direction: Direction,
    offset: number,
    data: Buffer,
    dataAt: number,
    bytes: number,
    fua: boolean,
    io: IoContext,
  ): Promise<void> {
    assert(bytes > 0 && offset + bytes <= this.caps.sizeBytes, 'an I/O is inside the device');
    const lba = offset / this.#blockBytes;
    const blocks = bytes / this.#blockBytes;
    assert(Number.isInteger(lba) && Number.isInteger(blocks), 'an I/O is of whole blocks');
    if (io.signal?.aborted) return Promise.reject(iscsiErrors.make('ISCSI_SESSION_CLOSED'));
    const task = this.#closed ? null : this.session.takeTask(this);
    if (task === null) return Promise.reject(this.#refusal());
    const promise = new Promise<void>(capture as never);
    task.resolve = resolveNew;
    task.reject = rejectNew;
    task.lunHigh = this.#lunHigh;
    task.lunLow = this.#lunLow;
    task.direction = direction;
    task.attribute = TaskAttribute.Simple;
    task.data = data;
    task.dataAt = dataAt;
    task.edtl = bytes;
    task.lba = lba;
    task.blocks = blocks;
    task.fua = fua;
    task.timeoutMs = this.#timeoutMs;
    task.deadlineMs = io.deadlineMs;
    this.session.submit(task);
    if (io.trace !== undefined) traceTransfer(this.session, this.lun, task, io.trace, promise);
    return promise;
  }

  taskDone(task: Task): void {
    const complete = task.moved === task.edtl && task.residual === 0;
    if ((task.status | task.response) === 0 && complete) {
      const { resolve } = task;
      this.session.release(task);
      resolve(undefined as never);
      return;
    }
    this.#judge(task, complete);
  }

  taskLost(task: Task, error: OrionError): void {
    const { reject } = task;
    // An earlier try may have done its work: "not executed" would say too much.
    const over = task.mayHaveRun && error.outcome === 'not-executed';
    reject(over ? withOutcome(error, 'terminated') : error);
  }

  /** Any answer but plain success. */
  #judge(task: Task, complete: boolean): void {
    const op = task.direction === Direction.Write ? ScsiOp.Write10 : ScsiOp.Read10;
    if (task.response !== ServiceResponse.CommandCompleted) {
      this.#fail(task, targetFailure(task.response));
      return;
    }
    const sense = task.sense === null ? null : parseSense(task.sense);
    if (sense !== null) this.notice(sense);
    const verdict =
      sense?.deferred === true
        ? // About an earlier command; this one was not carried out (SPC-4 §4.5.7).
          {
            ...judge(task.status, sense),
            action: 'retry' as const,
            outcome: 'not-executed' as const,
          }
        : judge(task.status, sense);
    if (verdict.action === 'ok' || task.status === 0) {
      if (complete) {
        const { resolve } = task;
        this.session.release(task);
        resolve(undefined as never);
      } else {
        this.#fail(
          task,
          iscsiErrors.make('ISCSI_SHORT_TRANSFER', {
            fields: { moved: task.moved, asked: task.edtl, residual: task.residual },
          }),
        );
      }
      return;
    }
    if (verdict.outcome === 'terminated') task.mayHaveRun = true;
    task.attempts += 1;
    const pause = verdict.action === 'delay' ? pauseMs(this.session, task.attempts) : 0;
    const again = verdict.action === 'retry' || verdict.action === 'delay';
    if (
      again &&
      task.attempts < TRIES_MAX &&
      (task.deadlineMs === Number.POSITIVE_INFINITY ||
        this.session.clock.nowMs() + pause < task.deadlineMs)
    ) {
      this.session.resubmit(task, pause);
      return;
    }
    this.#fail(
      task,
      verdictError(verdict, op, { ...this.#fields(), lba: task.lba, blocks: task.blocks }),
    );
  }

  #fail(task: Task, error: OrionError): void {
    this.taskLost(task, error);
    this.session.release(task);
  }

  /** Several commands at once; settles when all have, since their memory is in use until then. */
  async #split(
    direction: Direction,
    offset: number,
    data: Buffer,
    fua: boolean,
    io: IoContext,
  ): Promise<void> {
    const parts: Promise<void>[] = [];
    for (let at = 0; at < data.length; at += this.#commandBytes) {
      const bytes = Math.min(this.#commandBytes, data.length - at);
      parts.push(this.#transfer(direction, offset + at, data, at, bytes, fua, io));
    }
    const results = await Promise.allSettled(parts);
    throwWorst(results);
  }

  async #writeAndFlush(offset: number, from: Buffer, io: IoContext): Promise<void> {
    await this.write(offset, from, WriteFlag.None, io);
    try {
      await this.flush(io);
    } catch (error) {
      // The write itself is done: that much is known even if the flush never began.
      throw isOrionError(error) && error.outcome === 'not-executed'
        ? withOutcome(error, 'terminated')
        : error;
    }
  }

  flush(io: IoContext): Promise<void> {
    return this.#flush(io);
  }

  async #flush(io: IoContext): Promise<void> {
    this.#throwDeferred();
    if (!this.caps.volatileCache) return;
    const options = this.#options(io);
    if (!this.#synchronize16) {
      const result = await run(this.session, this.lun, { cdb: putSynchronizeCache10 }, options);
      if (result.good) return this.#throwDeferred();
      if (result.verdict.code !== 'SCSI_UNSUPPORTED') {
        throw verdictError(result.verdict, result.op, this.#fields());
      }
      this.#synchronize16 = true;
    }
    await runChecked(this.session, this.lun, { cdb: putSynchronizeCache16 }, options);
    this.#throwDeferred();
  }

  /** An acknowledged write that failed later is told to the next flush, once (I5 of failover.md). */
  #throwDeferred(): void {
    const sense = this.#deferred;
    if (sense === null) return;
    this.#deferred = null;
    throw scsiErrors.make('SCSI_DEFERRED_ERROR', {
      fields: { ...this.#fields(), sense: senseText(sense.key, sense.asc, sense.ascq) },
    });
  }

  trim(offset: number, length: number, _flags: number, io: IoContext): Promise<void> {
    if (this.caps.readOnly) return Promise.reject(this.#readOnly());
    return trim(this, offset, length, this.#options(io));
  }

  writeZeroes(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    if (this.caps.readOnly) return Promise.reject(this.#readOnly());
    return writeZeroes(this, offset, length, flags, io, this.#options(io));
  }

  async extents(offset: number, length: number, _io: IoContext): Promise<Extent[]> {
    return [{ offset, length, allocated: true, zero: false }];
  }

  compareAndWrite(
    offset: number,
    expected: Buffer,
    replacement: Buffer,
    io: IoContext,
  ): Promise<number> {
    if (this.caps.readOnly) return Promise.reject(this.#readOnly());
    return compareAndWrite(this, offset, expected, replacement, this.#options(io));
  }

  async probe(io: IoContext): Promise<void> {
    await runChecked(this.session, this.lun, { cdb: putTestUnitReady }, this.#options(io));
  }

  onLost(fn: (cause: Error) => void): void {
    this.session.onClosed(fn);
  }

  onUnitAttention(fn: (attention: UnitAttention) => void): void {
    this.#attentionListeners.push(fn);
  }

  /**
   * LOGICAL UNIT RESET: resolves when the target says FUNCTION COMPLETE, which is when no command that any initiator had
   * on the unit executes any more. Commands of this path that were sent before may never be answered: `abandon` them.
   */
  async lunReset(timeoutMs: number): Promise<void> {
    const { cmdSn } = this.session;
    const answer = await this.session.taskManagement(TaskFunction.LogicalUnitReset, this.lun, {
      timeoutMs,
    });
    if (answer !== TmfResponse.FunctionComplete) {
      throw iscsiErrors.make('ISCSI_TMF_FAILED', {
        fields: { ...this.#fields(), response: answer },
      });
    }
    this.#resetCmdSn = cmdSn;
  }

  /**
   * Rejects what is outstanding as terminated, after a reset that was carried out. After one through this path: what was
   * sent before it. Otherwise (a reset through another path): everything; the caller has seen to it that nothing of
   * this path was still on its way to the target then. Late answers are ignored.
   */
  abandon(): void {
    for (const task of this.session.commandsOf(this.#lunHigh, this.#lunLow)) {
      const reset = this.#resetCmdSn;
      if (reset !== null && task.firstSeq > 0 && ((task.cmdSn - reset) | 0) >= 0) continue;
      this.session.abandon(task, iscsiErrors.make('ISCSI_LUN_RESET', { fields: this.#fields() }));
    }
    this.#resetCmdSn = null;
  }

  /** Takes no more I/O. The session is not the device's to end. */
  async close(): Promise<void> {
    this.#closed = true;
  }

  /** Hears of every sense that came in: unit attentions are told on, deferred errors are kept for the next flush. */
  notice(sense: Sense): void {
    if (sense.deferred) {
      this.#deferred = sense;
      return;
    }
    if (sense.key !== UNIT_ATTENTION) return;
    const { text } = lookUpSense(sense.key, sense.asc, sense.ascq);
    for (const fn of this.#attentionListeners) fn({ asc: sense.asc, ascq: sense.ascq, text });
  }

  #options(io: IoContext): RunOptions {
    const { deadlineMs, trace } = io;
    return { deadlineMs, trace, onSense: (sense) => this.notice(sense) };
  }

  #fields(): { target: string; portal: string; lun: string } {
    const { targetName: target, portal } = this.session;
    return { target, portal, lun: formatLun(this.lun) };
  }

  #refusal(): OrionError {
    return this.#closed ? blockErrors.make('BLOCK_CLOSED') : this.session.refusal();
  }

  #readOnly(): OrionError {
    return blockErrors.make('BLOCK_READ_ONLY', { fields: this.#fields() });
  }
}

function withOutcome(error: OrionError, outcome: Outcome): OrionError {
  const { code, message, errno, hint, fields } = error;
  return new OrionError({ code, message, outcome, errno, hint, fields, cause: error });
}

const WORST_FIRST: readonly Outcome[] = ['unknown', 'final', 'terminated', 'not-executed'];

/** Throws the failure of several that says least for the whole, if there is one. */
export function throwWorst(results: readonly PromiseSettledResult<unknown>[]): void {
  const failed = results.filter((result) => result.status === 'rejected');
  if (failed.length === 0) return;
  const errors = failed.map((result) => result.reason as unknown);
  const stranger = errors.find((error) => !isOrionError(error));
  if (stranger !== undefined) throw stranger;
  const known = errors.filter(isOrionError);
  const rank = (error: OrionError): number => WORST_FIRST.indexOf(error.outcome);
  const worst = known.reduce((a, b) => (rank(b) < rank(a) ? b : a));
  // Some part was carried out, so "not executed" is not true of the whole.
  const partly = worst.outcome === 'not-executed' && failed.length < results.length;
  throw partly ? withOutcome(worst, 'terminated') : worst;
}
