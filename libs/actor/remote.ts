import type { Bus, Subscription } from '../bus/bus.ts';
import { assert } from '../core/assert.ts';
import type { Clock } from '../core/clock.ts';
import { hexId, type Rng } from '../core/rng.ts';
import { actorErrors } from './errors.ts';
import type { AnswerOf, AskOptions, Handlers, MessageOf, Ref, Verb } from './ref.ts';

/** Clocks of two nodes may differ by this much before a message counts as too old. */
const CLOCK_SKEW_MS = 1000;

/** A longer deadline is not believed. */
const TIMEOUT_MS_MAX = 10 * 60_000;

/** Answers that are remembered, so that a message which arrives twice is carried out once. */
const REMEMBERED_MAX = 1024;

/** Telling has a subject of its own: a request must not be heard by those who only listen. */
const TELL = 'tell';

interface Envelope {
  readonly id: string;
  readonly sentWallMs: number;
  readonly timeoutMs: number;
  readonly message: unknown;
}

/** For each verb that others may use: whether a message is one (contracts check the shape). */
export type Exposed<H extends Handlers<H>> = {
  readonly [V in Verb<H>]?: (message: unknown) => message is MessageOf<H, V>;
};

export interface ExposeOptions<H extends Handlers<H>> {
  readonly bus: Bus;
  readonly clock: Clock;
  readonly ref: Ref<H>;
  readonly subject: (verb: string) => string;
  readonly verbs: Exposed<H>;
  /** Something that was told could not be taken; for a log line. */
  readonly onIgnored?: (error: unknown, verb: string) => void;
}

/** Lets other processes reach an actor of this one. What is late, malformed or of another verb never gets there. */
export function expose<H extends Handlers<H>>(options: ExposeOptions<H>): Subscription {
  const { bus, clock, ref, subject, verbs } = options;
  const remembered = new Map<string, Promise<unknown>>();
  const subscriptions = Object.entries(verbs).flatMap(([name, check]) => {
    const verb = name as Verb<H>;
    const fields = { actor: ref.name, verb };
    const open = (data: unknown): { envelope: Envelope; message: MessageOf<H, Verb<H>> } => {
      const envelope = envelopeOf(data);
      if (envelope === null || !(check as (message: unknown) => boolean)(envelope.message)) {
        throw actorErrors.make('ACTOR_BAD_MESSAGE', { fields });
      }
      const ageMs = clock.wallMs() - envelope.sentWallMs;
      if (ageMs > envelope.timeoutMs + CLOCK_SKEW_MS) {
        throw actorErrors.make('ACTOR_EXPIRED', { fields: { ...fields, ageMs } });
      }
      return { envelope, message: envelope.message as MessageOf<H, Verb<H>> };
    };
    const answer = async (data: unknown): Promise<unknown> => {
      const { envelope, message } = open(data);
      const known = remembered.get(envelope.id);
      if (known !== undefined) return known;
      const answering = ref.ask(verb, message, { timeoutMs: envelope.timeoutMs });
      remembered.set(envelope.id, answering);
      if (remembered.size > REMEMBERED_MAX) remembered.delete(remembered.keys().next().value!);
      return answering;
    };
    const hear = (data: unknown): void => {
      try {
        ref.tell(verb, ...([open(data).message] as Parameters<H[Verb<H>]>));
      } catch (error) {
        options.onIgnored?.(error, verb);
      }
    };
    return [
      bus.serve(subject(verb), ({ data }) => answer(data)),
      bus.subscribe(`${subject(verb)}.${TELL}`, ({ data }) => hear(data)),
    ];
  });
  return {
    unsubscribe: () => {
      for (const subscription of subscriptions) subscription.unsubscribe();
    },
  };
}

export interface RemoteOptions {
  readonly bus: Bus;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly name: string;
  readonly subject: (verb: string) => string;
}

/** An actor of another process, with the types of the actor itself. What is asked is never sent twice. */
export function remoteRef<H extends Handlers<H>>(options: RemoteOptions): Ref<H> {
  const { bus, clock, rng, name, subject } = options;
  const wrap = (message: unknown, timeoutMs: number): Envelope => {
    assert(timeoutMs > 0 && timeoutMs <= TIMEOUT_MS_MAX, 'an ask has a sensible deadline');
    return { id: hexId(rng, 8), sentWallMs: clock.wallMs(), timeoutMs, message };
  };
  return {
    name,
    tell(verb, ...[message]) {
      bus.publish(`${subject(verb)}.${TELL}`, wrap(message, TIMEOUT_MS_MAX));
      return bus.status === 'connected';
    },
    async ask<V extends Verb<H>>(verb: V, message: MessageOf<H, V>, ask: AskOptions) {
      const answer = await bus.request(subject(verb), wrap(message, ask.timeoutMs), ask);
      return answer as AnswerOf<H, V>;
    },
  };
}

function envelopeOf(data: unknown): Envelope | null {
  if (typeof data !== 'object' || data === null) return null;
  const { id, sentWallMs, timeoutMs, message } = data as Partial<Envelope>;
  if (typeof id !== 'string' || id.length > 64) return null;
  if (typeof sentWallMs !== 'number' || typeof timeoutMs !== 'number') return null;
  if (!(timeoutMs > 0 && timeoutMs <= TIMEOUT_MS_MAX) || !Number.isFinite(sentWallMs)) return null;
  return { id, sentWallMs, timeoutMs, message };
}
