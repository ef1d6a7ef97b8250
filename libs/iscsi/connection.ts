import { isOrionError } from '../core/errors.ts';
import type { BufferPool } from '../wire/buffer-pool.ts';
import type { Address, ByteStream, Network, StreamSink } from '../wire/network.ts';
import { OutQueue } from '../wire/out-queue.ts';
import { Receiver } from '../wire/receiver.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import { LOGIN_SEGMENT_BYTES, type Params } from './keys.ts';
import { AHS_BYTES_MAX, parseAdditionalHeaders } from './pdu/additional-header.ts';
import { At, BHS_BYTES, Bit, i32, padOf, u24 } from './pdu/bhs.ts';
import {
  DIGEST_BYTES,
  Digest,
  digestOf,
  isDigest,
  putDigest,
  SEALED_BHS_BYTES,
  sealHeader,
} from './pdu/digest.ts';
import { encodeHeader, type RequestPdu } from './pdu/index.ts';
import { Opcode } from './pdu/opcodes.ts';
import type { Task } from './task-table.ts';
import { UnsentAnswers } from './unsent-answers.ts';

/** What a connection delivers to. A method that throws an OrionError ends the connection with it. */
export interface ConnectionHandler {
  /**
   * A Data-In header. Returns the task whose memory takes the segment (it goes to `task.data` at `rxAt`), or null for data
   * that nobody wants any more. `dataIn` follows when the segment is there, also when it is empty.
   */
  dataInHeader(connection: Connection, header: Buffer, at: number, length: number): Task | null;
  dataIn(connection: Connection): void;
  /** Any other PDU. Header and data are valid during the call only. */
  pdu(connection: Connection, header: Buffer, at: number, data: Buffer): void;
  /**
   * The data segment of a PDU does not have its digest, and the PDU is dropped: the Data-In that was announced last, or the
   * one with `header`. Without this method it is the end of the connection.
   */
  damaged?(connection: Connection, header: Buffer | null): void;
  /** The connection is over: the peer ended it, it broke, or it broke the protocol. Called once. */
  lost(connection: Connection, error: Error | null): void;
}

const Expect = { Header: 0, DataIn: 1, Body: 2, Pad: 3, DataInDigest: 4, MoreHeader: 5 } as const;
const NO_DATA = Buffer.alloc(0);

/**
 * One TCP connection to a target: cuts the stream into PDUs and sends PDUs. It knows no commands and no login. Payload of
 * Data-In is received straight into the memory of its task, and delivered once its digest is known to be right.
 */
export class Connection implements StreamSink {
  readonly cid: number;
  /** Data segments that the peer takes (its MaxRecvDataSegmentLength). */
  peerSegmentBytes = LOGIN_SEGMENT_BYTES;
  /** Data segments that we take. */
  ownSegmentBytes = LOGIN_SEGMENT_BYTES;
  /** The next StatSN, signed (§4.2.2.2). */
  expStatSn = 0;
  /** Grows with whatever arrives: any byte is a sign of life. */
  rxEvents = 0;
  bytesIn = 0;
  /** What a header takes, with its digest. */
  headerBytes = BHS_BYTES;
  /** Set by `useDigests`. */
  headerDigest = false;
  dataDigest = false;

  /** The Data-In that is being received, set by `dataInHeader`. */
  rxTask: Task | null = null;
  rxAt = 0;
  rxLength = 0;
  rxFlags = 0;
  rxStatus = 0;
  rxResidual = 0;

  /** What the unanswered commands on it ask for: the connection that has least takes the next one. */
  outstandingBytes = 0;

  /** Writes that were answered while the socket still held bytes of them. */
  readonly unflushed: Task[] = [];

  readonly #answers = new UnsentAnswers();

  /** Who is delivered to: the login first, then the session. */
  handler: ConnectionHandler;
  readonly #receiver: Receiver;
  #stream: ByteStream | null = null;
  #out: OutQueue | null = null;
  #expect: number = Expect.Header;
  #dead = false;
  /** The header whose body is being received, with room for additional ones and a digest. */
  readonly #header = Buffer.alloc(BHS_BYTES + AHS_BYTES_MAX + DIGEST_BYTES);
  #bodyLength = 0;
  /** CRC32C of the Data-In at hand, without its pad bytes. */
  #dataInCrc = 0;

  constructor(cid: number, handler: ConnectionHandler) {
    this.cid = cid;
    this.handler = handler;
    this.#receiver = new Receiver((buffer, at) => this.#onSegment(buffer, at));
    this.#receiver.want(BHS_BYTES);
  }

  async connect(
    network: Network,
    address: Address,
    options: { timeoutMs: number; signal?: AbortSignal; pool?: BufferPool | null },
  ): Promise<void> {
    const { pool, ...connectOptions } = options;
    this.#stream = await network.connect(address, this, connectOptions);
    this.#out = new OutQueue(this.#stream, pool ?? null);
  }

  /** Valid after `connect`. */
  get out(): OutQueue {
    return this.#out!;
  }

  get remote(): string {
    return this.#stream?.remote ?? '';
  }

  get dead(): boolean {
    return this.#dead;
  }

  /** True in the middle of a PDU. */
  get partial(): boolean {
    return this.#expect !== Expect.Header || this.#receiver.partial;
  }

  buffer(): Buffer {
    return this.#receiver.buffer();
  }

  data(chunk: Buffer, length: number): void {
    if (this.#dead) return;
    this.rxEvents = (this.rxEvents + 1) | 0;
    this.bytesIn += length;
    try {
      this.#receiver.push(chunk, length);
    } catch (error) {
      this.#lose(error as Error);
    }
  }

  closed(error: Error | null): void {
    this.#lose(error);
  }

  /** Sends a PDU that is not on the path of an I/O. */
  send(pdu: RequestPdu, data: Uint8Array = NO_DATA): void {
    if (this.#dead) return;
    const out = this.out;
    const at = out.reserve(this.headerBytes);
    pdu.dataSegmentLength = data.length;
    encodeHeader(pdu, out.slab, at);
    this.seal(out.slab, at);
    this.appendSegment(data);
  }

  /** `send`, for what the peer made us send. Throws when it does not read what it asks for. */
  answer(pdu: RequestPdu): void {
    this.countAnswer();
    this.send(pdu);
  }

  /** A request follows that the peer wished for: it counts as an answer. */
  countAnswer(): void {
    if (!this.#dead) this.#answers.add(this.out);
  }

  /** The digests that were agreed on hold from the next PDU on, in both directions (§6.3, full feature phase only). */
  useDigests({ HeaderDigest, DataDigest }: Params): void {
    this.headerDigest = HeaderDigest === Digest.Crc32c;
    this.dataDigest = DataDigest === Digest.Crc32c;
    this.headerBytes = this.headerDigest ? SEALED_BHS_BYTES : BHS_BYTES;
    if (this.#expect === Expect.Header) this.#receiver.want(this.headerBytes);
  }

  /** Ends a header in the room that was reserved for it. */
  seal(slab: Buffer, at: number): void {
    if (this.headerDigest) sealHeader(slab, at);
  }

  /** Queues a data segment with its pad bytes and its digest; it must not change before it has left. */
  appendSegment(data: Uint8Array): void {
    this.out.append(data);
    if (this.dataDigest && data.length > 0) this.#padWithDigest(data);
    else this.pad(data.length);
  }

  /** §11.2.3: the digest is about the pad bytes too. */
  #padWithDigest(data: Uint8Array): void {
    const pad = padOf(data.length);
    const out = this.out;
    const at = out.reserve(pad + DIGEST_BYTES);
    const { slab } = out;
    slab.fill(0, at, at + pad);
    const crc = digestOf(data, 0, data.length);
    putDigest(slab, at + pad, pad === 0 ? crc : digestOf(slab, at, pad, crc));
  }

  /** §4.2.2.2: a status that is missing cannot be asked for at ErrorRecoveryLevel 0 (§7.9). */
  takeStatSn(header: Buffer, at: number): void {
    const statSn = i32(header, at + At.statSn);
    const expected = this.expStatSn;
    if (statSn !== expected) {
      throw protocolError(`StatSN ${statSn >>> 0}, expected ${expected >>> 0} (§4.2.2.2)`);
    }
    this.expStatSn = (expected + 1) | 0;
  }

  /** Zeroes up to the next multiple of 4 (§11.1). */
  pad(length: number): void {
    const pad = padOf(length);
    if (pad === 0) return;
    const out = this.out;
    const at = out.reserve(pad);
    out.slab.fill(0, at, at + pad);
  }

  /** Ends our side after what is queued; the peer's end follows. */
  end(): void {
    this.#out?.flush();
    this.#stream?.end();
  }

  /**
   * Drops the connection. From here on no byte of any buffer is read or written by it. Safe to call at any time; `lost` is not
   * called by it.
   */
  destroy(cause: Error): void {
    this.#dead = true;
    this.#receiver.stop();
    this.#stream?.destroy(isOrionError(cause) ? new Error(cause.message) : cause);
    this.#out?.close();
  }

  #lose(error: Error | null): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#receiver.stop();
    this.handler.lost(this, error);
  }

  #onSegment(buffer: Buffer, at: number): void {
    switch (this.#expect) {
      case Expect.Header:
        this.#onHeader(buffer, at);
        return;
      case Expect.DataIn:
        if (this.dataDigest) {
          this.#onDataInWhole(buffer, at);
          return;
        }
        if (!this.#wantPad(this.rxLength)) this.#wantHeader();
        this.handler.dataIn(this);
        return;
      case Expect.DataInDigest:
        this.#onDataInDigest(buffer, at);
        return;
      case Expect.MoreHeader:
        this.#onMoreHeader(buffer, at);
        return;
      case Expect.Body: {
        const whole = !this.dataDigest || this.#isBodyWhole(buffer, at);
        const body = buffer.subarray(at, at + this.#bodyLength);
        this.#wantHeader();
        if (whole) this.handler.pdu(this, this.#header, 0, body);
        else this.#onDamaged(this.#header);
        return;
      }
      default:
        this.#wantHeader();
    }
  }

  #wantHeader(): void {
    this.#expect = Expect.Header;
    this.#receiver.want(this.headerBytes);
  }

  /** The bytes stand in the memory of the task, which stays unanswered until their digest is there. */
  #onDataInWhole(buffer: Buffer, at: number): void {
    this.#dataInCrc = digestOf(buffer, at, this.rxLength);
    this.#expect = Expect.DataInDigest;
    this.#receiver.want(padOf(this.rxLength) + DIGEST_BYTES);
    // Read together with the header behind it, and not with the data behind that.
    this.#receiver.ahead = this.headerBytes;
  }

  #onDataInDigest(buffer: Buffer, at: number): void {
    this.#receiver.ahead = 0;
    const pad = padOf(this.rxLength);
    const crc = digestOf(buffer, at, pad, this.#dataInCrc);
    this.#wantHeader();
    if (isDigest(buffer, at + pad, crc)) this.handler.dataIn(this);
    else this.#onDamaged(null);
  }

  #isBodyWhole(buffer: Buffer, at: number): boolean {
    const padded = this.#bodyLength + padOf(this.#bodyLength);
    return isDigest(buffer, at + padded, digestOf(buffer, at, padded));
  }

  #onDamaged(header: Buffer | null): void {
    this.rxTask = null;
    const { handler } = this;
    if (handler.damaged === undefined) throw iscsiErrors.make('ISCSI_DIGEST_DATA');
    handler.damaged(this, header);
  }

  #wantPad(length: number): boolean {
    const pad = padOf(length);
    if (pad === 0) return false;
    this.#expect = Expect.Pad;
    this.#receiver.want(pad);
    return true;
  }

  #onHeader(buffer: Buffer, at: number): void {
    const ahsBytes = buffer[at + At.totalAhsLength]! * 4;
    if (ahsBytes !== 0) {
      // Nonsense is called that now, and not waited for. With a digest the whole of it tells.
      if (!this.headerDigest) this.#checkHeader(buffer, at);
      buffer.copy(this.#header, 0, at, at + this.headerBytes);
      this.#expect = Expect.MoreHeader;
      this.#receiver.want(ahsBytes);
      return;
    }
    // §7.8: before any field is used. Where the next PDU begins is in the header, so it is not known any more.
    if (this.headerDigest && !isDigest(buffer, at + BHS_BYTES, digestOf(buffer, at, BHS_BYTES))) {
      throw iscsiErrors.make('ISCSI_DIGEST_HEADER');
    }
    this.#onWholeHeader(buffer, at);
  }

  /** The rest of a header with additional ones; nothing in them is for us, and they do no harm (§11.2.2). */
  #onMoreHeader(buffer: Buffer, at: number): void {
    const header = this.#header;
    const ahsBytes = header[At.totalAhsLength]! * 4;
    const end = BHS_BYTES + ahsBytes;
    buffer.copy(header, this.headerBytes, at, at + ahsBytes);
    // The digest is about all of the header (§11.2.3).
    if (this.headerDigest && !isDigest(header, end, digestOf(header, 0, end))) {
      throw iscsiErrors.make('ISCSI_DIGEST_HEADER');
    }
    const found = parseAdditionalHeaders(header.subarray(BHS_BYTES, end));
    if (typeof found === 'string') throw protocolError(found);
    this.#onWholeHeader(header, 0);
  }

  /** The length of the data segment, checked before anything is allocated or received. */
  #checkHeader(buffer: Buffer, at: number): number {
    const length = u24(buffer, at + At.dataSegmentLength);
    if (length <= this.ownSegmentBytes) return length;
    throw protocolError(
      `a data segment of ${length} bytes, we declared ${this.ownSegmentBytes} (§13.12)`,
    );
  }

  #onWholeHeader(buffer: Buffer, at: number): void {
    const length = this.#checkHeader(buffer, at);
    if ((buffer[at]! & Bit.opcodeMask) === Opcode.DataIn) {
      this.#onDataInHeader(buffer, at, length);
      return;
    }
    if (length === 0) {
      this.#wantHeader();
      this.handler.pdu(this, buffer, at, NO_DATA);
      return;
    }
    if (buffer !== this.#header) buffer.copy(this.#header, 0, at, at + BHS_BYTES);
    this.#bodyLength = length;
    this.#expect = Expect.Body;
    this.#receiver.want(length + padOf(length) + (this.dataDigest ? DIGEST_BYTES : 0));
  }

  #onDataInHeader(buffer: Buffer, at: number, length: number): void {
    this.rxLength = length;
    const task = this.handler.dataInHeader(this, buffer, at, length);
    this.rxTask = task;
    if (length === 0) {
      this.#wantHeader();
      this.handler.dataIn(this);
      return;
    }
    this.#expect = Expect.DataIn;
    if (task === null) this.#receiver.want(length);
    else this.#receiver.want(length, task.data, task.dataAt + this.rxAt);
  }
}
