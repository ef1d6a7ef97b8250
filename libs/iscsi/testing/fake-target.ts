import type { Address, ByteStream, Listener, Network, StreamSink } from '../../wire/network.ts';
import { answerProposal, defaultParams, isKey, keyOf, type Params } from '../keys.ts';
import {
  decodePdu,
  encodePdu,
  type LoginRequest,
  type LoginResponse,
  type Pdu,
  type RequestPdu,
  type ScsiCommand,
} from '../pdu/index.ts';
import { Opcode, RESERVED_TAG } from '../pdu/opcodes.ts';
import { encodeText, parseText, type TextPair } from '../text.ts';

export interface Received {
  readonly pdu: RequestPdu;
  /** Additional headers. */
  readonly ahs: Buffer;
  readonly data: Buffer;
}

type Draft<T> = T extends unknown
  ? Omit<T, 'dataSegmentLength'> & { dataSegmentLength?: number }
  : never;

/**
 * A target that does what a test tells it, at the end of a wire in memory. It logs everybody in by itself; the rest is the
 * script's, which hears of every PDU. Its constants are those of the codecs, which are held against captures of others.
 */
export class FakeTarget implements Network {
  readonly received: Received[] = [];
  connects = 0;
  /** What it wants of each key, and declares. */
  wants: Partial<Params> = { MaxRecvDataSegmentLength: 8192 };
  /** Keys that it adds to its last login response, word for word. */
  extraKeys: TextPair[] = [];
  /** Answers to keys of ours, word for word; null: no answer. */
  answers: Readonly<Record<string, string | null>> = {};
  /** Takes a login request instead of the usual answer. Return false for the usual one. */
  onLogin: (request: LoginRequest, data: Buffer) => boolean = () => false;
  /** Hears of every PDU after the login. */
  onPdu: (received: Received) => void = () => {};
  /** Hears of every command whose number was counted. */
  onCommand: () => void = () => {};
  /** Takes what comes after the login as it is; nothing of it is decoded then. */
  onBytes: ((bytes: Buffer) => void) | null = null;
  /** Writes of the initiator stay with it until `releaseWrites`. */
  holdWrites = false;
  /** The window is this wide; 0 is closed. */
  window = 64;
  statSn = 1;
  expCmdSn = 0;
  destroyed: Error | null = null;
  ended = false;
  #sink: StreamSink | null = null;
  #bytes: Buffer = Buffer.alloc(0);
  #held: (() => void)[] = [];

  async connect(_address: Address, sink: StreamSink): Promise<ByteStream> {
    this.connects += 1;
    this.#sink = sink;
    let open = true;
    this.#bytes = Buffer.alloc(0);
    return {
      remote: 'fake:3260',
      unsentBytes: 0,
      writev: (chunks, done) => {
        const bytes = Buffer.concat(chunks);
        if (this.holdWrites) this.#held.push(done);
        else process.nextTick(done);
        process.nextTick(() => (this.onBytes === null ? this.#take(bytes) : this.onBytes(bytes)));
      },
      pause: () => {},
      resume: () => {},
      end: () => {
        this.ended = true;
      },
      destroy: (reason) => {
        if (!open) return;
        open = false;
        this.destroyed = reason ?? new Error('destroyed');
        if (this.#sink === sink) this.#sink = null;
        process.nextTick(() => sink.closed(reason ?? null));
      },
    };
  }

  listen(): Promise<Listener> {
    throw new Error('a fake target does not listen');
  }

  releaseWrites(): void {
    for (const done of this.#held.splice(0)) done();
  }

  /** The PDUs of one kind that came so far. */
  of<O extends Opcode>(opcode: O): (Received & { pdu: Extract<RequestPdu, { opcode: O }> })[] {
    return this.received.filter((r) => r.pdu.opcode === opcode) as never;
  }

  /** Sends a PDU with the sequence numbers filled in. `statSn` counts on when `counted`. */
  send(pdu: Draft<Pdu>, data: Buffer = Buffer.alloc(0)): void {
    this.sendBytes(encodePdu(pdu as Pdu, data));
  }

  /** Delivers bytes as they are, in pieces of at most `pieceBytes`. */
  sendBytes(bytes: Buffer, pieceBytes = bytes.length): void {
    process.nextTick(() => {
      for (let at = 0; at < bytes.length; at += pieceBytes) {
        this.#deliver(bytes.subarray(at, Math.min(at + pieceBytes, bytes.length)));
      }
    });
  }

  #deliver(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const sink = this.#sink;
      if (sink === null) return;
      const into = sink.buffer();
      const length = bytes.copy(into, 0, at);
      sink.data(into, length);
      at += length;
    }
  }

  /** The target closes the connection. */
  close(error: Error | null = null): void {
    process.nextTick(() => this.#gone(error));
  }

  #gone(error: Error | null): void {
    const sink = this.#sink;
    this.#sink = null;
    sink?.closed(error);
  }

  numbers(counted: boolean): { statSn: number; expCmdSn: number; maxCmdSn: number } {
    const statSn = this.statSn;
    if (counted) this.statSn = (this.statSn + 1) >>> 0;
    const maxCmdSn = (this.expCmdSn + this.window - 1) >>> 0;
    return { statSn, expCmdSn: this.expCmdSn, maxCmdSn };
  }

  /** A SCSI Response; GOOD when nothing else is said. */
  respond(
    command: ScsiCommand,
    over: { status?: number; sense?: Buffer; residual?: number; response?: number } = {},
  ): void {
    const residual = over.residual ?? 0;
    const sense = over.sense;
    const length = Buffer.alloc(2);
    if (sense !== undefined) length.writeUInt16BE(sense.length);
    this.send(
      {
        opcode: Opcode.ScsiResponse,
        bidiOverflow: false,
        bidiUnderflow: false,
        overflow: residual > 0,
        underflow: residual < 0,
        response: over.response ?? 0,
        status: over.status ?? (sense === undefined ? 0 : 2),
        itt: command.itt,
        snackTag: 0,
        ...this.numbers(true),
        expDataSn: 0,
        bidiResidual: 0,
        residual: Math.abs(residual),
      },
      sense === undefined ? Buffer.alloc(0) : Buffer.concat([length, sense]),
    );
  }

  /** Data-In, the last with the status when `status` is given. */
  dataIn(
    command: ScsiCommand,
    data: Buffer,
    over: {
      dataSn?: number;
      offset?: number;
      final?: boolean;
      status?: number;
      flags?: object;
    } = {},
  ): void {
    const counted = over.status !== undefined;
    this.send(
      {
        opcode: Opcode.DataIn,
        final: over.final ?? true,
        acknowledge: false,
        overflow: false,
        underflow: false,
        statusPresent: counted,
        status: over.status ?? 0,
        lun: command.lun,
        itt: command.itt,
        ttt: RESERVED_TAG,
        ...this.numbers(counted),
        dataSn: over.dataSn ?? 0,
        bufferOffset: over.offset ?? 0,
        residual: 0,
        ...over.flags,
      },
      data,
    );
  }

  r2t(
    command: ScsiCommand,
    offset: number,
    length: number,
    over: { r2tSn?: number; ttt?: number; itt?: number } = {},
  ): void {
    this.send({
      opcode: Opcode.R2t,
      lun: command.lun,
      itt: over.itt ?? command.itt,
      ttt: over.ttt ?? 77,
      ...this.numbers(false),
      r2tSn: over.r2tSn ?? 0,
      bufferOffset: offset,
      desiredLength: length,
    });
  }

  #take(bytes: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    for (;;) {
      const whole = decodePdu(this.#bytes);
      if (whole === null) return;
      if (typeof whole === 'string') throw new Error(`the initiator sent nonsense: ${whole}`);
      const received = {
        pdu: whole.pdu as RequestPdu,
        ahs: Buffer.from(whole.ahs),
        data: Buffer.from(whole.data),
      };
      this.#bytes = this.#bytes.subarray(whole.bytes);
      this.received.push(received);
      this.#handle(received);
    }
  }

  #handle(received: Received): void {
    const { pdu, data } = received;
    if (pdu.opcode === Opcode.LoginRequest) {
      this.expCmdSn = pdu.cmdSn;
      if (!this.onLogin(pdu, data)) this.#login(pdu, data);
      return;
    }
    if (pdu.opcode === Opcode.ScsiCommand && !pdu.immediate) {
      this.expCmdSn = (pdu.cmdSn + 1) >>> 0;
      this.onCommand();
    }
    this.onPdu(received);
  }

  /** The usual answer to a login request. */
  #login(pdu: LoginRequest, data: Buffer): void {
    const wanted = { ...defaultParams(), ...this.wants } as Record<
      string,
      string | number | boolean
    >;
    const pairs: TextPair[] = [];
    for (const [name, value] of parseText(data).pairs ?? []) {
      if (!isKey(name)) continue;
      const key = keyOf(name);
      if (key.type === 'text' || key.result === undefined) continue;
      const forced = this.answers[name];
      if (forced === null) continue;
      pairs.push([name, forced ?? answerProposal(name, value, wanted[name]!).text]);
    }
    if (pdu.csg === 0) pairs.push(['TargetPortalGroupTag', '1']);
    if (pdu.csg === 1) {
      pairs.push(['MaxRecvDataSegmentLength', String(wanted.MaxRecvDataSegmentLength)]);
      pairs.push(...this.extraKeys);
    }
    this.loginResponse(pdu, {}, pairs);
  }

  /** Answers a login request, agreeing to its transition unless `over` says otherwise. */
  loginResponse(
    pdu: LoginRequest,
    over: Partial<LoginResponse>,
    pairs: readonly TextPair[] = [],
  ): void {
    this.send(
      {
        opcode: Opcode.LoginResponse,
        transit: pdu.transit,
        continue: false,
        csg: pdu.csg,
        nsg: pdu.nsg,
        versionMax: 0,
        versionActive: 0,
        isid: pdu.isid,
        tsih: pdu.csg === 1 ? 0x1234 : 0,
        itt: pdu.itt,
        ...this.numbers(true),
        statusClass: 0,
        statusDetail: 0,
        ...over,
      },
      encodeText(pairs),
    );
  }
}

/** Ticks that the longest exchange takes which a test waits for. */
const SETTLE_TICKS = 64;

/** Lets everything that is on its way in memory arrive. */
export async function settle(): Promise<void> {
  for (let i = 0; i < SETTLE_TICKS; i++) {
    await new Promise<void>((resolve) => process.nextTick(resolve));
  }
}
