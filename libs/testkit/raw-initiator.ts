import { BHS_BYTES, NO_LUN } from '../iscsi/pdu/bhs.ts';
import { Digest } from '../iscsi/pdu/digest.ts';
import { decodePdu, encodePdu, type RequestPdu, type ResponsePdu } from '../iscsi/pdu/index.ts';
import { LoginStage, Opcode, RESERVED_TAG } from '../iscsi/pdu/opcodes.ts';
import { encodeText, parseText, type TextPair } from '../iscsi/text.ts';
import type { Address, ByteStream, Network, StreamSink } from '../wire/network.ts';
import { outcomeOf, type Received, type ResponseOf, senseText } from './raw-answer.ts';
import { type Digests, NO_DIGESTS, sealedBytes, sealPdu, unsealPdu } from './sealed-pdu.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** Virtual time that an answer may take. */
const ANSWER_MS_MAX = 60_000;

export interface RawLoginOptions {
  readonly targetName?: string;
  readonly initiatorName?: string;
  readonly isid?: string;
  readonly tsih?: number;
  readonly cid?: number;
  readonly keys?: readonly TextPair[];
  readonly discovery?: boolean;
}

/** An initiator that does exactly what the test says, PDU by PDU, under a virtual clock. */
export class RawInitiator implements StreamSink {
  readonly received: Received[] = [];
  /** What came and is no PDU. */
  readonly strange: Buffer[] = [];
  /** Undefined while the connection is open. */
  over: Error | null | undefined;
  cmdSn = 1;
  expStatSn = 0;
  tsih = 0;
  cid = 0;
  digests: Digests = NO_DIGESTS;
  #itt = 0;
  #stream!: ByteStream;
  #chunks: Buffer[] = [];
  #length = 0;
  #needed = BHS_BYTES;
  readonly #into = Buffer.alloc(64 * 1024);
  readonly #clock: VirtualClock;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  static async connect(
    clock: VirtualClock,
    network: Network,
    address: Address,
  ): Promise<RawInitiator> {
    const initiator = new RawInitiator(clock);
    let stream: ByteStream | null = null;
    let failure: unknown = null;
    network.connect(address, initiator, { timeoutMs: ANSWER_MS_MAX }).then(
      (opened) => {
        stream = opened;
      },
      (error: unknown) => {
        failure = error;
      },
    );
    await clock.runUntil(() => stream !== null || failure !== null, ANSWER_MS_MAX);
    if (stream === null) throw failure;
    initiator.#stream = stream;
    return initiator;
  }

  buffer(): Buffer {
    return this.#into;
  }

  data(chunk: Buffer, length: number): void {
    this.#chunks.push(Buffer.from(chunk.subarray(0, length)));
    this.#length += length;
    while (this.#length >= this.#needed) {
      const bytes = this.#join();
      if (typeof decodePdu(bytes) === 'string') {
        this.strange.push(bytes);
        this.#needed = BHS_BYTES;
        this.#keep(Buffer.alloc(0));
        return;
      }
      const needed = bytes.length < BHS_BYTES ? BHS_BYTES : sealedBytes(bytes, this.digests);
      // Nothing is joined again before the PDU is whole.
      this.#needed = needed;
      if (bytes.length < needed) return;
      this.#needed = BHS_BYTES;
      this.#take(bytes.subarray(0, needed));
      this.#keep(bytes.subarray(needed));
    }
  }

  #take(bytes: Buffer): void {
    const { plain, isIntact } = unsealPdu(bytes, this.digests);
    const whole = decodePdu(plain);
    if (whole === null || typeof whole === 'string') throw new Error('half a PDU');
    const pdu = whole.pdu as ResponsePdu;
    this.received.push({
      pdu,
      data: Buffer.from(whole.data),
      ahs: Buffer.from(whole.ahs),
      isIntact,
    });
  }

  #join(): Buffer {
    if (this.#chunks.length > 1) this.#keep(Buffer.concat(this.#chunks));
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  #keep(bytes: Buffer): void {
    this.#chunks = [bytes];
    this.#length = bytes.length;
  }

  closed(error: Error | null): void {
    this.over = error;
  }

  /** Bytes that make no whole PDU, yet. */
  get leftover(): Buffer {
    return this.#join();
  }

  get unsentBytes(): number {
    return this.#stream.unsentBytes;
  }

  nextItt(): number {
    this.#itt += 1;
    return this.#itt;
  }

  /** Continues with the task tags and CmdSN of another connection of the same session. */
  joins(other: RawInitiator): this {
    this.#itt = other.#itt + 1000;
    this.cmdSn = other.cmdSn;
    return this;
  }

  raw(bytes: Uint8Array): void {
    this.#stream.writev([Buffer.from(bytes)], () => {});
  }

  /** `spoiled`: with a wrong data digest. */
  send(
    pdu: RequestPdu,
    data?: Uint8Array,
    options: { ahs?: Buffer; spoiled?: boolean } = {},
  ): void {
    this.raw(sealPdu(encodePdu(pdu, data), this.digests, options));
  }

  drop(): void {
    this.#stream.destroy();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  /** The next PDU, which must have this opcode. */
  async next<O extends Opcode>(opcode: O): Promise<Received<ResponseOf<O>>> {
    await this.#clock.runUntil(
      () => this.received.length > 0 || this.over !== undefined,
      ANSWER_MS_MAX,
    );
    const received = this.received.shift();
    if (received === undefined) throw new Error(`closed: ${this.over?.message ?? 'in order'}`);
    if (received.pdu.opcode !== opcode) {
      throw new Error(`expected opcode ${opcode}: ${JSON.stringify(received.pdu)}`);
    }
    this.#acknowledge(received.pdu);
    return received as Received<ResponseOf<O>>;
  }

  /** Statuses up to the first gap. */
  #acknowledge(pdu: ResponsePdu): void {
    const isStatus =
      pdu.opcode === Opcode.DataIn
        ? pdu.statusPresent
        : pdu.opcode !== Opcode.R2t && (pdu.opcode !== Opcode.NopIn || pdu.itt !== RESERVED_TAG);
    const isFirst = pdu.opcode === Opcode.LoginResponse;
    if (!isStatus || !(isFirst || pdu.statSn === this.expStatSn)) return;
    this.expStatSn = (pdu.statSn + 1) >>> 0;
  }

  async waitClosed(): Promise<Error | null> {
    await this.#clock.runUntil(() => this.over !== undefined, ANSWER_MS_MAX);
    return this.over ?? null;
  }

  /** One login request and its answer. */
  async loginStep(
    stage: { csg: number; nsg: number; transit?: boolean; continue?: boolean },
    keys: readonly TextPair[],
    options: RawLoginOptions = {},
    itt = 0,
  ): Promise<{ pdu: ResponseOf<typeof Opcode.LoginResponse>; keys: readonly TextPair[] }> {
    this.send(
      {
        opcode: Opcode.LoginRequest,
        transit: stage.transit ?? true,
        continue: stage.continue ?? false,
        csg: stage.csg,
        nsg: stage.nsg,
        versionMax: 0,
        versionMin: 0,
        isid: Buffer.from(options.isid ?? '800000000001', 'hex'),
        tsih: options.tsih ?? 0,
        itt,
        cid: options.cid ?? 0,
        cmdSn: this.cmdSn,
        expStatSn: this.expStatSn,
        dataSegmentLength: 0,
      },
      encodeText(keys),
    );
    const { pdu, data } = await this.next(Opcode.LoginResponse);
    return { pdu, keys: parseText(data).pairs ?? [] };
  }

  /** A login straight to the full feature phase, in the operational stage. Returns the target's answers. */
  async login(options: RawLoginOptions = {}): Promise<Map<string, string>> {
    const names: TextPair[] = [
      ['InitiatorName', options.initiatorName ?? 'iqn.2026-11.test:initiator'],
      ...(options.discovery === true
        ? ([['SessionType', 'Discovery']] as const)
        : ([['TargetName', options.targetName ?? 'iqn.2026-11.test:target']] as const)),
    ];
    const stage = { csg: LoginStage.Operational, nsg: LoginStage.FullFeature };
    const { pdu, keys } = await this.loginStep(stage, [...names, ...(options.keys ?? [])], options);
    if (pdu.statusClass !== 0) {
      throw new Error(`login refused: ${pdu.statusClass}/${pdu.statusDetail}`);
    }
    this.tsih = pdu.tsih;
    this.cid = options.cid ?? 0;
    const answers = new Map(keys);
    this.digests = {
      header: answers.get('HeaderDigest') === Digest.Crc32c,
      data: answers.get('DataDigest') === Digest.Crc32c,
    };
    return answers;
  }

  /** Sends a SCSI command; the answer is for the caller to take. Returns its task tag. */
  command(
    cdb: readonly number[],
    options: {
      lun?: number;
      read?: number;
      write?: number;
      immediate?: Uint8Array;
      final?: boolean;
      isImmediate?: boolean;
      cmdSn?: number;
      itt?: number;
      ahs?: Buffer;
      spoiled?: boolean;
    } = {},
  ): number {
    const itt = options.itt ?? this.nextItt();
    const lun = Buffer.alloc(8);
    lun[1] = options.lun ?? 0;
    const bytes = Buffer.alloc(16);
    bytes.set(cdb);
    this.send(
      {
        opcode: Opcode.ScsiCommand,
        immediate: options.isImmediate ?? false,
        final: options.final ?? true,
        read: options.read !== undefined,
        write: options.write !== undefined,
        attribute: 1,
        lun,
        itt,
        // Of a command that moves data both ways it is the length of the write.
        edtl: options.write ?? options.read ?? 0,
        cmdSn: options.cmdSn ?? this.cmdSn,
        expStatSn: this.expStatSn,
        cdb: bytes,
        dataSegmentLength: 0,
      },
      options.immediate,
      options,
    );
    if (options.isImmediate !== true && options.cmdSn === undefined) this.#advance();
    return itt;
  }

  /** Sends a command and takes its answer, read data joined. */
  async run(
    cdb: readonly number[],
    options: Parameters<RawInitiator['command']>[1] = {},
  ): Promise<{ status: number; data: Buffer; sense: string; residual: number; flags: string }> {
    this.command(cdb, options);
    const parts: Buffer[] = [];
    for (;;) {
      await this.#clock.runUntil(
        () => this.received.length > 0 || this.over !== undefined,
        ANSWER_MS_MAX,
      );
      if (this.received[0]?.pdu.opcode !== Opcode.DataIn) break;
      const { pdu, data } = await this.next(Opcode.DataIn);
      parts.push(data);
      if (!pdu.statusPresent) continue;
      return { ...outcomeOf(pdu), data: Buffer.concat(parts), sense: '' };
    }
    const { pdu, data } = await this.next(Opcode.ScsiResponse);
    return { ...outcomeOf(pdu), data: Buffer.concat(parts), sense: senseText(data) };
  }

  dataOut(
    itt: number,
    data: Uint8Array,
    options: {
      ttt?: number;
      offset?: number;
      dataSn?: number;
      final?: boolean;
      spoiled?: boolean;
    } = {},
  ): void {
    this.send(
      {
        opcode: Opcode.DataOut,
        final: options.final ?? true,
        lun: NO_LUN,
        itt,
        ttt: options.ttt ?? RESERVED_TAG,
        expStatSn: this.expStatSn,
        dataSn: options.dataSn ?? 0,
        bufferOffset: options.offset ?? 0,
        dataSegmentLength: 0,
      },
      data,
      options,
    );
  }

  /** Sends a task management request (immediate); the answer is for the caller to take. */
  manage(
    fn: number,
    options: { lun?: number; tag?: number; refCmdSn?: number; expDataSn?: number } = {},
  ): number {
    const itt = this.nextItt();
    const lun = Buffer.alloc(8);
    lun[1] = options.lun ?? 0;
    this.send({
      opcode: Opcode.TaskManagementRequest,
      immediate: true,
      function: fn,
      lun,
      itt,
      referencedTag: options.tag ?? RESERVED_TAG,
      cmdSn: this.cmdSn,
      expStatSn: this.expStatSn,
      refCmdSn: options.refCmdSn ?? 0,
      expDataSn: options.expDataSn ?? 0,
      dataSegmentLength: 0,
    });
    return itt;
  }

  /** Sends a SNACK (§11.16); tags are reserved where they are left out. */
  snack(
    type: number,
    options: { itt?: number; ttt?: number; begRun?: number; runLength?: number } = {},
  ): void {
    this.send({
      opcode: Opcode.SnackRequest,
      type,
      lun: NO_LUN,
      itt: options.itt ?? RESERVED_TAG,
      ttt: options.ttt ?? RESERVED_TAG,
      expStatSn: this.expStatSn,
      begRun: options.begRun ?? 0,
      runLength: options.runLength ?? 0,
      dataSegmentLength: 0,
    });
  }

  async text(pairs: readonly TextPair[]): Promise<readonly TextPair[]> {
    const itt = this.nextItt();
    const parts: Buffer[] = [];
    let ttt = RESERVED_TAG;
    let data = encodeText(pairs);
    for (;;) {
      this.send(
        {
          opcode: Opcode.TextRequest,
          immediate: false,
          final: true,
          continue: false,
          lun: NO_LUN,
          itt,
          ttt,
          cmdSn: this.cmdSn,
          expStatSn: this.expStatSn,
          dataSegmentLength: 0,
        },
        data,
      );
      this.#advance();
      const response = await this.next(Opcode.TextResponse);
      parts.push(response.data);
      if (response.pdu.final) return parseText(Buffer.concat(parts)).pairs ?? [];
      ttt = response.pdu.ttt;
      data = Buffer.alloc(0);
    }
  }

  async logout(reason = 0, cid = this.cid): Promise<ResponseOf<typeof Opcode.LogoutResponse>> {
    this.send({
      opcode: Opcode.LogoutRequest,
      immediate: true,
      reason,
      itt: this.nextItt(),
      cid,
      cmdSn: this.cmdSn,
      expStatSn: this.expStatSn,
      dataSegmentLength: 0,
    });
    return (await this.next(Opcode.LogoutResponse)).pdu;
  }

  #advance(): void {
    this.cmdSn = (this.cmdSn + 1) >>> 0;
  }
}
