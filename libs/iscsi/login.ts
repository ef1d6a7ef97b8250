import { isOrionError, type OrionError } from '../core/errors.ts';
import { iscsiErrors } from './errors.ts';
import { LOGIN_SEGMENT_BYTES, type Params } from './keys.ts';
import { LoginNegotiation } from './login-negotiation.ts';
import { loginStatus } from './login-status.ts';
import { type LoginTrace, shownPairs } from './login-trace.ts';
import type { LoginRequest, LoginResponse } from './pdu/index.ts';
import { invalidReason } from './pdu/index.ts';
import { LoginStage, Opcode } from './pdu/opcodes.ts';
import { encodeText, parseText, splitText, TEXT_BYTES_MAX, type TextPair } from './text.ts';

/** Requests of one login. §6.2 asks to allow six exchanges at least. */
const ROUNDS_MAX = 16;

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
  /** What was proven to whom, for people. */
  readonly summary: string;
}

export const noAuthentication: Authenticator = {
  offer: 'None',
  step: () => [],
  mayAskToGoOn: true,
  missing: null,
  summary: 'none',
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
  readonly itt: number;
  readonly authenticator: Authenticator;
  /** What we ask for; keys that are left out are not offered. */
  readonly wanted: Partial<Params>;
  /** What holds in the session that the connection is added to (TSIH not 0). */
  readonly session?: Params | undefined;
  /** The portal group that has to answer. Null or left out: any. */
  readonly tpgt?: number | null;
  /** Of the connection that this one takes the place of (§11.12.9). */
  readonly expStatSn?: number;
  readonly trace?: LoginTrace | undefined;
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
  readonly #keys: LoginNegotiation;
  #stage: number = LoginStage.Security;
  #rounds = 0;
  #expStatSn: number;
  /** Parts of our text that are still to be sent (C bit). */
  #outbox: Buffer[] = [];
  /** Parts of the target's text that came with C=1. */
  #inbox: Buffer[] = [];
  #inboxBytes = 0;
  /** T of our last request. */
  #askedToGoOn = false;
  #operationalOffered = false;

  constructor(options: LoginOptions) {
    this.#options = options;
    this.#expStatSn = options.expStatSn ?? 0;
    this.#keys = new LoginNegotiation({
      wanted: options.wanted,
      isDiscovery: options.targetName === null,
      isAdded: options.tsih !== 0,
      session: options.session,
      trace: options.trace,
    });
  }

  /** The first request. */
  start(): LoginStep {
    const { initiatorName, targetName, authenticator, tsih } = this.#options;
    const pairs: TextPair[] = [['InitiatorName', initiatorName]];
    const type = targetName === null ? 'Discovery' : 'Normal';
    if (tsih === 0) pairs.push(['SessionType', type]); // §13.21: with the leading login alone
    if (targetName !== null) pairs.push(['TargetName', targetName]);
    pairs.push(this.#keys.offer('AuthMethod', authenticator.offer));
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
    this.#traceResponse(response, parsed.pairs ?? []);
    if (parsed.pairs === null) return this.#fail(parsed.error);
    const replies = this.#takePairs(parsed.pairs);
    if (!Array.isArray(replies)) return this.#fail(replies);
    const refusal = response.transit ? this.#mayNotGoOn(replies) : null;
    if (refusal !== null) return this.#fail(refusal);
    return response.transit ? this.#transit(response) : this.#stay(replies);
  }

  /** Why the target may not go on to the next stage now, or null. */
  #mayNotGoOn(replies: readonly TextPair[]): string | OrionError | null {
    if (this.#stage === LoginStage.Security) {
      if (this.#keys.authMethod === null) return 'AuthMethod was not answered (§12)';
      const { missing } = this.#options.authenticator; // §12.1
      if (missing !== null) return missing;
    }
    if (!this.#askedToGoOn) {
      return 'the target goes to the next stage, which we did not ask for (§11.13.6)';
    }
    if (replies.length === 0) return null;
    return 'the target transits with proposals that are not answered (§6.2)';
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

  /** Takes what the target said; returns our answers, or what is wrong. */
  #takePairs(pairs: readonly TextPair[]): TextPair[] | string | OrionError {
    const taken = this.#keys.take(pairs, this.#stage);
    if (typeof taken === 'string') return taken;
    const group = this.#wrongGroup();
    if (group !== null) return group;
    const { replies, authentication } = taken;
    const method = this.#keys.authMethod;
    if (this.#stage !== LoginStage.Security || method === null) return replies;
    const next = this.#options.authenticator.step(method, authentication);
    return isOrionError(next) ? next : [...replies, ...next];
  }

  /** §6.3.1, §13.9: the tag says who serves us. */
  #wrongGroup(): OrionError | null {
    const { tpgt: expected = null } = this.#options;
    const { tpgt } = this.#keys;
    if (expected === null || tpgt === null || tpgt === expected) return null;
    return iscsiErrors.make('ISCSI_PORTAL_GROUP', {
      message: `the portal belongs to portal group ${tpgt}, and is to be of group ${expected} (§13.9)`,
      fields: { expected, found: tpgt },
    });
  }

  #stay(replies: TextPair[]): LoginStep {
    const isFirst = this.#stage === LoginStage.Operational && !this.#operationalOffered;
    return isFirst ? this.#offerOperational(replies) : this.#send(replies);
  }

  #transit(response: LoginResponse): LoginStep {
    if (this.#stage !== LoginStage.Security) return this.#finish(response);
    // §6.3.1: with the first response that carries a whole text.
    if (this.#keys.tpgt === null && this.#options.targetName !== null) {
      return this.#fail('the target did not say its portal group tag (§6.3.1)');
    }
    const { authenticator, trace } = this.#options;
    trace?.({ kind: 'authenticated', how: authenticator.summary });
    this.#stage = LoginStage.Operational;
    return this.#offerOperational([]);
  }

  #offerOperational(replies: readonly TextPair[]): LoginStep {
    this.#operationalOffered = true;
    return this.#send([...replies, ...this.#keys.operationalOffer()]);
  }

  #finish(response: LoginResponse): LoginStep {
    const lacking = this.#keys.finish();
    if (lacking !== null) return this.#fail(lacking);
    // §11.13.3: the handle of the session comes with the last response, and is not 0.
    if (response.tsih === 0) return this.#fail('the session has no handle (TSIH is 0, §11.13.3)');
    const { tsih } = this.#options;
    if (tsih !== 0 && response.tsih !== tsih) return this.#fail('another TSIH (§11.13.3)');
    const { params, targetSegmentBytes, tpgt, targetAlias } = this.#keys;
    return {
      kind: 'done',
      result: {
        params,
        ourSegmentBytes: this.#options.wanted.MaxRecvDataSegmentLength ?? LOGIN_SEGMENT_BYTES,
        targetSegmentBytes,
        tsih: response.tsih,
        tpgt: tpgt ?? 0,
        targetAlias,
        statSn: response.statSn,
        expCmdSn: response.expCmdSn,
        maxCmdSn: response.maxCmdSn,
      },
    };
  }

  #send(pairs: readonly TextPair[]): LoginStep {
    this.#traceRequest(pairs);
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
    this.#askedToGoOn = transit;
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

  #traceRequest(pairs: readonly TextPair[]): void {
    const { trace, authenticator } = this.#options;
    const isBusy = this.#stage === LoginStage.Security && !authenticator.mayAskToGoOn;
    const nextStage = isBusy ? null : this.#asksFor();
    trace?.({ kind: 'sent', stage: this.#stage, nextStage, pairs: shownPairs(pairs) });
  }

  #traceResponse(response: LoginResponse, pairs: readonly TextPair[]): void {
    const { transit, nsg, statusClass, statusDetail } = response;
    this.#options.trace?.({
      kind: 'received',
      stage: this.#stage,
      nextStage: transit ? nsg : null,
      status: (statusClass << 8) | statusDetail,
      pairs: shownPairs(pairs),
    });
  }

  #refused(response: LoginResponse, data: Buffer): LoginStep {
    const { statusClass, statusDetail } = response;
    const pairs = parseText(data).pairs ?? [];
    this.#traceResponse(response, pairs);
    const status = loginStatus(statusClass, statusDetail);
    const code = ((statusClass << 8) | statusDetail).toString(16).padStart(4, '0');
    if (statusClass === 1) {
      const addresses = pairs
        .filter(([name]) => name === 'TargetAddress')
        .map(([, value]) => value);
      if (addresses.length > 0 && (statusDetail === 1 || statusDetail === 2)) {
        const isPermanent = statusDetail === 2;
        this.#options.trace?.({ kind: 'redirected', addresses, isPermanent });
        return { kind: 'redirect', addresses, permanent: isPermanent };
      }
      return this.#fail(`a redirection (${code}) that does not say where to (§11.13.5)`);
    }
    const error = iscsiErrors.make('ISCSI_LOGIN_REFUSED', {
      message: `the target refuses the login: ${status.name}`,
      hint: status.hint,
      fields: { status: code, statusClass, initiator: this.#options.initiatorName },
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
