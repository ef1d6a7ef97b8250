import {
  answerProposal,
  isKey,
  type KeyName,
  type KeyValue,
  keyOf,
  LOGIN_SEGMENT_BYTES,
  parseValue,
} from '../iscsi/keys.ts';
import { normalizeName } from '../iscsi/names.ts';
import { Digest } from '../iscsi/pdu/digest.ts';
import { LoginStage } from '../iscsi/pdu/opcodes.ts';
import type { TextPair } from '../iscsi/text.ts';
import type { ChapGuard } from './chap.ts';
import { LoginStatus } from './login-status.ts';
import { DEFAULT_PARAMS, type TargetOptions, type TargetParams } from './options.ts';
import type { ConnectionParams, SessionParams } from './session.ts';

/** Keys that an initiator declares and nobody answers. */
const DECLARED = new Set<KeyName>([
  'InitiatorName',
  'InitiatorAlias',
  'TargetName',
  'SessionType',
  'MaxRecvDataSegmentLength',
]);

/** Obsolete (§13.25); older initiators still ask. */
const MARKERS = new Set(['IFMarker', 'OFMarker', 'IFMarkInt', 'OFMarkInt']);

/** The target's side of the key negotiation of one login (§6.2, §13). */
export class Negotiation {
  readonly #params: Required<TargetParams>;
  readonly #seen = new Map<string, string>();
  readonly #agreed = new Map<KeyName, KeyValue>();
  readonly #chap: ChapGuard | null;
  /** False: the login adds a connection to a session, whose keys are settled. */
  isLeading = true;
  #pending: TextPair[] = [];
  #declaredLength = false;

  constructor(options: TargetOptions, chap: ChapGuard | null) {
    this.#chap = chap;
    this.#params = { ...DEFAULT_PARAMS, ...options.params };
  }

  get initiatorName(): string {
    return normalizeName(this.#seen.get('InitiatorName') ?? '');
  }

  get targetName(): string {
    return normalizeName(this.#seen.get('TargetName') ?? '');
  }

  get sessionType(): string {
    return this.#seen.get('SessionType') ?? 'Normal';
  }

  get isDiscovery(): boolean {
    return this.sessionType === 'Discovery';
  }

  /** Takes the keys of one request: a status when the login must be refused for them. */
  take(pairs: readonly TextPair[], stage: number): LoginStatus | null {
    for (const [name, value] of pairs) {
      // §6.3: no key twice in one login.
      if (this.#seen.has(name)) return LoginStatus.InitiatorError;
      this.#seen.set(name, value);
    }
    for (const [name, value] of pairs) {
      const status = this.#takeOne(name, value, stage);
      if (status !== null) return status;
    }
    return this.#authenticate(pairs, stage);
  }

  #authenticate(pairs: readonly TextPair[], stage: number): LoginStatus | null {
    const keys = pairs.filter(([name]) => this.#isChapKey(name, stage));
    if (keys.length === 0) return null;
    const answers = this.#chap!.take(new Map(keys));
    if (answers === null) return LoginStatus.AuthenticationFailed;
    this.#pending.push(...answers);
    return null;
  }

  #isChapKey(name: string, stage: number): boolean {
    return this.#chap !== null && stage === LoginStage.Security && name.startsWith('CHAP_');
  }

  #takeOne(name: string, value: string, stage: number): LoginStatus | null {
    if (MARKERS.has(name)) return this.#answer(name, 'Reject');
    if (this.#isChapKey(name, stage)) return null;
    if (!isKey(name)) return this.#answer(name, 'NotUnderstood');
    const key = keyOf(name);
    // §12: the security stage has its own keys. §13.9, §13.8: some are the target's alone.
    if (stage === LoginStage.Security && key.security !== true) return LoginStatus.InitiatorError;
    if (key.sender === 'target' || name === 'SendTargets') return LoginStatus.InitiatorError;
    if (DECLARED.has(name)) return this.#declare(name, value);
    // §13: what is Leading Only is settled by the first connection of a session.
    if (!this.isLeading && key.scope === 'session') return LoginStatus.InitiatorError;
    if (name === 'AuthMethod') {
      const open = value.split(',').includes('None') ? 'None' : null;
      const chosen = this.#chap === null ? open : this.#chap.choose(value);
      return chosen === null ? LoginStatus.AuthenticationFailed : this.#answer(name, chosen);
    }
    if (this.isDiscovery && !key.discovery) return this.#answer(name, 'Irrelevant');
    const answer = answerProposal(name, value, this.#want(name));
    if (answer.value !== null) this.#agreed.set(name, answer.value);
    return this.#answer(name, answer.text);
  }

  #declare(name: KeyName, value: string): LoginStatus | null {
    const parsed = parseValue(name, value);
    if (parsed === null) return LoginStatus.InitiatorError;
    this.#agreed.set(name, parsed);
    return null;
  }

  #answer(name: string, text: string): null {
    this.#pending.push([name, text]);
    return null;
  }

  #want(name: KeyName): KeyValue {
    const params = this.#params;
    switch (name) {
      case 'HeaderDigest':
        return params.headerDigest;
      case 'DataDigest':
        return params.dataDigest;
      case 'InitialR2T':
        return params.initialR2T;
      case 'ImmediateData':
        return params.immediateData;
      case 'MaxBurstLength':
        return params.maxBurstLength;
      case 'FirstBurstLength':
        return params.firstBurstLength;
      case 'MaxOutstandingR2T':
        // §13.19: with recovery and sequences in order, only the last one can be asked for again.
        return this.#recoveryLevel > 0 && this.#hasSequencesInOrder ? 1 : params.maxOutstandingR2T;
      case 'DataPDUInOrder':
        return params.dataPduInOrder;
      case 'DataSequenceInOrder':
        return params.dataSequenceInOrder;
      case 'TaskReporting':
        return params.taskReporting;
      case 'MaxConnections':
        return params.maxConnections;
      case 'iSCSIProtocolLevel':
        return params.protocolLevel;
      case 'ErrorRecoveryLevel':
        // §7.4.1
        return this.isDiscovery ? 0 : params.errorRecoveryLevel;
      case 'DefaultTime2Wait':
        return params.time2Wait;
      default: // DefaultTime2Retain: nothing is kept below level 2.
        return this.#recoveryLevel < 2 ? 0 : params.time2Retain;
    }
  }

  get #hasSequencesInOrder(): boolean {
    return this.#params.dataSequenceInOrder || this.#seen.get('DataSequenceInOrder') !== 'No';
  }

  /** The level that this login will agree on, as far as is known. */
  get #recoveryLevel(): number {
    const offered = parseValue('ErrorRecoveryLevel', this.#seen.get('ErrorRecoveryLevel') ?? '0');
    return Math.min(Number(offered ?? 0), Number(this.#want('ErrorRecoveryLevel')));
  }

  /** The answers that are due, and in the operational stage what we declare ourselves. */
  answers(stage: number): TextPair[] {
    const answers = this.#pending;
    this.#pending = [];
    if (stage === LoginStage.Operational && !this.#declaredLength) {
      this.#declaredLength = true;
      const length = String(this.#params.maxRecvDataSegmentLength);
      answers.push(['MaxRecvDataSegmentLength', length]);
    }
    return answers;
  }

  /** What is in force; the default where nothing was negotiated. */
  #value<T extends KeyValue>(name: KeyName): T {
    const key = keyOf(name);
    return (this.#agreed.get(name) ?? (key.type === 'text' ? '' : key.default)) as T;
  }

  /** What this login settles for a new session. */
  sessionParams(): SessionParams {
    const maxBurstLength = this.#value<number>('MaxBurstLength');
    const errorRecoveryLevel = this.#value<number>('ErrorRecoveryLevel');
    return {
      maxConnections: this.#value<number>('MaxConnections'),
      errorRecoveryLevel,
      time2Wait: this.#value<number>('DefaultTime2Wait'),
      time2Retain: errorRecoveryLevel < 2 ? 0 : this.#value<number>('DefaultTime2Retain'),
      initialR2T: this.#value<boolean>('InitialR2T'),
      immediateData: this.#value<boolean>('ImmediateData'),
      maxOutstandingR2T: this.#value<number>('MaxOutstandingR2T'),
      maxBurstLength,
      // §13.14: it may not exceed MaxBurstLength, whatever was said.
      firstBurstLength: Math.min(this.#value<number>('FirstBurstLength'), maxBurstLength),
      dataPduInOrder: this.#value<boolean>('DataPDUInOrder'),
      dataSequenceInOrder: this.#value<boolean>('DataSequenceInOrder'),
      taskReporting: this.#value<string>('TaskReporting'),
      protocolLevel: this.#value<number>('iSCSIProtocolLevel'),
    };
  }

  /** What it settles for its connection. */
  connectionParams(): ConnectionParams {
    return {
      headerDigest: this.#value<string>('HeaderDigest') === Digest.Crc32c,
      dataDigest: this.#value<string>('DataDigest') === Digest.Crc32c,
      initiatorRecvLength: this.#value<number>('MaxRecvDataSegmentLength'),
      targetRecvLength: this.#declaredLength
        ? this.#params.maxRecvDataSegmentLength
        : LOGIN_SEGMENT_BYTES,
    };
  }
}
