import { printable } from '../core/printable.ts';
import {
  answerInvalidReason,
  answerProposal,
  defaultParams,
  formatValue,
  isKey,
  isSpecialAnswer,
  type KeyDefinition,
  type KeyName,
  type KeyValue,
  keyOf,
  LOGIN_SEGMENT_BYTES,
  OBSOLETE_KEYS,
  type Params,
  parseValue,
  settledByOffer,
} from './keys.ts';
import type { LoginTrace } from './login-trace.ts';
import { LoginStage } from './pdu/opcodes.ts';
import type { TextPair } from './text.ts';

/** Keys of later documents: targets that do not know them say so, or nothing (§13.23, RFC 7144 §7.1.1). */
const LATER_KEYS: readonly string[] = ['TaskReporting', 'iSCSIProtocolLevel'];

/** Keys of one login that we do not know. No target has more than a few. */
const UNKNOWN_KEYS_MAX = 64;

const SHOWN_CHARS_MAX = 60;

export interface NegotiationOptions {
  /** What we ask for; keys that are left out are not offered. Lists have commas. */
  readonly wanted: Partial<Params>;
  readonly isDiscovery: boolean;
  /** The connection is added to a session, whose keys are settled: keys for the first connection are not offered again. */
  readonly isAdded: boolean;
  /** What holds in that session. */
  readonly session?: Params | undefined;
  readonly trace?: LoginTrace | undefined;
}

/** What came in one text of the target. */
export interface Taken {
  /** What we have to answer. */
  readonly replies: TextPair[];
  /** Keys of the authentication method. */
  readonly authentication: readonly TextPair[];
}

const RULES = {
  min: 'the smaller of both',
  max: 'the larger of both',
  or: 'Yes where either side says Yes',
  and: 'Yes where both sides say Yes',
  first: 'the first of our list that the target takes',
} as const;

/** The keys of one login, on the initiator's side (RFC 7143 §6.2, §13): what we offered, what came back, what holds. */
export class LoginNegotiation {
  readonly params: Params;
  targetSegmentBytes = LOGIN_SEGMENT_BYTES;
  tpgt: number | null = null;
  targetAlias = '';
  authMethod: string | null = null;
  readonly #options: NegotiationOptions;
  /** What we offered and the target has not answered yet. */
  readonly #open = new Map<KeyName, string>();
  /** Keys that came; they may not come again (§6.3). */
  readonly #seen = new Set<string>();
  #unknownKeys = 0;

  constructor(options: NegotiationOptions) {
    this.#options = options;
    this.params = { ...(options.session ?? defaultParams()) };
  }

  /** One key of the security stage. */
  offer(name: KeyName, value: string): TextPair {
    this.#open.set(name, value);
    return [name, value];
  }

  /** Everything that we want to agree on, each key once (§6.3). */
  operationalOffer(): TextPair[] {
    const { isDiscovery, isAdded } = this.#options;
    const pairs: TextPair[] = [];
    for (const [name, value] of Object.entries(this.#wanted())) {
      if (!isKey(name) || value === undefined || name === 'AuthMethod') continue;
      const key = keyOf(name);
      if (isDiscovery && !key.discovery) continue; // Irrelevant there
      if (isAdded && key.use === 'LO') continue; // §13
      const text = formatValue(value);
      if (key.type !== 'text' && key.result !== undefined) pairs.push(this.offer(name, text));
      else {
        pairs.push([name, text]);
        this.#decided(name, text, null, value, 'declared by us: what the target may send');
      }
    }
    return pairs;
  }

  #wanted(): Partial<Params> {
    const { wanted, isDiscovery } = this.#options;
    // §7.4.1: a discovery session has no recovery.
    if (isDiscovery) return { ...wanted, ErrorRecoveryLevel: 0 };
    const recovers = (wanted.ErrorRecoveryLevel ?? 0) > 0;
    // §13.19: with recovery, data sequences stay in order only where one R2T is out at a time.
    if (!recovers || wanted.DataSequenceInOrder === false) return wanted;
    return { ...wanted, MaxOutstandingR2T: 1 };
  }

  /** Takes answers, declarations and proposals; a text says what is wrong. */
  take(pairs: readonly TextPair[], stage: number): Taken | string {
    const replies: TextPair[] = [];
    const authentication: TextPair[] = [];
    for (const [name, value] of pairs) {
      if (name.startsWith('CHAP_')) {
        if (stage !== LoginStage.Security) return `${name} outside the security stage (§12)`;
        authentication.push([name, value]);
        continue;
      }
      const wrong = this.#takeOne(name, value, stage, replies);
      if (wrong !== null) return wrong;
    }
    return { replies, authentication };
  }

  #takeOne(name: string, value: string, stage: number, replies: TextPair[]): string | null {
    const key: KeyDefinition | null = isKey(name) ? keyOf(name) : null;
    const repeats = key?.type === 'text' && key.repeats === true;
    if (this.#seen.has(name) && !repeats) return `${name} came twice (§6.3)`;
    if (key === null) {
      this.#unknownKeys += 1;
      if (this.#unknownKeys > UNKNOWN_KEYS_MAX) return `more than ${UNKNOWN_KEYS_MAX} unknown keys`;
    }
    this.#seen.add(name);
    if (isKey(name)) return this.#takeKnown(name, value, stage, replies);
    // §13.25 wants Reject for markers; §6.2 wants NotUnderstood for all that we do not know.
    if (OBSOLETE_KEYS.has(name)) replies.push([name, 'Reject']);
    else if (!isSpecialAnswer(value)) replies.push([name, 'NotUnderstood']);
    return null;
  }

  #takeKnown(name: KeyName, value: string, stage: number, replies: TextPair[]): string | null {
    const offer = this.#open.get(name);
    if (offer !== undefined) {
      this.#open.delete(name);
      return this.#takeAnswer(name, offer, value);
    }
    if (isSpecialAnswer(value)) return refusedDeclaration(name, value);
    switch (name) {
      case 'TargetPortalGroupTag':
      case 'MaxRecvDataSegmentLength':
      case 'TargetAlias':
        return this.#takeDeclared(name, value);
      case 'TargetAddress':
      case 'TargetName':
      case 'X#NodeArchitecture':
        return null; // they say nothing that a login needs
      default:
        return this.#takeProposal(name, value, stage, replies);
    }
  }

  #takeDeclared(
    name: 'TargetPortalGroupTag' | 'MaxRecvDataSegmentLength' | 'TargetAlias',
    value: string,
  ): string | null {
    const { section } = keyOf(name);
    const parsed = parseValue(name, value);
    if (parsed === null) return `${said(name, value)} is no value of that key (§${section})`;
    if (name === 'TargetPortalGroupTag') this.tpgt = parsed as number;
    else if (name === 'TargetAlias') this.targetAlias = String(parsed);
    else this.targetSegmentBytes = parsed as number;
    this.#decided(name, null, value, parsed, 'declared by the target');
    return null;
  }

  #takeAnswer(name: KeyName, offer: string, value: string): string | null {
    const key = keyOf(name);
    if (isSpecialAnswer(value)) return this.#takeSpecial(name, key, offer, value);
    const wrong = answerInvalidReason(name, offer, value);
    if (wrong !== null) return wrong;
    if (name === 'AuthMethod') {
      const { session } = this.#options;
      if (session !== undefined && session.AuthMethod !== value) {
        return `AuthMethod=${value} in a session that was opened with ${session.AuthMethod} (§9.2)`;
      }
      this.authMethod = value;
    }
    const rule = key.type === 'text' ? undefined : key.result;
    this.#set(name, offer, value, parseValue(name, value)!, rule === undefined ? '' : RULES[rule]);
    return null;
  }

  /** Irrelevant, NotUnderstood, Reject: the value stays what it was (§6.2). */
  #takeSpecial(name: KeyName, key: KeyDefinition, offer: string, value: string): string | null {
    if (key.type === 'list' && !offer.split(',').includes(key.default)) {
      return `the target does not take ${name}=${offer} (§${key.section}), and we insist on it`;
    }
    if (value === 'NotUnderstood' && !LATER_KEYS.includes(name)) {
      return `${name}=NotUnderstood, which every target has to understand (§6.2)`;
    }
    if (value === 'Reject' && name === 'AuthMethod') {
      return `the target takes none of the authentication methods ${offer} (§12)`;
    }
    this.#decided(name, offer, value, this.#current(name), 'the default stays');
    return null;
  }

  /** The target proposes a key that we did not offer. */
  #takeProposal(name: KeyName, value: string, stage: number, replies: TextPair[]): string | null {
    const key = keyOf(name);
    if (key.sender === 'initiator') return `${name} is the initiator's to send (§${key.section})`;
    const answer = this.#answerOf(name, key, value, stage);
    replies.push([name, answer.text]);
    if (answer.value === null) return null;
    this.#set(name, null, value, answer.value, `proposed by the target, we answer ${answer.text}`);
    return null;
  }

  #answerOf(name: KeyName, key: KeyDefinition, value: string, stage: number) {
    const { isDiscovery, isAdded, wanted } = this.#options;
    if (isDiscovery && !key.discovery) return { text: 'Irrelevant', value: null };
    const isSettled = isAdded && key.use === 'LO';
    if (key.type === 'text' || isSettled || stage === LoginStage.Security) {
      return { text: 'Reject', value: null };
    }
    const ours = (wanted as Readonly<Record<string, KeyValue | undefined>>)[name];
    return answerProposal(name, value, ours ?? this.#current(name));
  }

  /** At the end of the login. Says what is missing, or null. */
  finish(): string | null {
    for (const [name, offer] of this.#open) {
      const settled = settledByOffer(name, offer);
      if (settled !== null) this.#set(name, offer, null, settled, 'needs no answer (§6.2.2)');
      else if (LATER_KEYS.includes(name)) {
        this.#decided(name, offer, null, this.#current(name), 'not answered: the default stays');
      } else return `our offer ${name}=${offer} was not answered (§6.2)`;
    }
    // §13.14: the target should have seen to it.
    this.params.FirstBurstLength = Math.min(
      this.params.FirstBurstLength,
      this.params.MaxBurstLength,
    );
    return null;
  }

  #current(name: KeyName): KeyValue {
    return (this.params as Readonly<Record<string, KeyValue>>)[name] ?? '';
  }

  #set(
    name: KeyName,
    offered: string | null,
    answered: string | null,
    value: KeyValue,
    why: string,
  ): void {
    (this.params as Record<string, KeyValue>)[name] = value;
    this.#decided(name, offered, answered, value, why);
  }

  #decided(
    name: KeyName,
    offered: string | null,
    answered: string | null,
    outcome: KeyValue,
    why: string,
  ): void {
    const { section } = keyOf(name);
    this.#options.trace?.({ kind: 'key', name, offered, answered, outcome, section, why });
  }
}

/** An answer to what needs none: to a declaration of ours, or to nothing at all. */
function refusedDeclaration(name: KeyName, value: string): string {
  if (value === 'NotUnderstood') {
    return `${name}=NotUnderstood, which every target has to understand (§6.2)`;
  }
  return `${said(name, value)} answers nothing that we asked (§6.2)`;
}

function said(name: string, value: string): string {
  return `${name}=${printable(value.slice(0, SHOWN_CHARS_MAX))}`;
}
