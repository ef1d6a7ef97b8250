import { Type as T } from 'typebox';
import type { FormatName } from './formats.ts';

/** Beside the keywords of JSON Schema a key has these notes. */
export interface KeyNotes {
  /** One or two sentences for the reader of docs/config.md. */
  readonly description: string;
  /** Left out: the key must be given. */
  readonly default?: unknown;
  /** How the default is made when it depends on other keys; `default` is then "". */
  readonly derived?: string;
  /** A check of formats.ts. */
  readonly format?: FormatName;
  /** In words beside the range: "ms", "s", "bytes". */
  readonly unit?: string;
  /** The key is accepted and checked, and changes nothing in this version. */
  readonly effect?: 'later';
}

export const str = (notes: KeyNotes & { pattern?: string; maxLength?: number }) =>
  T.String({ ...notes });
export const int = (minimum: number, maximum: number, notes: KeyNotes) =>
  T.Integer({ minimum, maximum, ...notes });
export const bool = (notes: KeyNotes) => T.Boolean({ ...notes });
export const size = (minimum: number, maximum: number, notes: KeyNotes) =>
  T.Integer({ minimum, maximum, format: 'bytes', unit: 'bytes', ...notes });
