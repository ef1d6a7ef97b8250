/**
 * Errors of Orion. Match on `code`, never on the class or the text.
 *
 * Each lib has one table of its codes made with `defineErrors`; the table says what an error means for
 * data that was on its way (`outcome`), and docs/errors.md is generated from all tables.
 */

/**
 * What is known about the effect of a failed I/O. This is what decides whether it may be retried:
 *
 * - `not-executed`: the target certainly did not and will not execute it. Retry at once, on any path.
 * - `terminated`: it may have executed, but it cannot execute any more. An idempotent request may be retried.
 * - `unknown`: it may have executed and may still execute later. Nothing that overlaps may be sent, and the
 *   request may not be acknowledged, before the attempt is fenced.
 * - `final`: the device answered; the answer is the caller's to see. Do not retry.
 */
export type Outcome = 'not-executed' | 'terminated' | 'unknown' | 'final';

/** The errno that a block client is shown (NBD and HTTP map from it). */
export type BlockErrno =
  | 'EPERM'
  | 'EIO'
  | 'ENOMEM'
  | 'EINVAL'
  | 'ENOSPC'
  | 'EOVERFLOW'
  | 'ENOTSUP'
  | 'ESHUTDOWN';

export interface ErrorSpec {
  /** What it means, one sentence, without the particulars of one occurrence. */
  readonly text: string;
  /** What the reader should do about it. */
  readonly hint: string;
  readonly outcome: Outcome;
  /** What a block client sees; EIO when left out. */
  readonly errno?: BlockErrno;
}

export type ErrorFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface OrionErrorInit {
  readonly code: string;
  readonly message: string;
  readonly outcome: Outcome;
  readonly errno?: BlockErrno;
  readonly hint?: string;
  readonly fields?: ErrorFields;
  readonly cause?: unknown;
}

export class OrionError extends Error {
  override readonly name = 'OrionError';
  readonly code: string;
  readonly outcome: Outcome;
  readonly errno: BlockErrno;
  readonly hint: string;
  /** Target, path, LUN, LBA and so on: what was attempted, and on what. */
  readonly fields: ErrorFields;

  constructor(init: OrionErrorInit) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = init.code;
    this.outcome = init.outcome;
    this.errno = init.errno ?? 'EIO';
    this.hint = init.hint ?? '';
    this.fields = init.fields ?? {};
  }

  /** One line for a person: what happened, with what, and what to try. */
  describe(): string {
    const fields = Object.entries(this.fields)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => `${key}=${value}`)
      .join(' ');
    const where = fields === '' ? '' : ` (${fields})`;
    const hint = this.hint === '' ? '' : ` ${this.hint}`;
    return `${this.code}: ${this.message}${where}.${hint}`;
  }
}

export interface MakeOptions {
  /** Overrides the table's text where an occurrence can say more. */
  readonly message?: string;
  readonly outcome?: Outcome;
  readonly errno?: BlockErrno;
  readonly hint?: string;
  readonly fields?: ErrorFields;
  readonly cause?: unknown;
}

export interface ErrorTable<Code extends string> {
  readonly specs: Readonly<Record<Code, ErrorSpec>>;
  make(code: Code, options?: MakeOptions): OrionError;
}

const allTables: { lib: string; specs: Readonly<Record<string, ErrorSpec>> }[] = [];

/** Registers a lib's error table. Codes are `AREA_WHAT` and unique over the whole program. */
export function defineErrors<const T extends Readonly<Record<string, ErrorSpec>>>(
  lib: string,
  specs: T,
): ErrorTable<Extract<keyof T, string>> {
  allTables.push({ lib, specs });
  return {
    specs: specs as Readonly<Record<Extract<keyof T, string>, ErrorSpec>>,
    make(code, options = {}) {
      const spec: ErrorSpec = specs[code]!;
      const errno = options.errno ?? spec.errno;
      return new OrionError({
        code,
        message: options.message ?? spec.text,
        outcome: options.outcome ?? spec.outcome,
        hint: options.hint ?? spec.hint,
        ...(errno === undefined ? {} : { errno }),
        ...(options.fields === undefined ? {} : { fields: options.fields }),
        ...(options.cause === undefined ? {} : { cause: options.cause }),
      });
    },
  };
}

/** Every registered table, for the generated documentation. */
export function errorTables(): readonly {
  lib: string;
  specs: Readonly<Record<string, ErrorSpec>>;
}[] {
  return allTables;
}

export function isOrionError(error: unknown): error is OrionError {
  return error instanceof OrionError;
}

/** Text of anything that was thrown, for a log line or a message. */
export function errorText(error: unknown): string {
  if (error instanceof OrionError) return error.describe();
  if (error instanceof Error) return error.message;
  return String(error);
}
