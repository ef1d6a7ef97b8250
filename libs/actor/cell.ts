import { assert } from '../core/assert.ts';
import type { Clock, Timer } from '../core/clock.ts';
import { isOrionError } from '../core/errors.ts';
import type { Context, FailureNote, Init, SpawnOptions } from './context.ts';
import { actorErrors } from './errors.ts';
import { Life } from './life.ts';
import { Mailbox } from './mailbox.ts';
import {
  type AnswerOf,
  type AskOptions,
  type Handlers,
  type LocalRef,
  type MessageOf,
  Refusal,
  type Verb,
} from './ref.ts';
import { DEFAULT_POLICY, judgeFailure, type SupervisionPolicy } from './supervision.ts';

interface Mail {
  readonly verb: string;
  readonly message: unknown;
  /** Who waits for the answer. */
  readonly asker?: Asker;
  /** Mail that the actor made itself is void when it has started anew since. */
  readonly life?: Life;
}

interface Asker {
  /** Where it stands; who asks gives up at the deadline. */
  state: 'waiting' | 'begun' | 'over';
  readonly deadlineMs: number;
  resolve(answer: unknown): void;
  reject(error: unknown): void;
}

/** Who supervises a cell: its parent, or the system. */
export interface Parent {
  readonly name: string;
  readonly clock: Clock;
  /** Something in the tree failed; for a log line. */
  note(failure: FailureNote): void;
  /** A child failed for good, and its parent with it. */
  childFailed(name: string, error: Error): void;
  childStopped(name: string): void;
}

/** One actor: its mailbox, its handlers, and the loop that gives it one message at a time. */
export class Cell<H extends Handlers<H>> implements LocalRef<H>, Parent {
  readonly name: string;
  readonly clock: Clock;
  readonly stopped: Promise<Error | null>;
  readonly #parent: Parent;
  readonly #init: Init<H>;
  readonly #policy: SupervisionPolicy;
  readonly #mailbox: Mailbox<Mail>;
  readonly #tellStopped: (why: Error | null) => void;
  #life = new Life();
  /** Null: to be initialised before the next message. */
  #handlers: H | null = null;
  #failures: readonly number[] = [];
  #backoff: Timer | null = null;
  /** A turn is under way or about to be. */
  #busy = false;
  #stopping = false;
  #dead = false;

  constructor(parent: Parent, name: string, init: Init<H>, options: SpawnOptions = {}) {
    this.name = name;
    this.clock = parent.clock;
    this.#parent = parent;
    this.#init = init;
    this.#policy = { ...DEFAULT_POLICY, ...options.supervision };
    this.#mailbox = new Mailbox(options.mailboxMax);
    const { promise, resolve } = Promise.withResolvers<Error | null>();
    this.stopped = promise;
    this.#tellStopped = resolve;
    this.#wake();
  }

  tell<V extends Verb<H>>(verb: V, ...[message]: Parameters<H[V]>): boolean {
    return this.#post('user', { verb, message });
  }

  ask<V extends Verb<H>>(
    verb: V,
    message: MessageOf<H, V>,
    { timeoutMs, signal }: AskOptions,
  ): Promise<AnswerOf<H, V>> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const fields = { actor: this.name, verb };
      if (this.#dead || this.#stopping)
        return reject(actorErrors.make('ACTOR_STOPPED', { fields }));
      const over = (): void => {
        asker.state = 'over';
        timer.cancel();
        signal?.removeEventListener('abort', onAbort);
      };
      const asker: Asker = {
        state: 'waiting',
        deadlineMs: this.clock.nowMs() + timeoutMs,
        resolve: (answer) => {
          over();
          resolve(answer as AnswerOf<H, V>);
        },
        reject: (error) => {
          over();
          reject(error);
        },
      };
      const timer = this.clock.after(timeoutMs, () => asker.reject(this.#timeout(asker, verb)));
      const onAbort = (): void => asker.reject(signal?.reason);
      signal?.addEventListener('abort', onAbort, { once: true });
      if (!this.#post('user', { verb, message, asker })) {
        asker.reject(actorErrors.make('ACTOR_OVERLOADED', { fields }));
      }
    });
  }

  async stop(): Promise<void> {
    if (!this.#dead && !this.#stopping) {
      this.#stopping = true;
      this.#backoff?.cancel();
      this.#life.abort(actorErrors.make('ACTOR_STOPPED', { fields: { actor: this.name } }));
      this.#wake();
    }
    await this.stopped;
  }

  note(failure: FailureNote): void {
    this.#parent.note(failure);
  }

  childFailed(name: string, error: Error): void {
    this.#life.removeChild(name);
    void this.#fail(error); // does not reject
  }

  childStopped(name: string): void {
    this.#life.removeChild(name);
  }

  /** False: not taken. */
  #post(lane: 'system' | 'user', mail: Mail): boolean {
    if (this.#dead || this.#stopping) return false;
    if (!this.#mailbox.offer(lane, mail)) return false;
    this.#wake();
    return true;
  }

  #wake(): void {
    if (this.#busy || this.#dead) return;
    this.#busy = true;
    queueMicrotask(() => void this.#turns()); // does not reject
  }

  async #turns(): Promise<void> {
    while (!this.#stopping && this.#backoff === null) {
      if (this.#handlers === null) {
        await this.#start();
        continue;
      }
      const mail = this.#mailbox.take();
      if (mail === undefined) break;
      // No `await` where the handler has none: a thousand small messages are one microtask.
      const pending = this.#deliver(mail);
      if (pending !== null) await pending;
    }
    if (this.#stopping && !this.#dead) await this.#die(null);
    this.#busy = false;
  }

  async #start(): Promise<void> {
    const life = new Life();
    this.#life = life;
    try {
      const handlers = await this.#init(this.#context(life));
      if (!life.ended) this.#handlers = handlers;
    } catch (error) {
      await this.#fail(error);
    }
  }

  /** Null when it is done already. */
  #deliver(mail: Mail): Promise<void> | null {
    const { asker, verb, life } = mail;
    if (life?.ended === true || asker?.state === 'over') return null;
    if (asker !== undefined) {
      // Its timer may be late after a stall; who asked has given up by then.
      if (this.clock.nowMs() >= asker.deadlineMs) {
        asker.reject(this.#timeout(asker, verb));
        return null;
      }
      asker.state = 'begun';
    }
    const handler = this.#handlers![verb as Verb<H>];
    if (typeof handler !== 'function') {
      asker?.reject(actorErrors.make('ACTOR_BAD_MESSAGE', { fields: { actor: this.name, verb } }));
      return null;
    }
    try {
      const answer = handler.call(this.#handlers, mail.message as never);
      if (isThenable(answer)) return this.#finish(answer, asker);
      settle(asker, answer);
      return null;
    } catch (error) {
      return this.#failAt(error, asker);
    }
  }

  async #finish(work: PromiseLike<unknown>, asker: Asker | undefined): Promise<void> {
    try {
      settle(asker, await work);
    } catch (error) {
      await this.#failAt(error, asker);
    }
  }

  #failAt(error: unknown, asker: Asker | undefined): Promise<void> {
    asker?.reject(isOrionError(error) ? error : this.#crash(error));
    return this.#fail(error);
  }

  /** Its state is not to be trusted: away with it, and what next is the policy's to say. Does not reject. */
  async #fail(thrown: unknown): Promise<void> {
    // What an aborted handler throws on its way out is no failure, and one life fails once.
    if (this.#dead || this.#stopping || this.#life.ended) return;
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    const life = this.#life;
    const reason = this.#crash(error);
    life.abort(reason);
    const verdict = judgeFailure(this.#policy, this.#failures, this.clock.nowMs());
    this.#parent.note({ actor: this.name, error, verdict: verdict.do });
    if (verdict.do !== 'restart') {
      this.#stopping = true;
      await this.#die(error, verdict.do === 'escalate');
      return;
    }
    this.#failures = verdict.failures;
    this.#handlers = null;
    this.#backoff = this.clock.after(verdict.afterMs, () => void this.#again(life, reason));
    await this.#endLife(life, reason);
  }

  async #again(old: Life, reason: Error): Promise<void> {
    // Also when its children took longer to stop than the pause.
    await this.#endLife(old, reason);
    this.#backoff = null;
    this.#wake();
  }

  async #die(why: Error | null, escalates = false): Promise<void> {
    if (this.#dead) return;
    this.#dead = true;
    this.#handlers = null;
    const fields = { actor: this.name };
    await this.#endLife(this.#life, actorErrors.make('ACTOR_STOPPED', { fields }));
    for (const { asker, verb } of this.#mailbox.drain()) {
      asker?.reject(actorErrors.make('ACTOR_STOPPED', { fields: { ...fields, verb } }));
    }
    this.#tellStopped(why);
    if (escalates && why !== null) this.#parent.childFailed(this.name, why);
    else this.#parent.childStopped(this.name);
  }

  async #endLife(life: Life, reason: Error): Promise<void> {
    const error = await life.end(reason);
    if (error === null) return;
    const failure = error instanceof Error ? error : new Error(String(error));
    this.#parent.note({ actor: this.name, error: failure, verdict: 'cleanup' });
  }

  #context(life: Life): Context<H> {
    const toSelf = (verb: string, message: unknown): void => {
      if (life.ended) return;
      const taken = this.#post('system', { verb, message, life });
      assert(taken, `${this.name}: more than its own mailbox can hold`);
    };
    return {
      self: this,
      clock: this.clock,
      signal: life.signal,
      after: (delayMs, verb, ...[message]) => {
        if (life.ended) return { cancel: () => undefined };
        const timer = this.clock.after(delayMs, () => {
          life.removeTimer(timer);
          toSelf(verb, message);
        });
        life.addTimer(timer);
        return timer;
      },
      pipe: (work, verb, failedVerb) => {
        work.then(
          (value) => toSelf(verb, value),
          (error: unknown) => {
            if (life.ended) return;
            if (failedVerb !== undefined) toSelf(failedVerb, error);
            else void this.#fail(error);
          },
        );
      },
      watch: (other, verb) => {
        void other.stopped.then((error) => toSelf(verb, { name: other.name, error }));
      },
      cleanup: (fn) => life.addCleanup(fn),
      spawn: (name, init, options) => {
        assert(!life.ended, `${this.name}: spawns after its end`);
        const path = `${this.name}/${name}`;
        assert(!life.children.has(path), `${path} exists`);
        const child = new Cell(this, path, init, options);
        life.addChild(path, child);
        return child;
      },
      stop: () => void this.stop(),
    };
  }

  #timeout(asker: Asker, verb: string): Error {
    const outcome = asker.state === 'waiting' ? 'not-executed' : 'unknown';
    return actorErrors.make('ACTOR_TIMEOUT', { outcome, fields: { actor: this.name, verb } });
  }

  #crash(cause: unknown): Error {
    return actorErrors.make('ACTOR_CRASHED', { fields: { actor: this.name }, cause });
  }
}

function settle(asker: Asker | undefined, answer: unknown): void {
  if (asker?.state !== 'begun') return;
  if (answer instanceof Refusal) asker.reject(answer.error);
  else asker.resolve(answer);
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null)?.then === 'function';
}
