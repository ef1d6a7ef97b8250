import { isOrionError, type OrionError } from '../core/errors.ts';
import { iscsiErrors } from './errors.ts';
import {
  answerInvalidReason,
  answerProposal,
  defaultParams,
  formatValue,
  isKey,
  isSpecialAnswer,
  type KeyName,
  type KeyValue,
  keyOf,
  LOGIN_SEGMENT_BYTES,
  type Params,
  parseValue,
} from './keys.ts';
import { loginStatus } from './login-status.ts';
import type { LoginRequest, LoginResponse } from './pdu/index.ts';
import { invalidReason } from './pdu/index.ts';
import { LoginStage, Opcode } from './pdu/opcodes.ts';
import { encodeText, parseText, splitText, TEXT_BYTES_MAX, type TextPair } from './text.ts';

/** Requests of one login. §6.2 asks to allow six exchanges at least. */
const ROUNDS_MAX = 16;

/** Keys of later documents: targets that do not know them say so, or nothing (§13.23, RFC 7144 §7.1.1). */
const OPTIONAL_KEYS: readonly string[] = ['TaskReporting', 'iSCSIProtocolLevel'];

/** What happens in the security stage. `noAuthentication` is one, `ChapAuthenticator` the other. */
export interface Authenticator {
  /** The list that AuthMethod offers. */
  readonly offer: string;
  /**
   * The target chose `method` and sent `pairs`. Returns what to send next; an empty list when there is nothing more to say;
   * an error when it failed.
   */
  step(method: string, pairs: readonly TextPair[]): readonly TextPair[] | OrionError;
  /** What we send next is our last word: the request may ask to go on to the next stage. */
  readonly mayAskToGoOn: boolean;
  /** Why the target may not go on yet; null when both sides are satisfied. */
  readonly missing: OrionError | null;
}

export const noAuthentication: Authenticator = {
  offer: 'None',
  step: () => [],
  mayAskToGoOn: true,
  missing: null,
};

export interface LoginOptions {
  readonly initiatorName: string;
  /** Absent in a discovery session. */
  readonly targetName: string | null;
  readonly isid: Buffer;
  /** 0: a new session, or reinstatement of the one with this ISID. */
  readonly tsih: number;
  readonly cid: number;
  readonly cmdSn: number;
  /** Of the connection that this one takes the place of (§11.12.9). */
  readonly expStatSn?: number;
  readonly itt: number;
  readonly authenticator: Authenticator;
  /** What we ask for; keys that are left out are not offered. */
  readonly wanted: Partial<Params>;
}

/** What both sides agreed on. */
export interface LoginResult {
  readonly params: Params;
  /** What we declared: data segments that the target sends us. */
  readonly ourSegmentBytes: number;
  /** What the target declared: data segments that we send it. */
  readonly targetSegmentBytes: number;
  readonly tsih: number;
  readonly tpgt: number;
  readonly targetAlias: string;
  readonly statSn: number;
  readonly expCmdSn: number;
  readonly maxCmdSn: number;
}

export type LoginStep =
  | { readonly kind: 'send'; readonly pdu: LoginRequest; readonly text: Buffer }
  | { readonly kind: 'done'; readonly result: LoginResult }
  | {
      readonly kind: 'redirect';
      readonly addresses: readonly string[];
      readonly permanent: boolean;
    }
  | { readonly kind: 'failed'; readonly error: OrionError };

/**
 * The initiator's side of one login (RFC 7143 §6.3) as a machine: a response goes in, the next step comes out. It knows
 * no socket and no clock. It always begins with the security stage: some targets reinstate a session only then.
 */
export class LoginMachine {
  readonly #options: LoginOptions;
  #stage: number = LoginStage.Security;
  #rounds = 0;
  #expStatSn = 0;
  /** Parts of our text that are still to be sent (C bit). */
  #outbox: Buffer[] = [];
  /** Parts of the target's text that came with C=1. */
  #inbox: Buffer[] = [];
  #inboxBytes = 0;
  /** What we offered and the target has not answered yet. */
  readonly #open = new Map<KeyName, string>();
  /** Keys that are settled; they may not come again (§6.3). */
  readonly #seen = new Set<string>();
  readonly #params: Params = defaultParams();
  #targetSegmentBytes = LOGIN_SEGMENT_BYTES;
  #tpgt: number | null = null;
  #authMethod: string | null = null;
  #operationalOffered = false;
  #targetAlias = '';

  constructor(options: LoginOptions) {
    this.#options = options;
    this.#expStatSn = options.expStatSn ?? 0;
  }

  /** The first request. */
  start(): LoginStep {
    const { initiatorName, targetName, authenticator, tsih } = this.#options;
    const pairs: TextPair[] = [['InitiatorName', initiatorName]];
    if (targetName === null) pairs.push(['SessionType', 'Discovery']);
    else {
      // §13.21: said by the leading login only.
      if (tsih === 0) pairs.push(['SessionType', 'Normal']);
      pairs.push(['TargetName', targetName]);
    }
    pairs.push(['AuthMethod', authenticator.offer]);
    this.#open.set('AuthMethod', authenticator.offer);
    return this.#send(pairs);
  }

  /** The next step after a response. */
  step(response: LoginResponse, data: Buffer): LoginStep {
    if (response.statusClass !== 0) return this.#refused(response, data);
    const wrong = this.#wrongHeader(response) ?? this.#collect(data);
    if (wrong !== null) return this.#fail(wrong);
    this.#expStatSn = (response.statSn + 1) >>> 0;
    if (response.continue) return this.#send([]); // §6.2: an empty request until the text is whole
    if (this.#outbox.length > 0) {
      // Our own text is not whole yet; the target has nothing to say before it is.
      if (response.transit)
        return this.#fail('the target transits before our text is whole (§6.2)');
      return this.#sendNext();
    }
    const parsed = parseText(Buffer.concat(this.#inbox));
    this.#inbox = [];
    this.#inboxBytes = 0;
    if (parsed.pairs === null) return this.#fail(parsed.error);
    const replies = this.#takePairs(parsed.pairs);
    if (!Array.isArray(replies)) return this.#fail(replies);
    const missing = this.#missing();
    if (response.transit && missing !== null) return this.#fail(missing);
    if (response.transit && replies.length > 0) {
      return this.#fail('the target transits with proposals that are not answered (§6.2)');
    }
    return response.transit ? this.#transit(response) : this.#stay(replies);
  }

  /** What the security stage still lacks, once its method is agreed on (§12.1). */
  #missing(): OrionError | null {
    const isUnderWay = this.#stage === LoginStage.Security && this.#authMethod !== null;
    return isUnderWay ? this.#options.authenticator.missing : null;
  }

  #wrongHeader(response: LoginResponse): string | null {
    const reason = invalidReason(response);
    if (reason !== null) return reason;
    if (response.itt !== this.#options.itt) return 'a login response to another task (§11.13)';
    if (!response.isid.equals(this.#options.isid))
      return 'a login response with another ISID (§11.13)';
    if (response.versionActive !== 0)
      return `protocol version ${response.versionActive} (§11.13.2)`;
    if (response.csg !== this.#stage) return `a response of stage ${response.csg} (§11.13.6)`;
    if (response.transit && this.#outbox.length === 0 && response.nsg > this.#asksFor()) {
      return `the target goes to stage ${response.nsg}, which we did not ask for (§11.13.6)`;
    }
    return null;
  }

  #collect(data: Buffer): string | null {
    this.#inboxBytes += data.length;
    if (this.#inboxBytes > TEXT_BYTES_MAX)
      return `more than ${TEXT_BYTES_MAX} bytes of text (§6.1)`;
    this.#inbox.push(Buffer.from(data)); // the segment is a view into a receive buffer
    return null;
  }

  /** The stage that our requests ask to go to. */
  #asksFor(): number {
    return this.#stage === LoginStage.Security ? LoginStage.Operational : LoginStage.FullFeature;
  }

  /** Takes answers, declarations and proposals; returns our answers to proposals, or what is wrong. */
  #takePairs(pairs: readonly TextPair[]): TextPair[] | string | OrionError {
    const replies: TextPair[] = [];
    const authentication: TextPair[] = [];
    for (const [name, value] of pairs) {
      if (!isKey(name)) {
        if (name.startsWith('CHAP_')) authentication.push([name, value]);
        else if (!isSpecialAnswer(value)) replies.push([name, 'NotUnderstood']); // §6.2
        continue;
      }
      const key = keyOf(name);
      const repeats = key.type === 'text' && key.repeats === true;
      if (this.#seen.has(name) && !repeats) return `${name} came twice (§6.3)`;
      this.#seen.add(name);
      const wrong = this.#takePair(name, value, replies);
      if (wrong !== null) return wrong;
    }
    if (this.#stage !== LoginStage.Security || this.#authMethod === null) return replies;
    const next = this.#options.authenticator.step(this.#authMethod, authentication);
    return isOrionError(next) ? next : [...replies, ...next];
  }

  #takePair(name: KeyName, value: string, replies: TextPair[]): string | null {
    const offer = this.#open.get(name);
    if (offer !== undefined) {
      this.#open.delete(name);
      return this.#takeAnswer(name, offer, value);
    }
    const parsed = parseValue(name, value);
    switch (name) {
      case 'TargetPortalGroupTag':
        if (parsed === null) return `TargetPortalGroupTag=${value.slice(0, 20)} (§13.9)`;
        this.#tpgt = parsed as number;
        return null;
      case 'TargetAlias':
        this.#targetAlias = value.slice(0, 255);
        return null;
      case 'MaxRecvDataSegmentLength':
        if (parsed === null) return `${name}=${value.slice(0, 20)} is out of range (§13.12)`;
        this.#targetSegmentBytes = parsed as number;
        return null;
      case 'TargetAddress':
      case 'TargetName':
        return null;
      default:
        return this.#takeProposal(name, value, replies);
    }
  }

  #takeAnswer(name: KeyName, offer: string, value: string): string | null {
    const key = keyOf(name);
    if (isSpecialAnswer(value) && key.type === 'list' && !offer.split(',').includes(key.default)) {
      return `the target does not take ${name}=${offer} (§${key.section}), and we insist on it`;
    }
    if (value === 'Irrelevant') return null; // the default stays
    if (value === 'NotUnderstood') {
      if (OPTIONAL_KEYS.includes(name)) return null;
      return `${name}=NotUnderstood, which every target has to understand (§6.2)`;
    }
    if (value === 'Reject') {
      if (name !== 'AuthMethod') return null; // stays at its default (§6.2)
      return `the target takes none of the authentication methods ${offer} (§12)`;
    }
    const wrong = answerInvalidReason(name, offer, value);
    if (wrong !== null) return wrong;
    if (name === 'AuthMethod') this.#authMethod = value;
    this.#set(name, parseValue(name, value)!);
    return null;
  }

  /** The target proposes a key that we did not offer. */
  #takeProposal(name: KeyName, value: string, replies: TextPair[]): string | null {
    const key = keyOf(name);
    if (key.sender === 'initiator') return `${name} is the initiator's to send (§${key.section})`;
    if (key.type === 'text' || this.#stage === LoginStage.Security) {
      replies.push([name, 'Reject']);
      return null;
    }
    const params: Readonly<Record<string, KeyValue>> = this.#params;
    const answer = answerProposal(name, value, params[name]!);
    if (answer.value !== null) this.#set(name, answer.value);
    replies.push([name, answer.text]);
    return null;
  }

  #set(name: KeyName, value: KeyValue): void {
    (this.#params as Record<string, KeyValue>)[name] = value;
  }

  #stay(replies: TextPair[]): LoginStep {
    if (this.#stage === LoginStage.Operational && !this.#operationalOffered) {
      return this.#send([...replies, ...this.#operationalOffer()]);
    }
    return this.#send(replies);
  }

  #transit(response: LoginResponse): LoginStep {
    if (this.#stage === LoginStage.Security) {
      if (this.#authMethod === null) return this.#fail('AuthMethod was not answered (§12)');
      // §6.3.1: with the first response that carries a whole text.
      if (this.#tpgt === null && this.#options.targetName !== null) {
        return this.#fail('the target did not say its portal group tag (§6.3.1)');
      }
      this.#stage = LoginStage.Operational;
      return this.#send(this.#operationalOffer());
    }
    return this.#finish(response);
  }

  #finish(response: LoginResponse): LoginStep {
    for (const [name, offer] of this.#open) {
      if (OPTIONAL_KEYS.includes(name)) continue;
      if (isSettled(name, offer)) {
        (this.#params as Record<string, KeyValue>)[name] = parseValue(name, offer)!;
        continue;
      }
      return this.#fail(`our offer ${name}=${offer} was not answered (§6.2)`);
    }
    // §11.13.3: the handle of the session comes with the last response, and is not 0.
    if (response.tsih === 0) return this.#fail('the session has no handle (TSIH is 0, §11.13.3)');
    const { tsih } = this.#options;
    if (tsih !== 0 && response.tsih !== tsih) return this.#fail('another TSIH (§11.13.3)');
    const params = this.#params;
    // §13.14: the target should have seen to it.
    params.FirstBurstLength = Math.min(params.FirstBurstLength, params.MaxBurstLength);
    return {
      kind: 'done',
      result: {
        params,
        ourSegmentBytes: this.#options.wanted.MaxRecvDataSegmentLength ?? LOGIN_SEGMENT_BYTES,
        targetSegmentBytes: this.#targetSegmentBytes,
        tsih: response.tsih,
        tpgt: this.#tpgt ?? 0,
        targetAlias: this.#targetAlias,
        statSn: response.statSn,
        expCmdSn: response.expCmdSn,
        maxCmdSn: response.maxCmdSn,
      },
    };
  }

  /** Everything that we want to agree on, each key once (§6.3). */
  #operationalOffer(): TextPair[] {
    this.#operationalOffered = true;
    const discovery = this.#options.targetName === null;
    const added = this.#options.tsih !== 0;
    const pairs: TextPair[] = [];
    for (const [name, value] of Object.entries(this.#options.wanted)) {
      if (!isKey(name) || value === undefined || name === 'AuthMethod') continue;
      const key = keyOf(name);
      if (discovery && !key.discovery) continue; // Irrelevant there
      if (added && key.scope === 'session') continue; // settled by the leading login (§6.3.3)
      const text = formatValue(value);
      pairs.push([name, text]);
      if (key.type !== 'text' && key.result !== undefined) this.#open.set(name, text);
    }
    return pairs;
  }

  #send(pairs: readonly TextPair[]): LoginStep {
    this.#outbox = splitText(encodeText(pairs), LOGIN_SEGMENT_BYTES);
    return this.#sendNext();
  }

  #sendNext(): LoginStep {
    this.#rounds += 1;
    if (this.#rounds > ROUNDS_MAX) return this.#fail(`no end after ${ROUNDS_MAX} requests (§6.2)`);
    const text = this.#outbox.shift()!;
    const more = this.#outbox.length > 0;
    const { authenticator } = this.#options;
    // While a part of the target's text is out, or the authentication goes on, there is nothing to transit to.
    const busy = this.#stage === LoginStage.Security && !authenticator.mayAskToGoOn;
    const transit = !more && !busy;
    return {
      kind: 'send',
      text,
      pdu: {
        opcode: Opcode.LoginRequest,
        dataSegmentLength: text.length,
        transit,
        continue: more,
        csg: this.#stage,
        nsg: transit ? this.#asksFor() : 0,
        versionMax: 0,
        versionMin: 0,
        isid: this.#options.isid,
        tsih: this.#options.tsih,
        itt: this.#options.itt,
        cid: this.#options.cid,
        cmdSn: this.#options.cmdSn,
        expStatSn: this.#expStatSn,
      },
    };
  }

  #refused(response: LoginResponse, data: Buffer): LoginStep {
    const { statusClass, statusDetail } = response;
    const status = loginStatus(statusClass, statusDetail);
    const code = ((statusClass << 8) | statusDetail).toString(16).padStart(4, '0');
    if (statusClass === 1) {
      const addresses = (parseText(data).pairs ?? [])
        .filter(([name]) => name === 'TargetAddress')
        .map(([, value]) => value);
      if (addresses.length > 0 && (statusDetail === 1 || statusDetail === 2)) {
        return { kind: 'redirect', addresses, permanent: statusDetail === 2 };
      }
      return this.#fail(`a redirection (${code}) that does not say where to (§11.13.5)`);
    }
    const error = iscsiErrors.make('ISCSI_LOGIN_REFUSED', {
      message: `the target refuses the login: ${status.name}`,
      hint: status.hint,
      fields: { status: code, statusClass },
    });
    return { kind: 'failed', error };
  }

  #fail(reason: string | OrionError): LoginStep {
    if (typeof reason !== 'string') return { kind: 'failed', error: reason };
    const error = iscsiErrors.make('ISCSI_LOGIN_FAILED', {
      message: `the login failed: ${reason}`,
    });
    return { kind: 'failed', error };
  }
}

/** §6.2.2: a Yes needs no answer where one Yes decides, nor a No where one No does. LIO gives none. */
function isSettled(name: KeyName, offer: string): boolean {
  const key = keyOf(name);
  if (key.type !== 'boolean') return false;
  return offer === (key.result === 'or' ? 'Yes' : 'No');
}
