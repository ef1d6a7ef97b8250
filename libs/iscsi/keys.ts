import { printable } from '../core/printable.ts';
import { parseBinary, parseBoolean, parseNumber } from './text.ts';

/**
 * The login and text keys (RFC 7143 §13), one table. Offers, answers, checks and defaults derive from it, on the
 * initiator's and on the target's side.
 */

type Result = 'min' | 'max' | 'or' | 'and' | 'first';

interface KeyBase {
  readonly section: string;
  /**
   * §13: LO in the login of the first connection of a session, IO in any login, ALL also later, FFPO only later.
   */
  readonly use: 'LO' | 'IO' | 'ALL' | 'FFPO';
  /** Who may send it first. */
  readonly sender: 'initiator' | 'target' | 'both';
  /** Leading connection and whole session, or each connection. */
  readonly scope: 'session' | 'connection';
  /** Means something in a discovery session; else it is Irrelevant there. */
  readonly discovery: boolean;
  /** May be sent in the security stage (§12). */
  readonly security?: boolean;
}

interface NumberKey extends KeyBase {
  readonly type: 'number';
  readonly default: number;
  readonly range: readonly [min: number, max: number];
  /** Absent: declared, each side for itself. */
  readonly result?: Result;
  /** A binary-value (§6.1): may come in base64 too. */
  readonly binary?: boolean;
}

interface BooleanKey extends KeyBase {
  readonly type: 'boolean';
  readonly default: boolean;
  readonly result: Result;
}

interface ListKey extends KeyBase {
  readonly type: 'list';
  readonly default: string;
  readonly values: readonly string[];
  readonly result: 'first';
}

/** Declared text: names, aliases, addresses. */
interface TextKey extends KeyBase {
  readonly type: 'text';
  readonly maxBytes: number;
  /** May come several times (TargetAddress). */
  readonly repeats?: boolean;
}

export type KeyDefinition = NumberKey | BooleanKey | ListKey | TextKey;

/** §13.12: the largest data segment a 24-bit length can say. */
export const SEGMENT_BYTES_MAX = 2 ** 24 - 1;

/** §13.12: what holds before the peer declared its own, and for all login PDUs. */
export const LOGIN_SEGMENT_BYTES = 8192;

const session = { use: 'LO', sender: 'both', scope: 'session', discovery: false } as const;
const anySession = { ...session, discovery: true } as const;
const digest = {
  use: 'IO',
  type: 'list',
  default: 'None',
  values: ['CRC32C', 'None'],
  result: 'first',
  sender: 'both',
  scope: 'connection',
  discovery: true,
} as const;
const text = { type: 'text', scope: 'session', discovery: true, security: true } as const;

export const keys = {
  HeaderDigest: { ...digest, section: '13.1' },
  DataDigest: { ...digest, section: '13.1' },
  MaxConnections: {
    ...session,
    section: '13.2',
    type: 'number',
    default: 1,
    range: [1, 65535],
    result: 'min',
  },
  SendTargets: {
    type: 'text',
    section: '13.3',
    use: 'FFPO',
    sender: 'initiator',
    scope: 'session',
    discovery: true,
    maxBytes: 255,
  },
  TargetName: { ...text, section: '13.4', use: 'IO', sender: 'both', maxBytes: 223 },
  InitiatorName: { ...text, section: '13.5', use: 'IO', sender: 'initiator', maxBytes: 223 },
  TargetAlias: { ...text, section: '13.6', use: 'ALL', sender: 'target', maxBytes: 255 },
  InitiatorAlias: { ...text, section: '13.7', use: 'ALL', sender: 'initiator', maxBytes: 255 },
  TargetAddress: {
    ...text,
    section: '13.8',
    use: 'ALL',
    sender: 'target',
    maxBytes: 255,
    repeats: true,
  },
  TargetPortalGroupTag: {
    type: 'number',
    section: '13.9',
    use: 'IO',
    binary: true,
    sender: 'target',
    scope: 'session',
    discovery: true,
    security: true,
    default: 0,
    range: [0, 65535],
  },
  InitialR2T: { ...session, section: '13.10', type: 'boolean', default: true, result: 'or' },
  ImmediateData: { ...session, section: '13.11', type: 'boolean', default: true, result: 'and' },
  MaxRecvDataSegmentLength: {
    type: 'number',
    section: '13.12',
    use: 'ALL',
    sender: 'both',
    scope: 'connection',
    discovery: true,
    default: LOGIN_SEGMENT_BYTES,
    range: [512, SEGMENT_BYTES_MAX],
  },
  MaxBurstLength: {
    ...session,
    section: '13.13',
    type: 'number',
    default: 262144,
    range: [512, SEGMENT_BYTES_MAX],
    result: 'min',
  },
  FirstBurstLength: {
    ...session,
    section: '13.14',
    type: 'number',
    default: 65536,
    range: [512, SEGMENT_BYTES_MAX],
    result: 'min',
  },
  DefaultTime2Wait: {
    ...anySession,
    section: '13.15',
    type: 'number',
    default: 2,
    range: [0, 3600],
    result: 'max',
  },
  DefaultTime2Retain: {
    ...anySession,
    section: '13.16',
    type: 'number',
    default: 20,
    range: [0, 3600],
    result: 'min',
  },
  MaxOutstandingR2T: {
    ...session,
    section: '13.17',
    type: 'number',
    default: 1,
    range: [1, 65535],
    result: 'min',
  },
  DataPDUInOrder: { ...session, section: '13.18', type: 'boolean', default: true, result: 'or' },
  DataSequenceInOrder: {
    ...session,
    section: '13.19',
    type: 'boolean',
    default: true,
    result: 'or',
  },
  ErrorRecoveryLevel: {
    ...anySession,
    section: '13.20',
    type: 'number',
    default: 0,
    range: [0, 2],
    result: 'min',
  },
  SessionType: { ...text, section: '13.21', use: 'LO', sender: 'initiator', maxBytes: 9 },
  TaskReporting: {
    ...session,
    section: '13.23',
    type: 'list',
    default: 'RFC3720',
    values: ['FastAbort', 'ResponseFence', 'RFC3720'],
    result: 'first',
  },
  /** RFC 7144 §7.1.1. */
  iSCSIProtocolLevel: {
    ...session,
    section: '13.24',
    type: 'number',
    default: 1,
    range: [0, 31],
    result: 'min',
  },
  /** What the other side is made of. Nothing may depend on it; we declare nothing and take what comes (§13.26.2). */
  'X#NodeArchitecture': {
    ...anySession,
    section: '13.26',
    type: 'text',
    maxBytes: 255,
  },
  AuthMethod: {
    type: 'list',
    section: '12.1',
    use: 'IO',
    sender: 'both',
    scope: 'connection',
    discovery: true,
    security: true,
    default: 'None',
    values: ['CHAP', 'None'],
    result: 'first',
  },
} as const satisfies Readonly<Record<string, KeyDefinition>>;

type Keys = typeof keys;
export type KeyName = keyof Keys;

/** Keys whose outcome is a parameter of the session or connection. */
export type ParamName = {
  [K in KeyName]: Keys[K] extends { readonly type: 'text' } ? never : K;
}[KeyName];

type ValueOf<K extends KeyName> = Keys[K] extends { readonly type: 'number' }
  ? number
  : Keys[K] extends { readonly type: 'boolean' }
    ? boolean
    : string;

/** What is in force, by the names of the RFC. */
export type Params = { [K in ParamName]: ValueOf<K> };

export type KeyValue = number | boolean | string;

/** Markers, which RFC 7143 took out (§13.25): never proposed, and refused when they come. */
export const OBSOLETE_KEYS: ReadonlySet<string> = new Set([
  'IFMarker',
  'OFMarker',
  'IFMarkInt',
  'OFMarkInt',
]);

/** Answers that are no values (§6.2). */
export const SPECIAL_ANSWERS = ['NotUnderstood', 'Irrelevant', 'Reject'] as const;

export function isSpecialAnswer(value: string): boolean {
  return (SPECIAL_ANSWERS as readonly string[]).includes(value);
}

export function isKey(name: string): name is KeyName {
  return Object.hasOwn(keys, name);
}

export function keyOf(name: KeyName): KeyDefinition {
  return keys[name];
}

/** What holds when nothing was negotiated. */
export function defaultParams(): Params {
  const params: Record<string, KeyValue> = {};
  for (const [name, key] of Object.entries(keys) as [string, KeyDefinition][]) {
    if (key.type !== 'text') params[name] = key.default;
  }
  return params as Params;
}

export function formatValue(value: KeyValue): string {
  if (typeof value === 'boolean') return value ? 'Yes' : 'No';
  return String(value);
}

/** A single value of the key's type and range; null when `text` is none. Lists: one of the values. */
export function parseValue(name: KeyName, value: string): KeyValue | null {
  const key = keyOf(name);
  switch (key.type) {
    case 'number': {
      const number = parseNumber(value) ?? (key.binary === true ? base64Number(value) : null);
      return number !== null && number >= key.range[0] && number <= key.range[1] ? number : null;
    }
    case 'boolean':
      return parseBoolean(value);
    case 'list':
      return key.values.includes(value) ? value : null;
    case 'text':
      return Buffer.byteLength(value) <= key.maxBytes ? value : null;
  }
}

/** A regular-binary-value of at most 16 bits in base64 (§6.1). */
function base64Number(text: string): number | null {
  if (!/^0[bB]/.test(text)) return null;
  const bytes = parseBinary(text);
  if (bytes === null || bytes.length === 0 || bytes.length > 2) return null;
  return bytes.readUIntBE(0, bytes.length);
}

/**
 * The outcome of `offer` when the other side may leave its answer out, as the offer alone decides it (§6.2.2): an OR
 * with Yes, an AND with No. Null for all others, which need an answer.
 */
export function settledByOffer(name: KeyName, offer: string): boolean | null {
  const key = keyOf(name);
  if (key.type !== 'boolean') return null;
  const ours = parseBoolean(offer);
  const decides = key.result === 'or' ? ours === true : ours === false;
  return decides ? ours : null;
}

/** The outcome of a negotiated key when one side says `a` and the other `b` (§6.2.2). */
export function combine(name: KeyName, a: KeyValue, b: KeyValue): KeyValue {
  const key = keyOf(name);
  switch (key.type === 'text' ? undefined : key.result) {
    case 'min':
      return Math.min(a as number, b as number);
    case 'max':
      return Math.max(a as number, b as number);
    case 'or':
      return a === true || b === true;
    case 'and':
      return a === true && b === true;
    default:
      return b;
  }
}

/**
 * Why `answer` may not be the answer to our `offer` of a negotiated key, or null (§6.2.1, §6.2.2). The offer is the
 * text that we sent: a list for list keys.
 */
export function answerInvalidReason(name: KeyName, offer: string, answer: string): string | null {
  const key = keyOf(name);
  const value = parseValue(name, answer);
  const said = `${name}=${printable(answer.slice(0, 60))}`;
  if (value === null) return `${said} is not a value of that key (§${key.section})`;
  if (key.type === 'text' || key.result === undefined) return null;
  if (key.type === 'list') {
    if (offer.split(',').includes(answer)) return null;
    return `${said} was not among what we offered: ${offer} (§6.2.1)`;
  }
  const ours = parseValue(name, offer)!;
  // The accepting side computes the result and answers with it: what combines with our offer to itself.
  if (combine(name, ours, value) === value) return null;
  return `${said} cannot be the result of our offer ${offer} (§6.2.2, §${key.section})`;
}

/** The answer to a peer's proposal of a negotiated key, and the value that is in force afterwards. */
export interface Answer {
  readonly text: string;
  /** Null when nothing changes (Reject). */
  readonly value: KeyValue | null;
}

/** Answers a proposal with the result of it and of what we want (§6.2.1, §6.2.2). `want`: a preference list for lists. */
export function answerProposal(name: KeyName, proposed: string, want: KeyValue): Answer {
  const key = keyOf(name);
  if (key.type === 'list') {
    const wanted = String(want).split(',');
    const chosen = proposed.split(',').find((value) => wanted.includes(value));
    return chosen === undefined ? { text: 'Reject', value: null } : { text: chosen, value: chosen };
  }
  const value = parseValue(name, proposed);
  if (value === null) return { text: 'Reject', value: null };
  const result = combine(name, want, value);
  return { text: formatValue(result), value: result };
}
