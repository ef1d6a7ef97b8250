import { isOrionError, OrionError, type Outcome } from '../core/errors.ts';

export function withOutcome(error: OrionError, outcome: Outcome): OrionError {
  const { code, message, errno, hint, fields } = error;
  return new OrionError({ code, message, outcome, errno, hint, fields, cause: error });
}

const WORST_FIRST: readonly Outcome[] = ['unknown', 'final', 'terminated', 'not-executed'];

/** Throws the failure of several that says least for the whole, if there is one. */
export function throwWorst(results: readonly PromiseSettledResult<unknown>[]): void {
  const failed = results.filter((result) => result.status === 'rejected');
  if (failed.length === 0) return;
  const errors = failed.map((result) => result.reason as unknown);
  const stranger = errors.find((error) => !isOrionError(error));
  if (stranger !== undefined) throw stranger;
  const known = errors.filter(isOrionError);
  const rank = (error: OrionError): number => WORST_FIRST.indexOf(error.outcome);
  const worst = known.reduce((a, b) => (rank(b) < rank(a) ? b : a));
  // Some part was carried out, so "not executed" is not true of the whole.
  const partly = worst.outcome === 'not-executed' && failed.length < results.length;
  throw partly ? withOutcome(worst, 'terminated') : worst;
}
