/** Waiting in tests against real processes. The virtual clock has no part in these. */

export const WAIT_DEFAULT_MS = 30_000;
const POLL_MS = 20;

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Polls until `probe` returns something other than false, null or undefined, and returns it. A probe that throws
 * counts as not yet. On timeout the error names what was waited for and the last reason. `hopeless` is asked before
 * each probe: a text ends the waiting once that probe has failed too.
 */
export async function waitFor<T>(
  what: string,
  probe: () => T | Promise<T>,
  timeoutMs = WAIT_DEFAULT_MS,
  hopeless: () => string | null = () => null,
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    const verdict = hopeless();
    try {
      const value = await probe();
      if (value !== false && value !== null && value !== undefined) {
        return value as Exclude<T, false | null | undefined>;
      }
      last = undefined;
    } catch (error) {
      last = error;
    }
    const reason = last === undefined ? '' : `: ${String(last)}`;
    if (verdict !== null) throw new Error(`${verdict} before ${what}${reason}`);
    if (performance.now() > deadline) {
      throw new Error(`waited ${timeoutMs} ms for ${what}${reason}`);
    }
    await pause(POLL_MS);
  }
}
