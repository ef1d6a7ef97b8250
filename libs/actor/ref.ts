import type { OrionError } from '../core/errors.ts';

/**
 * What an actor understands: a function for each verb, with one message at the most. Written
 * `H extends Handlers<H>`, so that an interface fits, too.
 */
export type Handlers<H> = { readonly [V in keyof H]: (message: never) => unknown };

export type Verb<H> = keyof H & string;

/** Undefined for a verb without message. */
export type MessageOf<H extends Handlers<H>, V extends Verb<H>> =
  Parameters<H[V]> extends [] ? undefined : Parameters<H[V]>[0];

export type AnswerOf<H extends Handlers<H>, V extends Verb<H>> = Exclude<
  Awaited<ReturnType<H[V]>>,
  Refusal
>;

export interface AskOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** An actor seen from outside, here or in another process. */
export interface Ref<H extends Handlers<H>> {
  readonly name: string;
  /** Fire and forget. False: it was not taken (mailbox full, stopped); over the bus nobody knows. */
  tell<V extends Verb<H>>(verb: V, ...message: Parameters<H[V]>): boolean;
  /**
   * At most once. Rejects with what the handler threw or refused with, ACTOR_OVERLOADED, ACTOR_STOPPED,
   * ACTOR_TIMEOUT (outcome `not-executed` when it had not begun); over the bus also with the errors of the bus.
   */
  ask<V extends Verb<H>>(
    verb: V,
    message: MessageOf<H, V>,
    options: AskOptions,
  ): Promise<AnswerOf<H, V>>;
}

/** An actor of this process. */
export interface LocalRef<H extends Handlers<H>> extends Ref<H> {
  /** Lets it finish the message that it is at. Resolves when it and its children are gone. */
  stop(): Promise<void>;
  /** Resolves when it is gone for good, with the error when that was why. */
  readonly stopped: Promise<Error | null>;
}

/** An answer that is an error, from an actor that is well. Throwing means that its state is not to be trusted. */
export class Refusal {
  readonly error: OrionError;

  constructor(error: OrionError) {
    this.error = error;
  }
}

/** `return refuse(error)` rejects the ask; a thrown error does, too, and the actor starts anew. */
export function refuse(error: OrionError): Refusal {
  return new Refusal(error);
}
