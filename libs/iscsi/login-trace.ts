import type { KeyName, KeyValue } from './keys.ts';
import type { TextPair } from './text.ts';

/** What a login tells while it runs, for people who want to know why it went as it did. Holds no secret. */
export type LoginEvent =
  | { readonly kind: 'connecting'; readonly portal: string }
  | { readonly kind: 'connected'; readonly portal: string }
  | {
      readonly kind: 'sent';
      readonly stage: number;
      /** The stage that is asked for; null with T=0. */
      readonly nextStage: number | null;
      readonly pairs: readonly TextPair[];
    }
  | {
      readonly kind: 'received';
      readonly stage: number;
      readonly nextStage: number | null;
      /** Class and detail. */
      readonly status: number;
      readonly pairs: readonly TextPair[];
    }
  | KeyDecided
  | {
      readonly kind: 'redirected';
      readonly addresses: readonly string[];
      readonly isPermanent: boolean;
    }
  | { readonly kind: 'retried'; readonly why: string }
  | { readonly kind: 'authenticated'; readonly how: string };

/** What became of one key. */
export interface KeyDecided {
  readonly kind: 'key';
  readonly name: KeyName;
  /** Null: the target declared or proposed it. */
  readonly offered: string | null;
  /** Null: there was no answer. */
  readonly answered: string | null;
  readonly outcome: KeyValue;
  readonly section: string;
  readonly why: string;
}

export type LoginTrace = (event: LoginEvent) => void;

const VALUE_CHARS_MAX = 120;

/** Who has challenge and response can try secrets at leisure: neither is shown. */
const HIDDEN_KEYS: readonly string[] = ['CHAP_C', 'CHAP_R'];

export function shownPairs(pairs: readonly TextPair[]): TextPair[] {
  return pairs.map(([name, value]) => [name, shownValue(name, value)]);
}

function shownValue(name: string, value: string): string {
  if (HIDDEN_KEYS.includes(name)) return `(${value.length} characters)`;
  return value.length > VALUE_CHARS_MAX ? `${value.slice(0, VALUE_CHARS_MAX)}...` : value;
}
