import { type BlockCapabilities, type Extent, type IoContext, WriteFlag } from '../block/device.ts';
import { blockErrors } from '../block/errors.ts';
import { assert } from '../core/assert.ts';
import { isOrionError, type OrionError } from '../core/errors.ts';
import type { PathAccess } from '../multipath/access.ts';
import type { PathDevice, UnitAttention } from '../multipath/path.ts';
import { formatLun } from '../scsi/lun.ts';
import { ScsiOp, ScsiStatus } from '../scsi/opcodes.ts';
import { parseSense, type Sense } from '../scsi/sense.ts';
import { judge, type Verdict, verdictError } from '../scsi/sense-table.ts';
import type { AluaState } from '../scsi/target-port-groups.ts';
import { putTestUnitReady } from '../scsi/test-unit-ready.ts';
import { traceTransfer } from './command-span.ts';
import { iscsiErrors } from './errors.ts';
import {
  clearAca,
  pauseMs,
  type RunOptions,
  runChecked,
  TRIES_MAX,
  targetFailure,
} from './execute.ts';
import { setTargetPortGroups } from './lun-access.ts';
import { type CopyResult, copyRange } from './lun-copy.ts';
import { lunExtents } from './lun-extents.ts';
import type { LunFacts } from './lun-facts.ts';
import { LunFlush } from './lun-flush.ts';
import type { LunIdentity } from './lun-identity.ts';
import { throwWorst, withOutcome } from './lun-outcome.ts';
import { compareAndWrite, trim, WriteSameForm, writeZeroes } from './lun-provision.ts';
import { LunReservations } from './lun-reservations.ts';
import { LunWatch } from './lun-watch.ts';
import { LunWindow } from './lun-window.ts';
import { u32 } from './pdu/bhs.ts';
import { ServiceResponse, TaskAttribute, TaskFunction, TmfResponse } from './pdu/opcodes.ts';
import { ResetMark } from './reset-mark.ts';
import type { IscsiSession } from './session.ts';
import { tmfError } from './task-management.ts';
import { Direction, type Task, type TaskOwner, TaskState } from './task-table.ts';

// The resolvers of the promise that is being made: one executor for all, so that an I/O makes no closure.
let resolveNew: (value: never) => void;
let rejectNew: (error: Error) => void;
const capture = (resolve: (value: never) => void, reject: (error: Error) => void): void => {
  resolveNew = resolve;
  rejectNew = reject;
};

/**
 * A logical unit on one session. Long I/O is cut into commands; unit attentions and "busy" are tried again here, within
 * bounds. When the session is lost every I/O rejects with what is known of it, and the device stays lost.
 */
export class IscsiLun implements PathDevice, TaskOwner {
  readonly name: string;
  /** Replaced when the device says that something of it has changed. */
  caps: BlockCapabilities;
  readonly identity: LunIdentity;
  readonly session: IscsiSession;
  readonly lun: Buffer;
  readonly facts: LunFacts;
  readonly #lunHigh: number;
  readonly #lunLow: number;
  readonly #blockBytes: number;
  readonly #commandBytes: number;
  readonly #timeoutMs: number;
  /** Persistent reservations of this path. */
  readonly reservations: LunReservations;
  readonly #watch: LunWatch;
  readonly #window: LunWindow;
  readonly flusher: LunFlush;
  /** What the device knows of WRITE SAME: found out by trying. */
  writeSameForm: WriteSameForm = WriteSameForm.Long;
  noWriteSameUnmap = false;
  /** Of GET LBA STATUS: where the capabilities say so, until it is refused. */
  knowsLbaStatus: boolean;
  #dpoFua: boolean;
  #closed = false;
  /** Set: no change is sent any more. */
  #sealedBy: OrionError | null = null;
  /** The last LOGICAL UNIT RESET through this path that was carried out. */
  #reset: ResetMark | null = null;

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
    this.#dpoFua = facts.dpoFua;
    this.knowsLbaStatus = facts.caps.extents;
    if (facts.quirks.fastAbort) session.stopDataOnAbort = true;
    if (!facts.quirks.logoutEndsCommands) session.logoutEndsCommands = false;
    session.reopenMs = Math.max(session.reopenMs, facts.quirks.reopenMs);
    this.#window = new LunWindow(session, this);
    this.reservations = new LunReservations(session, lun, {
      onSense: (sense) => this.#watch.hear(sense),
    });
    this.#watch = new LunWatch({
      session,
      lun,
      facts,
      reservations: this.reservations,
      onChange: (caps, dpoFua) => {
        this.caps = caps;
        this.#dpoFua = dpoFua;
      },
      onGate: (closed) => (closed ? this.#window.hold() : this.#window.release()),
    });
    this.flusher = new LunFlush(this, this.#watch);
  }

  /** How well the unit can be used over this path now (ALUA). */
  get access(): PathAccess {
    return this.#watch.access;
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
    if (fua && !this.#dpoFua) return this.#writeAndFlush(offset, from, io);
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
    const sealedBy = direction === Direction.Write ? this.#sealedBy : null;
    if (sealedBy !== null) return Promise.reject(sealedBy);
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
    const window = this.#window;
    if (window.used < window.limit) {
      window.used += 1;
      this.session.submit(task);
    } else window.park(task);
    if (io.trace !== undefined) traceTransfer(this.session, this.lun, task, io.trace, promise);
    return promise;
  }

  taskDone(task: Task): void {
    const complete = task.moved === task.edtl && task.residual === 0;
    if ((task.status | task.response) === 0 && complete) {
      this.#succeed(task);
      return;
    }
    this.#judge(task, complete);
  }

  #succeed(task: Task): void {
    const { resolve } = task;
    this.session.release(task);
    this.#window.succeeded();
    resolve(undefined as never);
  }

  taskLost(task: Task, error: OrionError): void {
    const { reject } = task;
    this.#window.left(task);
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
    const checked = sense === null ? null : this.notice(sense);
    const verdict = judge(task.status, sense);
    if (verdict.action === 'ok' || task.status === 0) {
      if (complete) this.#succeed(task);
      else {
        const { moved, edtl: asked, residual } = task;
        const fields = { moved, asked, residual };
        this.#fail(task, iscsiErrors.make('ISCSI_SHORT_TRANSFER', { fields }));
      }
      return;
    }
    if (verdict.outcome === 'terminated') task.mayHaveRun = true;
    task.attempts += 1;
    if (!this.#tryAgain(task, verdict, checked)) {
      const where = { ...this.#fields(), lba: task.lba, blocks: task.blocks };
      this.#fail(task, verdictError(verdict, op, where));
    }
  }

  /** True when the command will be sent again: after a pause, or after `checked`, if the answer asks for that. */
  #tryAgain(task: Task, verdict: Verdict, checked: Promise<void> | null): boolean {
    const { session } = this;
    if (verdict.code === 'SCSI_BUSY') this.#window.shrink();
    const delay = verdict.action === 'delay';
    if (!delay && verdict.action !== 'retry') return false;
    const pause = delay ? pauseMs(session, task.attempts) : 0;
    if (task.attempts >= TRIES_MAX || session.clock.nowMs() + pause >= task.deadlineMs)
      return false;
    const { status } = task;
    session.park(task);
    const { itt } = task;
    const again = (): void => {
      // It may have been lost meanwhile, and be another one by now.
      if (task.itt === itt && task.state === TaskState.Waiting) this.#window.again(task);
    };
    // I22: what an ACA of ours holds back is let go first; if that fails, the next answer says so again.
    const first = status === ScsiStatus.AcaActive ? clearAca(session, this.lun) : checked;
    if (first !== null) void first.then(again);
    else if (pause > 0) session.clock.after(pause, again);
    else again();
    return true;
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
    throwWorst(await Promise.allSettled(parts));
  }

  async #writeAndFlush(offset: number, from: Buffer, io: IoContext): Promise<void> {
    await this.write(offset, from, WriteFlag.None, io);
    try {
      await this.flusher.run(this.#options(io));
    } catch (error) {
      // The write itself is done: that much is known even if the flush never began.
      throw isOrionError(error) && error.outcome === 'not-executed'
        ? withOutcome(error, 'terminated')
        : error;
    }
  }

  flush(io: IoContext): Promise<void> {
    return this.flusher.order(this.#options(io));
  }

  trim(offset: number, length: number, _flags: number, io: IoContext): Promise<void> {
    if (this.caps.readOnly) return Promise.reject(this.#readOnly());
    return trim(this, offset, length, this.#options(io, true));
  }

  writeZeroes(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    if (this.caps.readOnly) return Promise.reject(this.#readOnly());
    return writeZeroes(this, offset, length, flags, io, this.#options(io, true));
  }

  extents(offset: number, length: number, io: IoContext): Promise<Extent[]> {
    return lunExtents(this, offset, length, this.#options(io));
  }

  /** Copies to another unit of the same target, there if it can, else through this process (I24). */
  copyTo(
    to: IscsiLun,
    offset: number,
    toOffset: number,
    length: number,
    io: IoContext,
  ): Promise<CopyResult> {
    if (to.caps.readOnly) return Promise.reject(to.#readOnly());
    return copyRange(this, offset, to, toOffset, length, io, to.#options(io, true));
  }

  compareAndWrite(
    offset: number,
    expected: Buffer,
    replacement: Buffer,
    io: IoContext,
  ): Promise<number> {
    if (this.caps.readOnly) return Promise.reject(this.#readOnly());
    return compareAndWrite(this, offset, expected, replacement, io, this.#options(io, true));
  }

  /** TEST UNIT READY; where there are access states, these first: a unit in standby is alive too. */
  async probe(io: IoContext): Promise<void> {
    if (this.facts.tpgs !== 0) await this.#watch.refreshAccess();
    if (!this.#watch.serves) return;
    try {
      await runChecked(this.session, this.lun, { cdb: putTestUnitReady }, this.#options(io));
    } catch (error) {
      // The group went into standby in between: the path is well, and its state has been told.
      if (!isOrionError(error) || error.code !== 'SCSI_PATH_STANDBY') throw error;
    }
  }

  onLost(fn: (cause: Error) => void): void {
    this.session.onClosed(fn);
  }

  onUnitAttention(fn: (attention: UnitAttention) => void): void {
    this.#watch.onAttention(fn);
  }

  /** SET TARGET PORT GROUPS (explicit ALUA): never sent on our own account (failover.md §8). */
  async setTargetPortGroups(
    wanted: readonly { readonly group: number; readonly state: AluaState }[],
    io: IoContext,
  ): Promise<void> {
    await setTargetPortGroups(this.session, this.lun, wanted, this.#options(io));
    await this.#watch.refreshAccess();
  }

  /**
   * LOGICAL UNIT RESET: resolves when the target says FUNCTION COMPLETE, which is when no command that any initiator had
   * on the unit executes any more. Commands of this path that were sent before may never be answered: `abandon` them.
   */
  async lunReset(timeoutMs: number): Promise<void> {
    const mark = new ResetMark(this.session, this.lun);
    const reset = TaskFunction.LogicalUnitReset;
    const { response } = await this.session.taskManagement(reset, this.lun, { timeoutMs });
    if (response !== TmfResponse.FunctionComplete) throw tmfError(reset, response, this.#fields());
    this.#reset = mark;
  }

  /**
   * Rejects what is outstanding as terminated, after a reset that was carried out. After one through this path: what that
   * has ended for certain. Otherwise (a reset through another path): everything; the caller has seen to it that nothing of
   * this path was still on its way to the target then. Late answers are ignored.
   */
  abandon(): void {
    // What is given up makes room: nothing may be sent into it that is then given up as sent before the reset.
    this.#window.hold();
    for (const task of this.session.commandsOf(this.lun)) {
      const sent = task.state === TaskState.Sent;
      if (this.#reset !== null && sent && !this.#reset.hasEnded(task)) continue;
      this.session.abandon(task, iscsiErrors.make('ISCSI_LUN_RESET', { fields: this.#fields() }));
    }
    this.#reset = null;
    this.#window.release();
  }

  /**
   * Whoever sent changes so far may send no more (failover.md I8): a change of several commands, or of several tries, ends
   * with `cause` before the next. What was sent already goes on, and counts as in flight.
   */
  seal(cause: OrionError): void {
    this.#sealedBy ??= cause;
  }

  /** Takes no more I/O. The session is not the device's to end. */
  async close(): Promise<void> {
    this.#closed = true;
  }

  /** Hears of every sense that came in, with an answer or by itself (G05). See `LunWatch`. */
  notice(sense: Sense): Promise<void> | null {
    return this.#watch.notice(sense);
  }

  #options(io: IoContext, changes = false): RunOptions {
    const { deadlineMs, trace } = io;
    const gate = (): Promise<void> | null => {
      if (changes && this.#sealedBy !== null) throw this.#sealedBy;
      return this.#window.whenOpen();
    };
    return { deadlineMs, trace, gate, onSense: (sense) => this.notice(sense) };
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
