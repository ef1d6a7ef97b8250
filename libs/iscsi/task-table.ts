import { assert } from '../core/assert.ts';
import type { OrionError } from '../core/errors.ts';
import { Fifo } from '../core/fifo.ts';
import { WheelEntry } from '../core/timer-wheel.ts';
import type { ByteRanges } from './byte-ranges.ts';
import type { Connection } from './connection.ts';
import { ControlRequest } from './control-request.ts';
import type { DataRecovery } from './data-recovery.ts';
import type { ExtendedCommand } from './extended-command.ts';
import { u32 } from './pdu/bhs.ts';
import { CDB_BYTES } from './pdu/scsi-command.ts';

/** Tasks of one session, waiting ones included. What does not fit is refused with ISCSI_QUEUE_FULL. */
export const TASKS_MAX = 4096;

/** Of these, kept free for pings, resets and logouts: they must get through when commands fill the table. */
const CONTROL_TASKS = 16;

/** Tags of tasks that were given up and never answered; beyond it the oldest are used again. */
const ABANDONED_MAX = 1024;

const INDEX_BITS = 12;
const INDEX_MASK = TASKS_MAX - 1;
/** One less than all ones: a task tag is never 0xffffffff (§11.2.1.8). */
const GENERATIONS = 2 ** (32 - INDEX_BITS) - 1;

const NO_DATA = Buffer.alloc(0);
const nothing = (): void => {};

export const TaskState = {
  Free: 0,
  /** Not handed to a socket: waits for the command window, or for its turn to be tried again. */
  Waiting: 1,
  Sent: 2,
  /** The target has answered, but the socket still holds bytes of it. */
  Answered: 3,
  /** Its owner has given it up; the tag stays taken until the target answers or the session ends. */
  Abandoned: 4,
} as const;
export type TaskState = (typeof TaskState)[keyof typeof TaskState];

/** Bits: a bidirectional command has both. */
export const Direction = { None: 0, Read: 1, Write: 2, Both: 3 } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** Who gave a task to the session. Each task that was submitted comes back by exactly one of these. */
export interface TaskOwner {
  /** The target has answered; everything about it stands in the task, and no memory of it is in use any more. */
  taskDone(task: Task): void;
  /** It will not be answered. The outcome of `error` says what is known. */
  taskLost(task: Task, error: OrionError): void;
}

/**
 * One command on its way. Made once and used again and again: the path of an I/O allocates none. 32-bit numbers of
 * the protocol are kept signed, so that they stay small integers.
 */
export class Task extends WheelEntry {
  readonly index: number;
  generation = 0;
  itt = 0;
  state: TaskState = TaskState.Free;
  owner: TaskOwner | null = null;
  lunHigh = 0;
  lunLow = 0;
  direction: Direction = Direction.None;
  attribute = 0;

  /** Where data come from or go to: `edtl` bytes of `data` from `dataAt`. */
  data: Buffer = NO_DATA;
  dataAt = 0;
  edtl = 0;

  /** A block command is built from these when `cdb` is null. */
  lba = 0;
  blocks = 0;
  fua = false;
  cdb: Buffer | null = null;

  /** The connection that all PDUs of it go over (§4.2.5.1); null while it waits. */
  connection: Connection | null = null;
  /** Data segments that we took when it was sent. */
  segmentBytes = 0;
  cmdSn = 0;
  /** Bytes that came in, or that were sent out. */
  moved = 0;
  /** DataSN or R2TSN that comes next. */
  nextSn = 0;
  /**
   * Batches of the out queue that hold the first and the last bytes of it. 0: none yet; -1: sent on a connection before
   * this one.
   */
  firstSeq = 0;
  outSeq = 0;
  /** Which bytes came, where they may come in any order. */
  ranges: ByteRanges | null = null;
  /** What it lacks, at ErrorRecoveryLevel 1 and above; null: nothing so far. */
  recovery: DataRecovery | null = null;
  /** What goes beyond a CDB of 16 bytes in one direction; null for nearly all commands. */
  extended: ExtendedCommand | null = null;
  /** How often the same command was sent again because the target did not take it in (§7.2.1). */
  retries = 0;
  /** How often it went on after its time although the target said that there is no such command. */
  spared = 0;
  /** R2Ts of it are not answered any more: the target wants no data for what it aborts (§4.2.3.4). */
  dataStopped = false;
  /** A request of the session that was given up: its number is not its own. */
  immediate = false;
  /** It stands in the queue for the command window. */
  queued = false;
  /** It is to be given up with this as soon as no memory of it is in use. */
  pendingLoss: OrionError | null = null;

  response = 0;
  status = 0;
  /** Positive: the target had more than asked for; negative: less. */
  residual = 0;
  sense: Buffer | null = null;

  /** What the owner keeps here; the session does not look at it. */
  resolve: (value: never) => void = nothing;
  reject: (error: Error) => void = nothing;
  attempts = 0;
  mayHaveRun = false;
  parked = false;
  startedMs = 0;
  deadlineMs = 0;

  timeoutMs = 0;
  movedAtTimer = 0;
  onExpired: (task: Task) => void = nothing;

  constructor(index: number) {
    super();
    this.index = index;
  }

  /** The target has it, and its owner waits for the answer. */
  get isOut(): boolean {
    return this.state === TaskState.Sent && this.pendingLoss === null;
  }

  /** It was sent, and before whatever has this CmdSN. */
  isSentBefore(cmdSn: number): boolean {
    return this.state === TaskState.Sent && ((this.cmdSn - cmdSn) | 0) < 0;
  }

  override onTimeout(): void {
    this.onExpired(this);
  }
}

/** All tasks of a session. A tag is a generation and an index: a late PDU of an earlier task is not taken for this one. */
export class TaskTable {
  readonly #tasks: Task[] = [];
  readonly #free: Task[] = [];
  readonly #abandoned = new Fifo<Task>();
  readonly #onExpired: (task: Task) => void;
  #used = 0;

  constructor(onExpired: (task: Task) => void) {
    this.#onExpired = onExpired;
  }

  /** Tasks that are taken, in whatever state. */
  get used(): number {
    return this.#used;
  }

  /** Null when the table is full; control tasks may use its last places. */
  take(owner: TaskOwner, control: boolean): Task | null {
    if (this.#used >= (control ? TASKS_MAX : TASKS_MAX - CONTROL_TASKS)) return null;
    let task = this.#free.pop();
    if (task === undefined) {
      task = new Task(this.#tasks.length);
      task.onExpired = this.#onExpired;
      this.#tasks.push(task);
    }
    this.#used += 1;
    task.owner = owner;
    task.state = TaskState.Waiting;
    // A request of the session sets none of these: a PDU with data must not find those of the command before it.
    task.direction = Direction.None;
    task.dataAt = 0;
    task.edtl = 0;
    task.attempts = 0;
    task.mayHaveRun = false;
    task.parked = false;
    this.renew(task);
    return task;
  }

  /** A new tag and clean counters, for the first try and each further one. */
  renew(task: Task): void {
    task.generation = task.generation + 1 === GENERATIONS ? 0 : task.generation + 1;
    task.itt = (task.generation << INDEX_BITS) | task.index;
    task.moved = 0;
    task.nextSn = 0;
    task.connection = null;
    task.ranges = null;
    task.recovery = null;
    task.firstSeq = 0;
    task.outSeq = 0;
    task.retries = 0;
    task.spared = 0;
    task.dataStopped = false;
    task.pendingLoss = null;
    task.response = 0;
    task.status = 0;
    task.residual = 0;
    task.sense = null;
  }

  release(task: Task): void {
    assert(task.state !== TaskState.Free, 'a task is released once');
    assert(task.wheelSlot < 0, 'a released task has no timeout');
    task.state = TaskState.Free;
    task.owner = null;
    task.connection = null;
    task.ranges = null;
    task.recovery = null;
    task.data = NO_DATA;
    task.cdb = null;
    task.extended = null;
    task.sense = null;
    task.resolve = nothing;
    task.reject = nothing;
    this.#used -= 1;
    this.#free.push(task);
  }

  /** Its owner is done with it, but the target may still answer: the tag stays taken. */
  abandon(task: Task): void {
    task.state = TaskState.Abandoned;
    task.owner = null;
    task.data = NO_DATA;
    this.#abandoned.push(task);
    if (this.#abandoned.length > ABANDONED_MAX) {
      const oldest = this.#abandoned.shift()!;
      if (oldest.state === TaskState.Abandoned) this.release(oldest);
    }
  }

  /** The late answer of a task that was given up. */
  releaseAbandoned(task: Task): void {
    for (const other of this.#abandoned.drain()) {
      if (other !== task) this.#abandoned.push(other);
    }
    this.release(task);
  }

  /** The task of a tag that came from the target; null when there is none, or it has ended. */
  find(itt: number): Task | null {
    const task = this.#tasks[itt & INDEX_MASK];
    if (task === undefined || task.itt !== itt || task.state === TaskState.Free) return null;
    return task;
  }

  /** SCSI commands of a logical unit, or of all, that have not come back to their owner. */
  commandsOf(lun: Buffer | null): Task[] {
    const commands = this.active().filter(
      ({ owner }) => owner !== null && !(owner instanceof ControlRequest),
    );
    if (lun === null) return commands;
    const high = u32(lun, 0);
    const low = u32(lun, 4);
    return commands.filter(({ lunHigh, lunLow }) => lunHigh === high && lunLow === low);
  }

  /** Every task that is taken. A copy: what is done with them may change the table. */
  active(): Task[] {
    return this.#tasks.filter((task) => task.state !== TaskState.Free);
  }
}

export function cdbOf(task: Task): Buffer {
  assert(task.cdb !== null && task.cdb.length === CDB_BYTES, 'a command has a CDB');
  return task.cdb;
}
