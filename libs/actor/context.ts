import type { Clock, Timer } from '../core/clock.ts';
import type { Handlers, LocalRef, MessageOf, Verb } from './ref.ts';
import type { SupervisionPolicy, Verdict } from './supervision.ts';

/** Makes an actor's handlers, with its state around them or in `this`. Called again for every restart. */
export type Init<H extends Handlers<H>> = (ctx: Context<H>) => H | Promise<H>;

export interface SpawnOptions {
  readonly supervision?: Partial<SupervisionPolicy>;
  /** Messages from others that may wait. */
  readonly mailboxMax?: number;
}

/** Somebody that was watched is gone; `error` when it failed for good. */
export interface Terminated {
  readonly name: string;
  readonly error: Error | null;
}

export interface FailureNote {
  readonly actor: string;
  readonly error: Error;
  /** `cleanup`: something that was to run at its end threw. */
  readonly verdict: Verdict['do'] | 'cleanup';
}

/** The verbs that take such a message. */
export type VerbFor<H extends Handlers<H>, M> = {
  [V in Verb<H>]: [M] extends [MessageOf<H, V>] ? V : MessageOf<H, V> extends undefined ? V : never;
}[Verb<H>];

/** What an actor can do besides handling. All of it ends with a restart: a new life starts with nothing. */
export interface Context<H extends Handlers<H>> {
  readonly self: LocalRef<H>;
  readonly clock: Clock;
  /** Aborted when the actor stops or starts anew: hand it to whatever takes long. */
  readonly signal: AbortSignal;
  /** A message to itself, later. */
  after<V extends Verb<H>>(delayMs: number, verb: V, ...message: Parameters<H[V]>): Timer;
  /**
   * The result comes back as a message, so that the actor can go on meanwhile. A rejection comes as `failedVerb`;
   * without one it is a failure of the actor.
   */
  pipe<T>(work: Promise<T>, verb: VerbFor<H, T>, failedVerb?: VerbFor<H, unknown>): void;
  /** Tells, once, when the other is gone; at once when it is gone already. A restart is not the end. */
  watch(
    other: { readonly name: string; readonly stopped: Promise<Error | null> },
    verb: VerbFor<H, Terminated>,
  ): void;
  /** Runs when this life ends, latest first: unsubscribe, close. */
  cleanup(fn: () => void): void;
  /** A child: stops when this life ends, and escalates to this actor. */
  spawn<C extends Handlers<C>>(name: string, init: Init<C>, options?: SpawnOptions): LocalRef<C>;
  /** After the message that it is at. */
  stop(): void;
}
