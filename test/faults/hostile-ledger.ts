import { AssertionFailure } from '#core/assert.ts';
import { isOrionError } from '#core/errors.ts';
import type { IscsiLun } from '#iscsi/lun.ts';

const CANARY_BYTES = 64;
const CANARY = 0xc5;
/** What stands in a buffer before a read: no data of a test look like it. */
const UNREAD = 0x5a;

/** Memory of one I/O, with bytes around it that nobody may touch. */
export class GuardedBuffer {
  readonly data: Buffer;
  readonly #whole: Buffer;
  #settled: Buffer | null = null;

  constructor(content: number | Buffer) {
    const bytes = typeof content === 'number' ? content : content.length;
    this.#whole = Buffer.alloc(bytes + 2 * CANARY_BYTES, CANARY);
    this.data = this.#whole.subarray(CANARY_BYTES, CANARY_BYTES + bytes);
    if (typeof content === 'number') this.data.fill(UNREAD);
    else content.copy(this.data);
  }

  /** From now on the memory is its owner's alone. */
  settle(): void {
    this.#settled = Buffer.from(this.data);
  }

  /** What is wrong with it, or null. */
  get fault(): string | null {
    const around = [
      this.#whole.subarray(0, CANARY_BYTES),
      this.#whole.subarray(CANARY_BYTES + this.data.length),
    ];
    if (around.some((part) => part.some((byte) => byte !== CANARY))) return 'bytes beside a buffer';
    if (this.#settled?.equals(this.data) === false) return 'a buffer after its command had settled';
    return null;
  }
}

export interface Entry {
  readonly what: string;
  readonly buffer: GuardedBuffer;
  state: 'pending' | 'done' | 'failed';
  error: unknown;
}

/** Every command of a run: whether it settles, with what, and what became of its memory. */
export class Ledger {
  readonly entries: Entry[] = [];
  /** What was given back for each task tag of a LUN: it may be once. */
  readonly #returned = new Map<number, number>();
  readonly faults: string[] = [];

  /** Counts how often the session gives each task of this LUN back. */
  watch(lun: IscsiLun): void {
    const done = lun.taskDone.bind(lun);
    const lost = lun.taskLost.bind(lun);
    // An answer that is an error is told by taskLost from inside of taskDone.
    let within = false;
    lun.taskDone = (task) => {
      this.#count(task.itt);
      within = true;
      done(task);
      within = false;
    };
    lun.taskLost = (task, error) => {
      if (!within) this.#count(task.itt);
      lost(task, error);
    };
  }

  #count(itt: number): void {
    const times = (this.#returned.get(itt) ?? 0) + 1;
    this.#returned.set(itt, times);
    if (times > 1) this.faults.push(`task ${itt >>> 0} was given back ${times} times`);
  }

  add(what: string, buffer: GuardedBuffer, promise: Promise<unknown>): Entry {
    const entry: Entry = { what, buffer, state: 'pending', error: null };
    this.entries.push(entry);
    promise.then(
      () => {
        buffer.settle();
        entry.state = 'done';
      },
      (error: unknown) => {
        buffer.settle();
        entry.state = 'failed';
        entry.error = error;
        const reason = internalFault(error);
        if (reason !== null) this.faults.push(`${what} failed with ${reason}`);
      },
    );
    return entry;
  }

  get isSettled(): boolean {
    return this.entries.every(({ state }) => state !== 'pending');
  }

  /** Everything that is wrong now that the run is over. */
  judge(): string[] {
    const found = [...this.faults];
    for (const { what, buffer, state } of this.entries) {
      if (state === 'pending') found.push(`${what} never settled`);
      if (buffer.fault !== null) found.push(`${what} changed ${buffer.fault}`);
    }
    return found;
  }
}

/** Why an error is a bug of ours and not the target's doing; null when it is the latter. */
export function internalFault(error: unknown): string | null {
  for (let at: unknown = error; at !== undefined && at !== null; ) {
    if (at instanceof AssertionFailure) return `an assertion: ${at.message}`;
    if (!(at instanceof Error)) return `no error: ${String(at)}`;
    const hasCode = typeof (at as { code?: unknown }).code === 'string';
    const isNodes = hasCode && /^ERR_/.test((at as unknown as { code: string }).code);
    if (!isOrionError(at) && (!hasCode || isNodes)) {
      // The reason that a stream was destroyed with is a copy of an error that was judged already.
      if (at.constructor !== Error) return `${at.constructor.name}: ${at.message}`;
    }
    at = at.cause;
  }
  return null;
}
