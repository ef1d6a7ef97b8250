import { snDiff, snNext } from '../iscsi/pdu/sn.ts';
import type { Task } from './task.ts';

/** Statuses that are kept for one connection; the oldest go first. */
const STATUSES_MAX = 4096;

/** Read data that is kept for one connection; beyond it that of the oldest tasks goes. */
const DATA_BYTES_MAX = 64 * 1024 * 1024;

/** Acknowledgments of data that are waited for at one time. */
const ACKS_MAX = 4096;

interface Kept {
  readonly resend: () => void;
  readonly task: Task | null;
}

/** What one connection has sent and its initiator has not acknowledged (RFC 7143 §11.16). */
export class Retention {
  /** In the order of StatSN. */
  readonly #statuses = new Map<number, Kept>();
  readonly #tasks = new Map<number, Task>();
  readonly #acks = new Map<number, Task>();
  #dataBytes = 0;
  /** Statuses below it are acknowledged. */
  #acknowledged: number;

  constructor(statSn: number) {
    this.#acknowledged = statSn;
  }

  get dataBytes(): number {
    return this.#dataBytes;
  }

  /** Tasks whose status is not acknowledged, oldest first. */
  get tasks(): Task[] {
    return [...this.#tasks.values()];
  }

  keepStatus(statSn: number, resend: () => void, task: Task | null): void {
    this.#statuses.set(statSn, { resend, task });
    if (task !== null && this.#tasks.get(task.itt) !== task) {
      this.#tasks.set(task.itt, task);
      this.#dataBytes += task.dataIn?.length ?? 0;
    }
    while (this.#dataBytes > DATA_BYTES_MAX) this.#dropTask(this.#tasks.values().next().value!);
    if (this.#statuses.size <= STATUSES_MAX) return;
    const [oldest] = this.#statuses.keys();
    this.#drop(oldest!);
  }

  /** A task that was answered and whose status is not acknowledged. */
  taskOf(itt: number): Task | null {
    return this.#tasks.get(itt) ?? null;
  }

  /** The initiator has everything before `expStatSn`. `sent` is the next StatSN. */
  acknowledge(expStatSn: number, sent: number): void {
    if (snDiff(expStatSn, this.#acknowledged) <= 0 || snDiff(expStatSn, sent) > 0) return;
    this.#acknowledged = expStatSn | 0;
    for (const statSn of this.#statuses.keys()) {
      if (snDiff(statSn, expStatSn) >= 0) return;
      this.#drop(statSn);
    }
  }

  #drop(statSn: number): void {
    const kept = this.#statuses.get(statSn);
    this.#statuses.delete(statSn);
    if (kept?.task != null) this.#dropTask(kept.task);
  }

  #dropTask(task: Task): void {
    if (this.#tasks.get(task.itt) !== task) return;
    this.#tasks.delete(task.itt);
    this.#dataBytes -= task.dataIn?.length ?? 0;
    for (const [ttt, other] of this.#acks) if (other === task) this.#acks.delete(ttt);
  }

  /** The task goes to another connection. */
  release(task: Task): void {
    this.#dropTask(task);
  }

  expectAck(ttt: number, task: Task): void {
    this.#acks.set(ttt, task);
    if (this.#acks.size <= ACKS_MAX) return;
    const [oldest] = this.#acks.keys();
    this.#acks.delete(oldest!);
  }

  /** The task whose data a DataACK is about. */
  takeAck(ttt: number): Task | null {
    const task = this.#acks.get(ttt) ?? null;
    this.#acks.delete(ttt);
    return task;
  }

  /**
   * Sends statuses again, `count` from `from` on, 0 for all after it. `sent` when one of them was never sent or is
   * acknowledged, `gone` when it is kept no more, and nothing is sent then.
   */
  resendStatuses(from: number, count: number, next: number): 'done' | 'invalid' | 'gone' {
    const isAll = from === 0 && count === 0;
    const first = isAll ? this.#acknowledged : from | 0;
    const end = count === 0 ? next : (first + count) | 0;
    const isSent = snDiff(first, next) < 0 && snDiff(end, next) <= 0;
    if (!isAll && (!isSent || snDiff(first, this.#acknowledged) < 0)) return 'invalid';
    const wanted: Kept[] = [];
    for (let statSn = first; statSn !== end; statSn = snNext(statSn)) {
      const kept = this.#statuses.get(statSn);
      if (kept === undefined) return 'gone';
      wanted.push(kept);
    }
    for (const { resend } of wanted) resend();
    return 'done';
  }
}
