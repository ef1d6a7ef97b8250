import { Fifo } from '../core/fifo.ts';
import { At, i32 } from './pdu/bhs.ts';
import type { Task } from './task-table.ts';

/** What connections say of the window may overtake each other by so many commands. */
const BEHIND_MAX = 4096;

/**
 * The numbering of commands and how many the target takes (RFC 7143 §4.2.2.1), with those that wait for room. One per
 * session, shared by all its connections. Numbers are signed 32-bit, in serial arithmetic.
 */
export class CommandWindow {
  /** The CmdSN of the next command that is sent. */
  cmdSn: number;
  /** There is no connection to send on: commands wait. */
  held = false;
  readonly #waiting = new Fifo<Task>();
  #expCmdSn: number;
  #maxCmdSn: number;

  constructor(cmdSn: number, expCmdSn: number, maxCmdSn: number) {
    this.cmdSn = cmdSn | 0;
    this.#expCmdSn = expCmdSn | 0;
    this.#maxCmdSn = maxCmdSn | 0;
  }

  /** A command may be sent now: there is room, and nobody waits in front of it. */
  get free(): boolean {
    return this.#waiting.length === 0 && this.#hasRoom();
  }

  /** The target has this one: it was executed, or is in the hands of its SCSI layer (§4.2.2.1). */
  isAcknowledged(cmdSn: number): boolean {
    return ((cmdSn - this.#expCmdSn) | 0) < 0;
  }

  /** Whether a target that has our session may say that it expects this one next. */
  isPlausible(expCmdSn: number): boolean {
    const ahead = (expCmdSn - this.#expCmdSn) | 0;
    return ahead >= -BEHIND_MAX && ((this.cmdSn - expCmdSn) | 0) >= 0;
  }

  #hasRoom(): boolean {
    return ((this.#maxCmdSn - this.cmdSn) | 0) >= 0 && !this.held;
  }

  /** Bounded by the size of the task table. */
  wait(task: Task): void {
    task.queued = true;
    this.#waiting.push(task);
  }

  /** The next one that may be sent; null when there is no room, or nobody waits. */
  next(): Task | null {
    if (this.#waiting.length === 0 || !this.#hasRoom()) return null;
    const task = this.#waiting.shift()!;
    task.queued = false;
    return task;
  }

  drain(): Task[] {
    const tasks = this.#waiting.drain();
    for (const task of tasks) task.queued = false;
    return tasks;
  }

  /** Takes the numbers of a PDU: each only when it goes forward, and none of a pair that makes no sense. True: more room. */
  update(header: Buffer, at: number): boolean {
    return this.take(i32(header, at + At.expCmdSn), i32(header, at + At.maxCmdSn));
  }

  take(expCmdSn: number, maxCmdSn: number): boolean {
    if (((maxCmdSn - expCmdSn + 1) | 0) < 0) return false;
    if (((expCmdSn - this.#expCmdSn) | 0) > 0) this.#expCmdSn = expCmdSn;
    if (((maxCmdSn - this.#maxCmdSn) | 0) <= 0) return false;
    this.#maxCmdSn = maxCmdSn;
    return this.#waiting.length > 0;
  }
}
