import { assert } from '../core/assert.ts';
import type { Clock } from '../core/clock.ts';
import { Cell, type Parent } from './cell.ts';
import type { FailureNote, Init, SpawnOptions } from './context.ts';
import type { Handlers, LocalRef } from './ref.ts';

export interface ActorSystemOptions {
  readonly clock: Clock;
  /** An actor failed; for a log line. */
  readonly onFailure?: (note: FailureNote) => void;
  /** An actor of the top failed for good: the process cannot go on as it is. Thrown on when left out. */
  readonly onEscalation?: (name: string, error: Error) => void;
}

/**
 * The actors of a process: each handles one message at a time, and starts anew from its `init` when it throws.
 *
 * ```ts
 * interface Door { open(by: string): number | Refusal; close(): void; inspect(): Promise<string> }
 *
 * const system = new ActorSystem({ clock });
 * const door = system.spawn<Door>('door', (ctx) => {
 *   let opened = 0;                                  // the state: new after every restart
 *   return {
 *     open(by) {
 *       if (by === '') return refuse(errors.make('DOOR_WHO'));   // an error as answer; the door is well
 *       ctx.after(5000, 'close');                    // a message to itself, gone if it restarts before
 *       return ++opened;
 *     },
 *     close() {},
 *     inspect: () => look(ctx.signal),               // holds the turn until done; `ctx.pipe` would not
 *   };
 * });
 * door.tell('close');                                // false: mailbox full, or stopped
 * const times = await door.ask('open', 'Ada', { timeoutMs: 100 });   // a number
 * ```
 */
export class ActorSystem implements Parent {
  readonly name = '';
  readonly clock: Clock;
  readonly #options: ActorSystemOptions;
  readonly #top = new Map<string, { stop(): Promise<void> }>();

  constructor(options: ActorSystemOptions) {
    this.#options = options;
    this.clock = options.clock;
  }

  spawn<H extends Handlers<H>>(name: string, init: Init<H>, options?: SpawnOptions): LocalRef<H> {
    assert(!this.#top.has(name), `${name} exists`);
    const cell = new Cell<H>(this, name, init, options);
    this.#top.set(name, cell);
    return cell;
  }

  /** Stops all, the latest first. */
  async stop(): Promise<void> {
    for (const ref of [...this.#top.values()].reverse()) await ref.stop();
  }

  note(failure: FailureNote): void {
    this.#options.onFailure?.(failure);
  }

  childStopped(name: string): void {
    this.#top.delete(name);
  }

  childFailed(name: string, error: Error): void {
    this.#top.delete(name);
    const { onEscalation } = this.#options;
    if (onEscalation !== undefined) return onEscalation(name, error);
    queueMicrotask(() => {
      throw error;
    });
  }
}
