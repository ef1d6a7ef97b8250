/** Thrown when our own code broke one of its invariants. Never thrown because of what a peer sent. */
export class AssertionFailure extends Error {
  override readonly name = 'AssertionFailure';
}

/** States an invariant of our own code. A false condition is a bug: the actor that hits it is restarted. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message);
}
