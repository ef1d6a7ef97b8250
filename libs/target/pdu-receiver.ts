import { At, BHS_BYTES, padOf, u24 } from '../iscsi/pdu/bhs.ts';
import { DIGEST_BYTES, digestOf, isDigest, SEALED_BHS_BYTES } from '../iscsi/pdu/digest.ts';
import { CONTIGUOUS_BYTES_MAX, Receiver } from '../wire/receiver.ts';

/** Where data goes that nobody wants. Shared by all connections: its contents mean nothing. */
const WASTE = Buffer.allocUnsafeSlow(64 * 1024);

/** Data that nobody wants and that has a digest is looked at in pieces of this size. */
const SKIP_BYTES_MAX = WASTE.length;

type Phase =
  | 'header'
  | 'sealed-header'
  | 'ahs'
  | 'sealed-ahs'
  | 'collect'
  | 'into'
  | 'skip'
  | 'digest';

export interface PduHandler {
  /** Data segments may be this long. */
  readonly dataLengthMax: number;
  /**
   * A header arrived, a view that is valid during the call. When data follows (`dataLength` > 0), the handler may say
   * where it goes with `place` or `skip`; else it is collected for `onData`.
   */
  onHeader(header: Buffer, at: number, dataLength: number): void;
  /** The data segment is complete. `data` is null when it was placed or skipped. */
  onData(data: Buffer | null): void;
  /** The header announces more than we declared to take; nothing more is received. */
  onOversized(dataLength: number): void;
  /**
   * A digest is not that of what came. True: only the data is wrong, the PDU is forgotten and the next one is
   * received. False: nothing more is received.
   */
  onWrongDigest(part: 'header' | 'data', header: Buffer, at: number): boolean;
}

/** Cuts the byte stream of an initiator into PDUs. */
export class PduReceiver {
  readonly #handler: PduHandler;
  readonly #receiver: Receiver;
  #phase: Phase = 'header';
  #dataLength = 0;
  #skipLength = 0;
  /** Length of the segment that was asked for. */
  #arriving = 0;
  #into: Buffer | null = null;
  #intoAt = 0;
  #skipped = false;
  #stopped = false;
  #headerDigest = false;
  #dataDigest = false;
  /** CRC32C of the data segment so far. */
  #crc = 0;
  /** The header at hand, kept for what is told of its data, and while its additional segments arrive. */
  readonly #kept = Buffer.alloc(SEALED_BHS_BYTES);
  /** The additional header segments of the header at hand, a view that is valid during `onHeader`. */
  ahs: Buffer | null = null;

  constructor(handler: PduHandler) {
    this.#handler = handler;
    this.#receiver = new Receiver((buffer, at) => this.#onSegment(buffer, at));
    this.#receiver.want(BHS_BYTES);
  }

  buffer(): Buffer {
    return this.#receiver.buffer();
  }

  push(chunk: Buffer, length: number): void {
    this.#receiver.push(chunk, length);
  }

  /** What arrives is kept until `resume`; the stream should be paused too. */
  pause(): void {
    this.#receiver.pause();
  }

  resume(): void {
    this.#receiver.resume();
  }

  stop(): void {
    this.#stopped = true;
    this.#receiver.stop();
  }

  /** From the PDU after the one that is being handled. */
  useDigests(header: boolean, data: boolean): void {
    this.#headerDigest = header;
    this.#dataDigest = data;
  }

  /** The data segment that follows goes into `buffer` from `at` on, as far as it has room; the rest is dropped. */
  place(buffer: Buffer, at: number): void {
    this.#into = buffer;
    this.#intoAt = at;
  }

  /** The data segment that follows is dropped. */
  skip(): void {
    this.#skipped = true;
  }

  #onSegment(buffer: Buffer, at: number): void {
    switch (this.#phase) {
      case 'header':
        return this.#plainHeader(buffer, at);
      case 'sealed-header':
        return this.#sealedHeader(buffer, at);
      case 'ahs':
        this.ahs = buffer.subarray(at, at + this.#arriving);
        return this.#header(this.#kept, 0);
      case 'sealed-ahs':
        return this.#sealedAhs(buffer, at);
      case 'collect':
        return this.#collected(buffer, at);
      case 'into':
      case 'skip':
        if (this.#dataDigest) this.#crc = digestOf(buffer, at, this.#arriving, this.#crc);
        return this.#wantSkip();
      case 'digest':
        if (!isDigest(buffer, at, this.#crc)) return this.#wrongDigest('data');
        return this.#finish(null);
    }
  }

  #plainHeader(buffer: Buffer, at: number): void {
    const ahsLength = buffer[at + At.totalAhsLength]! * 4;
    if (ahsLength === 0) return this.#header(buffer, at);
    buffer.copy(this.#kept, 0, at, at + BHS_BYTES);
    this.#phase = 'ahs';
    this.#arriving = ahsLength;
    this.#receiver.want(ahsLength);
  }

  /** The basic header and four bytes: its digest, or the begin of its additional segments. */
  #sealedHeader(buffer: Buffer, at: number): void {
    const ahsLength = buffer[at + At.totalAhsLength]! * 4;
    if (ahsLength === 0) {
      if (isDigest(buffer, at + BHS_BYTES, digestOf(buffer, at, BHS_BYTES))) {
        return this.#header(buffer, at);
      }
      buffer.copy(this.#kept, 0, at, at + BHS_BYTES);
      return this.#wrongDigest('header');
    }
    buffer.copy(this.#kept, 0, at, at + SEALED_BHS_BYTES);
    this.#crc = digestOf(buffer, at, SEALED_BHS_BYTES);
    this.#phase = 'sealed-ahs';
    this.#arriving = ahsLength;
    this.#receiver.want(ahsLength);
  }

  /** The rest of the additional segments, and the digest of them all (§11.2.3). */
  #sealedAhs(buffer: Buffer, at: number): void {
    const rest = this.#arriving - DIGEST_BYTES;
    const crc = digestOf(buffer, at, rest, this.#crc);
    if (!isDigest(buffer, at + rest, crc)) return this.#wrongDigest('header');
    const begin = this.#kept.subarray(BHS_BYTES);
    this.ahs = Buffer.concat([begin, buffer.subarray(at, at + rest)]);
    this.#header(this.#kept, 0);
  }

  #wrongDigest(part: 'header' | 'data'): void {
    const goesOn = this.#handler.onWrongDigest(part, this.#kept, 0);
    if (part === 'header' || !goesOn) this.stop();
    else if (!this.#stopped) this.#wantHeader();
  }

  #collected(buffer: Buffer, at: number): void {
    if (this.#dataDigest) {
      const padded = this.#dataLength + padOf(this.#dataLength);
      const isRight = isDigest(buffer, at + padded, digestOf(buffer, at, padded));
      if (!isRight) return this.#wrongDigest('data');
    }
    this.#finish(buffer.subarray(at, at + this.#dataLength));
  }

  #header(buffer: Buffer, at: number): void {
    this.#dataLength = u24(buffer, at + At.dataSegmentLength);
    if (this.#dataLength > this.#handler.dataLengthMax) {
      this.stop();
      return this.#handler.onOversized(this.#dataLength);
    }
    this.#into = null;
    this.#skipped = false;
    if (this.#dataDigest && buffer !== this.#kept) {
      buffer.copy(this.#kept, 0, at, at + BHS_BYTES);
    }
    this.#handler.onHeader(buffer, at, this.#dataLength);
    this.ahs = null;
    if (!this.#stopped) this.#wantData();
  }

  #wantData(): void {
    const length = this.#dataLength;
    if (length === 0) return this.#wantHeader();
    const padded = length + padOf(length);
    const digest = this.#dataDigest ? DIGEST_BYTES : 0;
    this.#crc = 0;
    if (this.#into === null && !this.#skipped && padded + digest <= CONTIGUOUS_BYTES_MAX) {
      this.#phase = 'collect';
      return this.#receiver.want(padded + digest);
    }
    const placed = this.#into === null ? 0 : Math.min(length, this.#into.length - this.#intoAt);
    this.#skipLength = padded - Math.max(0, placed);
    if (placed <= 0) return this.#wantSkip();
    this.#phase = 'into';
    this.#arriving = placed;
    this.#receiver.want(placed, this.#into, this.#intoAt);
  }

  #wantSkip(): void {
    if (this.#skipLength === 0) return this.#wantDigest();
    const length = Math.min(this.#skipLength, SKIP_BYTES_MAX);
    this.#skipLength -= length;
    this.#phase = 'skip';
    this.#arriving = length;
    // What other connections throw away meanwhile would spoil the digest.
    if (this.#dataDigest) this.#receiver.want(length);
    else this.#receiver.want(length, WASTE, 0);
  }

  #wantDigest(): void {
    if (!this.#dataDigest) return this.#finish(null);
    this.#phase = 'digest';
    this.#receiver.want(DIGEST_BYTES);
  }

  #finish(data: Buffer | null): void {
    this.#handler.onData(data);
    if (!this.#stopped) this.#wantHeader();
  }

  #wantHeader(): void {
    this.#phase = this.#headerDigest ? 'sealed-header' : 'header';
    this.#receiver.want(this.#headerDigest ? SEALED_BHS_BYTES : BHS_BYTES);
  }
}
