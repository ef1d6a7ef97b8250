import { LOGIN_SEGMENT_BYTES } from '../iscsi/keys.ts';
import { BHS_BYTES } from '../iscsi/pdu/bhs.ts';
import { opcodeOf } from '../iscsi/pdu/index.ts';
import { type LoginRequest, loginRequest } from '../iscsi/pdu/login-request.ts';
import { LoginStage, Opcode } from '../iscsi/pdu/opcodes.ts';
import { encodeText, parseText, TEXT_BYTES_MAX, type TextPair } from '../iscsi/text.ts';
import { formatAddress } from '../wire/network.ts';
import { ChapGuard } from './chap.ts';
import type { Connection, Phase } from './connection.ts';
import type { LoginRefusal } from './faults.ts';
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
    const fault = engine.faults.onLogin({ portalIndex }, negotiation.initiatorName);
    if (fault === 'close') return this.#connection.drop('fault');
    if (fault !== null) return this.#refuseWith(fault);
    const answers = negotiation.answers(this.#stage);
    if (isFirst && !negotiation.isDiscovery) {
      // §6.3.1: in the first response.
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
    if (request.tsih === 0) return null;
    // §6.3.1: adding a connection, or replacing one. A session here has one connection for its life.
    const isKnown = [...this.#connection.engine.sessions].some(
      (session) => session.tsih === request.tsih,
    );
    return isKnown ? LoginStatus.CannotIncludeInSession : LoginStatus.SessionDoesNotExist;
  }

  #respond(request: LoginRequest, transit: boolean, answers: readonly TextPair[]): void {
    const isLast = transit && request.nsg === LoginStage.FullFeature;
    const session = isLast ? this.#establish(request) : null;
    if (transit) this.#stage = request.nsg;
    const window = this.#connection.engine.options.params?.commandWindow;
    const sns = {
      expCmdSn: request.cmdSn,
      maxCmdSn: request.cmdSn + (window ?? DEFAULT_PARAMS.commandWindow) - 1,
    };
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
      sns,
      true,
      encodeText(answers),
    );
    if (session === null) return;
    const { headerDigest, dataDigest } = session.params;
    this.#connection.useDigests(headerDigest, dataDigest);
  }

  /** The session begins; what the nexus had before is over before the initiator hears of it. */
  #establish(request: LoginRequest): Session {
    const { engine, tpgt } = this.#connection;
    const isid = request.isid.toString('hex');
    const { initiatorName, isDiscovery } = this.#negotiation;
    const nexus = engine.nexusFor(initiatorName, isid, isDiscovery ? -1 : tpgt);
    if (!isDiscovery) engine.reinstate(nexus);
    const session = new Session({
      nexus,
      tsih: engine.newTsih(),
      isDiscovery,
      params: this.#negotiation.result(),
      connection: this.#connection,
      cmdSn: request.cmdSn,
      window: engine.options.params?.commandWindow ?? DEFAULT_PARAMS.commandWindow,
    });
    engine.sessions.add(session);
    this.#connection.enterFullFeature(session);
    return session;
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
