import { isOrionError } from '#core/errors.ts';

/** What the shell is told. */
export const Exit = {
  Ok: 0,
  /** It failed; the one line on stderr says why and what to do. */
  Failed: 1,
  /** The command line is wrong. */
  Usage: 2,
  /** EX_UNAVAILABLE: this version does not have the command yet. */
  NotYet: 69,
  /** EX_CONFIG: the configuration has problems. */
  Config: 78,
} as const;
export type Exit = (typeof Exit)[keyof typeof Exit];

export const EXIT_CODES_TEXT = `Exit codes: 0 done; 1 failed, the line on stderr says what to do; 2 wrong command line;
69 the command is not available yet; 78 the configuration has problems.`;

export function exitCodeOf(error: unknown): Exit {
  if (!isOrionError(error)) return Exit.Failed;
  if (error.code.startsWith('CONFIG_')) return Exit.Config;
  if (error.code === 'CLI_NOT_YET') return Exit.NotYet;
  if (error.code === 'CLI_USAGE') return Exit.Usage;
  return Exit.Failed;
}
