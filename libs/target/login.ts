import { LOGIN_SEGMENT_BYTES } from '../iscsi/keys.ts';
import { BHS_BYTES } from '../iscsi/pdu/bhs.ts';
import { opcodeOf } from '../iscsi/pdu/index.ts';
import { type LoginRequest, loginRequest } from '../iscsi/pdu/login-request.ts';
import { LoginStage, Opcode } from '../iscsi/pdu/opcodes.ts';
import { encodeText, parseText, TEXT_BYTES_MAX, type TextPair } from '../iscsi/text.ts';
import { formatAddress } from '../wire/network.ts';
import { type LoginIdentity, sessionFor } from './admission.ts';
import { ChapGuard } from './chap.ts';
import type { Connection, Phase } from './connection.ts';
import type { LoginRefusal } from './fault-matches.ts';
import { LoginStatus } from './login-status.ts';
import { Negotiation } from './negotiation.ts';
import { DEFAULT_PARAMS } from './options.ts';
import { Session } from './session.ts';

/** Requests of one login; real initiators need two to six. */
const LOGIN_ROUNDS_MAX = 32;

/** The login phase of a connection: stages, text, and at the end a session (§6.3). */
export class LoginPhase implements Phase {
  readonly dataLengthMax = LOGIN_SEGMENT_BYTES;
  readonly #connection: Connection;
  readonly #negotiation: Negotiation;
  /** Null: everybody may log in. */
  readonly #chap: ChapGuard | null;
  #request: LoginRequest | null = null;
  #first: LoginRequest | null = null;
  #stage: number = LoginStage.Security;
  #text: Buffer[] = [];
  #textBytes = 0;
  #rounds = 0;
  #answered = false;

  constructor(connection: Connection) {
    this.#connection = connection;
    const { options, rng, challenges } = connection.engine;
    this.#chap = options.chap === undefined ? null : new ChapGuard(options.chap, rng, challenges);
    this.#negotiation = new Negotiation(options, this.#chap);
  }

  onOver(): void {}

  onDiscarded(): void {}

  onHeader(header: Buffer, at: number, dataLength: number): void {
    if (opcodeOf(header, at) !== Opcode.LoginRequest) {
      // §6.3: nothing but login requests before the login is done.
      if (this.#request !== null) this.#refuse(LoginStatus.InvalidDuringLogin);
      else this.#connection.drop('not a login');
      return;
    }
    this.#request = loginRequest.decode(header.subarray(at, at + BHS_BYTES), 0);
    if (dataLength === 0) this.onData(null);
  }

  onData(data: Buffer | null): void {
    const request = this.#request;
    if (request === null) return;
    this.#rounds += 1;
    const wrong = this.#wrong(request);
    if (wrong !== null) return this.#refuse(wrong);
    if (data !== null) {
      this.#text.push(Buffer.from(data));
      this.#textBytes += data.length;
    }
    if (this.#textBytes > TEXT_BYTES_MAX) return this.#refuse(LoginStatus.InitiatorError);
    // §11.12.2: the text goes on in the next request.
    if (request.continue) return this.#respond(request, false, []);
    const parsed = parseText(Buffer.concat(this.#text));
    this.#text = [];
    this.#textBytes = 0;
    if (parsed.pairs === null) return this.#refuse(LoginStatus.InitiatorError);
    this.#negotiate(request, parsed.pairs);
  }

  /** What is wrong with the header, by itself or after those before it. */
  #wrong(request: LoginRequest): LoginStatus | null {
    if (this.#rounds > LOGIN_ROUNDS_MAX) return LoginStatus.InitiatorError;
    if (loginRequest.invalidReason(request) !== null) return LoginStatus.InitiatorError;
    const first = this.#first;
    if (first === null) {
      if (request.versionMin > 0) return LoginStatus.UnsupportedVersion;
      this.#first = request;
      this.#stage = request.csg;
      this.#negotiation.isLeading = request.tsih === 0;
      return null;
    }
    // §11.12: these are the same in all requests of one login.
    const isSame =
      request.itt === first.itt &&
      request.cid === first.cid &&
      request.tsih === first.tsih &&
      request.isid.equals(first.isid);
    return isSame && request.csg === this.#stage ? null : LoginStatus.InitiatorError;
  }

  #negotiate(request: LoginRequest, pairs: readonly TextPair[]): void {
    const negotiation = this.#negotiation;
    const isFirst = !this.#answered;
    const status = negotiation.take(pairs, this.#stage) ?? (isFirst ? this.#admit(request) : null);
    if (status !== null) return this.#refuse(status);
    if (this.#skips(request)) return this.#refuse(LoginStatus.AuthenticationFailed);
    const { engine, portalIndex } = this.#connection;
    const { initiatorName, isLeading } = negotiation;
    const fault = engine.faults.onLogin({ portalIndex, initiatorName, isLeading });
    if (fault === 'close') return this.#connection.drop('fault');
    if (fault !== null) return this.#refuseWith(fault);
    const answers = negotiation.answers(this.#stage);
    if (isFirst) {
      // §6.3.1: in the first response, for all session types.
      answers.push(['TargetPortalGroupTag', String(this.#connection.tpgt)]);
    }
    this.#answered = true;
    // §12.1: nobody leaves the stage before the authentication is complete.
    this.#respond(request, request.transit && this.#chap?.isDone !== false, answers);
  }

  /** Begins after the security stage, or wants to leave it without a word about authentication. */
  #skips(request: LoginRequest): boolean {
    if (this.#chap === null || this.#chap.isDone) return false;
    return this.#stage !== LoginStage.Security || (request.transit && !this.#chap.hasBegun);
  }

  /** Whether the names of the first request are ours (§11.12.9). */
  #admit(request: LoginRequest): LoginStatus | null {
    const { initiatorName, sessionType, targetName } = this.#negotiation;
    if (initiatorName === '') return LoginStatus.MissingParameter;
    if (sessionType !== 'Normal' && sessionType !== 'Discovery') {
      return LoginStatus.SessionTypeNotSupported;
    }
    if (sessionType === 'Normal') {
      if (targetName === '') return LoginStatus.MissingParameter;
      if (targetName !== this.#connection.engine.options.targetName) return LoginStatus.NotFound;
    }
    const found = sessionFor(this.#connection.engine, this.#identity(request));
    return typeof found === 'number' ? found : null;
  }

  #identity(request: LoginRequest): LoginIdentity {
    const { initiatorName, isDiscovery } = this.#negotiation;
    return {
      initiatorName,
      isid: request.isid.toString('hex'),
      tpgt: isDiscovery ? -1 : this.#connection.tpgt,
      tsih: request.tsih,
      cid: request.cid,
    };
  }

  #respond(request: LoginRequest, transit: boolean, answers: readonly TextPair[]): void {
    const isLast = transit && request.nsg === LoginStage.FullFeature;
    const session = isLast ? this.#establish(request) : null;
    if (typeof session === 'number') return this.#refuse(session);
    if (transit) this.#stage = request.nsg;
    this.#connection.sender.send(
      {
        opcode: Opcode.LoginResponse,
        transit,
        continue: false,
        csg: request.csg,
        nsg: transit ? request.nsg : 0,
        versionMax: 0,
        versionActive: 0,
        isid: request.isid,
        tsih: session?.tsih ?? request.tsih,
        itt: request.itt,
        statusClass: 0,
        statusDetail: 0,
      },
      session ?? this.#sns(request),
      true,
      encodeText(answers),
    );
    if (session === null) return;
    const { headerDigest, dataDigest } = this.#connection.params;
    this.#connection.useDigests(headerDigest, dataDigest);
  }

  /** ExpCmdSN and MaxCmdSN before the login is done. */
  #sns(request: LoginRequest): { expCmdSn: number; maxCmdSn: number } {
    const found = sessionFor(this.#connection.engine, this.#identity(request));
    if (found !== null && typeof found !== 'number') return found;
    return { expCmdSn: request.cmdSn, maxCmdSn: request.cmdSn + this.#window - 1 };
  }

  get #window(): number {
    const { params } = this.#connection.engine.options;
    return params?.commandWindow ?? DEFAULT_PARAMS.commandWindow;
  }

  /**
   * The connection enters its session, or begins one. What the nexus, or the CID, had before is over before the
   * initiator hears of it. A session may have changed since the first request: then it is a status.
   */
  #establish(request: LoginRequest): Session | LoginStatus {
    const { engine } = this.#connection;
    const found = sessionFor(engine, this.#identity(request));
    if (typeof found === 'number') return found;
    const session = found ?? this.#newSession(request);
    if (found !== null) engine.reinstateConnection(session, request.cid, request.expStatSn);
    // Again, if that was its last connection.
    engine.sessions.add(session);
    this.#connection.enterFullFeature(session, request.cid, this.#negotiation.connectionParams());
    return session;
  }

  #newSession(request: LoginRequest): Session {
    const { engine } = this.#connection;
    const { initiatorName, isid, tpgt } = this.#identity(request);
    const { isDiscovery } = this.#negotiation;
    const nexus = engine.nexusFor(initiatorName, isid, tpgt);
    if (!isDiscovery) engine.reinstate(nexus);
    return new Session({
      nexus,
      tsih: engine.newTsih(),
      isDiscovery,
      params: this.#negotiation.sessionParams(),
      cmdSn: request.cmdSn,
      window: this.#window,
      clock: engine.clock,
      onExpired: (lost) => engine.tasksExpired(lost),
    });
  }

  #refuse(status: LoginStatus): void {
    this.#refuseWith({ statusClass: status >> 8, statusDetail: status & 0xff });
  }

  #refuseWith(refusal: LoginRefusal): void {
    const request = this.#request!;
    const { statusClass, statusDetail, targetAddress } = refusal;
    const text: TextPair[] =
      targetAddress === undefined ? [] : [['TargetAddress', formatAddress(targetAddress)]];
    this.#connection.sender.send(
      {
        opcode: Opcode.LoginResponse,
        transit: false,
        continue: false,
        csg: request.csg & 1,
        nsg: 0,
        versionMax: 0,
        versionActive: 0,
        isid: request.isid,
        tsih: request.tsih,
        itt: request.itt,
        statusClass,
        statusDetail,
      },
      { expCmdSn: request.cmdSn, maxCmdSn: request.cmdSn },
      true,
      encodeText(text),
    );
    this.#connection.end();
  }
}
