import { describe, test } from 'vitest';
import { missingReason, type Tool } from './tools.ts';

export { missingReason };

/** CI must not pass by skipping. */
const STRICT = process.env.CI === 'true';

/**
 * A `describe` for tests with real peers. When a tool is missing the tests are skipped with the reason in the title,
 * or, under CI=true, replaced by one test that fails with it.
 *
 *     describeWith(['tgtd', 'fio'], 'a worker dies under load', () => { test(...) });
 */
export function describeWith(tools: readonly Tool[], title: string, body: () => void): void {
  describeUnless(missingReason(tools), title, body);
}

/** The same for a reason found otherwise. `null` runs the tests. */
export function describeUnless(
  reason: string | null,
  title: string,
  body: () => void,
  strict = STRICT,
): void {
  if (reason === null) {
    describe(title, body);
  } else if (strict) {
    describe(title, () => {
      test(reason, () => {
        throw new Error(`${reason}; under CI=true a missing peer is a failure`);
      });
    });
  } else {
    describe.skip(`${title} (skipped: ${reason})`, body);
  }
}

/**
 * For one test: `test('…', (context) => { requires(context, 'nbdkit'); … })`. Skips with the reason, or fails under CI=true.
 */
export function requires(context: { skip(note?: string): never }, ...tools: readonly Tool[]): void {
  const reason = missingReason(tools);
  if (reason === null) return;
  if (STRICT) throw new Error(`${reason}; under CI=true a missing peer is a failure`);
  context.skip(reason);
}
