import { type Static, Type as T } from 'typebox';
import { Value } from 'typebox/value';

/** What supervisor and child say to each other over the IPC channel. */

/** How often a child shows that its event loop turns. */
export const ALIVE_EVERY_MS = 2000;

export const ChildMessage = T.Union([
  T.Object({ type: T.Literal('alive') }),
  /** Its service runs. */
  T.Object({ type: T.Literal('started') }),
  T.Object({ type: T.Literal('ready'), volume: T.String(), uris: T.Array(T.String()) }),
  /** It gives up; one line for the user. */
  T.Object({ type: T.Literal('failed'), line: T.String(), exitCode: T.Integer() }),
]);
export type ChildMessage = Static<typeof ChildMessage>;

export const DRAIN_MESSAGE = { type: 'drain' } as const;

export function isChildMessage(value: unknown): value is ChildMessage {
  return Value.Check(ChildMessage, value);
}

export function isDrain(value: unknown): boolean {
  return (value as { type?: unknown } | null)?.type === DRAIN_MESSAGE.type;
}
