import type { Clock } from '../core/clock.ts';
import type { Rng } from '../core/rng.ts';
import { IssuedChallenges } from '../iscsi/chap-challenges.ts';
import { BufferPool } from '../wire/buffer-pool.ts';
import type { Address } from '../wire/network.ts';
import type { Connection } from './connection.ts';
import { DeviceServer } from './device-server.ts';
import { Faults } from './faults.ts';
import { WRITING_OPCODES } from './held-writes.ts';
import type { LogicalUnit } from './logical-unit.ts';
import { Nexus } from './nexus.ts';
import type { TargetOptions, WriteRecord } from './options.ts';
import type { LostConnection } from './recovery.ts';
import { Sense, type SenseCode } from './scsi-codes.ts';
import type { Session } from './session.ts';
import type { Task } from './task.ts';

/** Initiator ports that are remembered for their unit attentions; the oldest without a session goes first. */
const NEXUSES_MAX = 4096;

/** Writes that the log keeps; the oldest go first. */
const WRITE_LOG_MAX = 100_000;

const TSIH_MAX = 0xffff;

/** Data of all commands that are on their way; a write beyond it is answered TASK SET FULL. */
const DATA_BYTES_MAX = 512 * 1024 * 1024;

/** What all connections of a target share: units, sessions, tasks, faults. */
export class Engine {
  readonly options: TargetOptions;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly pool = new BufferPool();
  readonly device = new DeviceServer();
  readonly faults: Faults;
  readonly challenges = new IssuedChallenges();
  /** Where the target listens; port 0 becomes the one that was given. */
  portals: { address: Address; tpgt: number }[] = [];
  readonly connections = new Set<Connection>();
  readonly sessions = new Set<Session>();
  readonly writeLog: WriteRecord[] = [];
  /** Every task that is not over, of sessions that live and of sessions that are gone. */
  readonly tasks = new Set<Task>();
  readonly #nexuses = new Map<string, Nexus>();
  #lastTsih = 0;

  constructor(options: TargetOptions, units: readonly LogicalUnit[]) {
    this.options = options;
    this.clock = options.clock;
    this.rng = options.rng;
    for (const unit of units) this.device.units.set(unit.lun, unit);
    this.faults = new Faults({
      clock: options.clock,
      rng: options.rng,
      connections: () => this.connections,
      resume: (task) => this.run(task),
      changeCapacity: (lun, sizeBytes) => this.changeCapacity(lun, sizeBytes),
    });
  }

  get abortsOnReinstatement(): boolean {
    return this.options.behaviour?.onReinstatement === 'abort';
  }

  /** True when a reset aborts running commands instead of waiting for them. */
  get abortsOnReset(): boolean {
    return this.options.behaviour?.onLunReset === 'abort';
  }

  // Sessions

  newTsih(): number {
    const used = new Set([...this.sessions].map((session) => session.tsih));
    do this.#lastTsih = (this.#lastTsih % TSIH_MAX) + 1;
    while (used.has(this.#lastTsih));
    return this.#lastTsih;
  }

  /** The nexus of a login. A new one has all its unit attentions before it; a known one has lost its old session. */
  nexusFor(initiatorName: string, isid: string, tpgt: number): Nexus {
    const key = `${initiatorName} ${isid} ${tpgt}`;
    const known = this.#nexuses.get(key);
    const nexus = known ?? new Nexus(initiatorName, isid, tpgt);
    // Re-inserted: the map is in the order of the last login.
    this.#nexuses.delete(key);
    this.#nexuses.set(key, nexus);
    const code = known === undefined ? Sense.powerOn : Sense.nexusLoss;
    for (const lun of this.device.luns) nexus.attend(lun, code);
    this.#boundNexuses();
    return nexus;
  }

  #boundNexuses(): void {
    if (this.#nexuses.size <= NEXUSES_MAX) return;
    const used = new Set([...this.sessions].map((session) => session.nexus));
    for (const [key, nexus] of this.#nexuses) {
      if (used.has(nexus)) continue;
      this.#nexuses.delete(key);
      return;
    }
  }

  /** Session reinstatement (RFC 7143 §6.3.5): the old session of the nexus is over before the new one is answered. */
  reinstate(nexus: Nexus): void {
    for (const session of [...this.sessions]) {
      if (session.nexus === nexus) this.endSession(session, 'reinstated');
    }
    if (!this.abortsOnReinstatement) return;
    for (const task of [...this.tasks]) if (task.nexus === nexus) this.abort(task);
  }

  /** Drops all connections; nothing is kept for a recovery. */
  endSession(session: Session, why: string): void {
    for (const connection of [...session.connections.values()]) {
      connection.isClosing = true;
      connection.drop(why);
    }
    session.recovery.discard();
    this.sessions.delete(session);
  }

  /**
   * Connection reinstatement (§6.3.4): the old connection of that CID is over before the new one is answered. It is
   * removed for recovery at level 2, and closed below.
   */
  reinstateConnection(session: Session, cid: number, expStatSn: number): void {
    const old = session.connections.get(cid);
    const tasks = [...session.tasks.values()].filter((task) => task.connection === old);
    old?.drop('reinstated');
    session.recovery.acknowledge(cid, expStatSn);
    if (session.recovery.logOut(cid) || !this.abortsOnReinstatement) return;
    for (const task of tasks) this.abort(task);
  }

  /**
   * A connection is gone, and with the last one its session. What it had brought completely goes on; what was
   * incomplete ends (§7.6).
   */
  connectionLost(connection: Connection, session: Session): void {
    if (session.connections.get(connection.cid) === connection) {
      session.connections.delete(connection.cid);
    }
    session.unpark(connection);
    const isKept = !connection.isClosing && session.recovery.lose(connection);
    if (session.isGone) this.sessions.delete(session);
    if (isKept) return;
    for (const task of [...session.tasks.values()]) {
      if (task.connection !== connection) continue;
      task.connection = null;
      if (task.state === 'data') this.abort(task);
    }
  }

  /** Nobody came back for the tasks of a lost connection (§7.6). */
  tasksExpired(lost: LostConnection): void {
    for (const task of [...lost.tasks]) {
      task.lost = null;
      // What runs goes on, as after the loss of a connection below level 2.
      if (task.state === 'executed' || task.state === 'data') this.abort(task);
    }
    lost.tasks.clear();
    for (const session of [...this.sessions]) if (session.isGone) this.sessions.delete(session);
  }

  /** The session that a login names by its TSIH, if it is one of that initiator port and portal group (§6.3.1). */
  sessionOf(tsih: number, initiatorName: string, isid: string, tpgt: number): Session | null {
    for (const session of this.sessions) {
      const { nexus } = session;
      const isSame = nexus.initiatorName === initiatorName && nexus.isid === isid;
      if (session.tsih === tsih && isSame && nexus.tpgt === tpgt) return session;
    }
    return null;
  }

  // Tasks

  /** Room for the data of a write, or null when there is too much of it already. */
  takeData(bytes: number): Buffer | null {
    return this.pool.takenBytes + bytes > DATA_BYTES_MAX ? null : this.pool.take(bytes);
  }

  begin(task: Task): void {
    this.tasks.add(task);
    task.session.begin(task);
  }

  /** All data of the task has come: execute it now, or when its fault lets it. */
  start(task: Task): void {
    task.state = 'running';
    if (task.failed || this.faults.mayExecute(task)) this.run(task);
  }

  /** Executes and answers; waits when the connection cannot take the answer now. */
  run(task: Task): void {
    if (task.state === 'ended') return;
    const { connection } = task;
    if (connection !== null && !connection.takesAnswers) return connection.wait(task);
    if (!task.failed && task.state !== 'executed') this.#execute(task);
    if (connection === null && task.lost !== null) {
      task.state = 'executed';
      return;
    }
    this.#end(task);
    // Ended first: the answer tells of the window that the task has left.
    connection?.answer(task);
  }

  #execute(task: Task): void {
    this.device.execute(task);
    if (this.options.recordWrites !== true || task.failed) return;
    if (!WRITING_OPCODES.includes(task.opcode)) return;
    this.writeLog.push({
      atMs: this.clock.nowMs(),
      lun: task.lun,
      opcode: task.opcode,
      lba: task.lba,
      blocks: task.blocks,
      initiatorName: task.nexus.initiatorName,
      isid: task.nexus.isid,
      tsih: task.session.tsih,
      cmdSn: task.cmdSn,
      connected: task.connection !== null,
    });
    if (this.writeLog.length > WRITE_LOG_MAX) this.writeLog.shift();
  }

  /** The task is over and will neither execute nor be answered. */
  abort(task: Task): void {
    if (task.state === 'ended') return;
    this.faults.forget(task);
    this.#end(task);
  }

  #end(task: Task): void {
    this.tasks.delete(task);
    task.session.finish(task);
    task.lost?.tasks.delete(task);
    task.lost = null;
    if (task.connection?.isReceiving(task) !== true) this.releaseData(task);
    task.ended();
  }

  /** Gives the data buffer back. Not while the connection still receives into it. */
  releaseData(task: Task): void {
    const { dataOut } = task;
    task.dataOut = null;
    if (dataOut !== null) this.pool.give(dataOut);
  }

  // Units

  /** Tells every initiator port that is known. */
  attendAll(lun: number, code: SenseCode, except: Nexus | null = null): void {
    for (const nexus of this.#nexuses.values()) if (nexus !== except) nexus.attend(lun, code);
  }

  changeCapacity(lun: number, sizeBytes: number): void {
    this.device.units.get(lun)?.disk.resize(sizeBytes);
    this.attendAll(lun, Sense.capacityChanged);
  }

  /** Everything is forgotten but the disks: power on. */
  powerOn(): void {
    for (const session of [...this.sessions]) this.endSession(session, 'power on');
    for (const connection of [...this.connections]) connection.drop('power on');
    for (const task of [...this.tasks]) this.abort(task);
    this.#nexuses.clear();
  }
}
