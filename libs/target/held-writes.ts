import { type CommandMatch, matches } from './command-match.ts';
import type { Fault } from './fault.ts';
import type { Task } from './task.ts';

export type HoldMatch = Omit<CommandMatch, 'opcode'>;

/** WRITE, WRITE AND VERIFY, COMPARE AND WRITE, WRITE SAME, UNMAP, XDWRITEREAD: what changes the medium. */
export const WRITING_OPCODES: readonly number[] = [
  0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e, 0x89, 0x41, 0x93, 0x42, 0x53,
];

/** Writes that a target has taken and neither executed nor answered. */
export class HeldWrites implements Fault {
  readonly name = 'hold writes';
  hits = 0;
  readonly #match: CommandMatch;
  readonly #count: number;
  readonly #resume: (task: Task) => void;
  readonly #disarm: () => void;
  readonly #tasks = new Set<Task>();
  #watchers: { nth: number; resolve: () => void }[] = [];
  #spent = false;

  constructor(match: HoldMatch, resume: (task: Task) => void, disarm: () => void) {
    this.#match = { ...match, opcode: WRITING_OPCODES };
    this.#count = match.count ?? Number.POSITIVE_INFINITY;
    this.#resume = resume;
    this.#disarm = disarm;
  }

  /** Writes that are held now. */
  get waiting(): number {
    return this.#tasks.size;
  }

  /** Resolves when so many writes in all have been held. */
  held(nth = 1): Promise<void> {
    if (this.hits >= nth) return Promise.resolve();
    return new Promise((resolve) => this.#watchers.push({ nth, resolve }));
  }

  /** Executes what is held, oldest first, answers where the connection still lives, and holds no more. */
  release(): void {
    this.#spent = true;
    this.#disarm();
    const tasks = [...this.#tasks];
    this.#tasks.clear();
    for (const task of tasks) this.#resume(task);
  }

  remove(): void {
    this.release();
  }

  /** True when the task is held from now on. */
  take(task: Task): boolean {
    if (this.#spent || this.hits >= this.#count || !matches(this.#match, task)) return false;
    this.hits += 1;
    this.#tasks.add(task);
    const { hits } = this;
    const ready = this.#watchers.filter((watcher) => watcher.nth <= hits);
    this.#watchers = this.#watchers.filter((watcher) => watcher.nth > hits);
    for (const watcher of ready) watcher.resolve();
    return true;
  }

  forget(task: Task): void {
    this.#tasks.delete(task);
  }
}
