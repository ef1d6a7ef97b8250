import { At, BHS_BYTES, padOf, u24 } from '../iscsi/pdu/bhs.ts';
import { CONTIGUOUS_BYTES_MAX, Receiver } from '../wire/receiver.ts';

/** Where data goes that nobody wants. Shared by all connections: its contents mean nothing. */
const WASTE = Buffer.allocUnsafeSlow(64 * 1024);

type Phase = 'header' | 'ahs' | 'collect' | 'into' | 'skip';

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
}

/** Cuts the byte stream of an initiator into PDUs. Additional header segments are skipped: no CDB here is that long. */
export class PduReceiver {
  readonly #handler: PduHandler;
  readonly #receiver: Receiver;
  #phase: Phase = 'header';
  #dataLength = 0;
  #skipLength = 0;
  #into: Buffer | null = null;
  #intoAt = 0;
  #skipped = false;
  #stopped = false;

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
        return this.#header(buffer, at);
      case 'ahs':
        return this.#wantData();
      case 'collect':
        return this.#finish(buffer.subarray(at, at + this.#dataLength));
      case 'into':
      case 'skip':
        return this.#wantSkip();
    }
  }

  #header(buffer: Buffer, at: number): void {
    this.#dataLength = u24(buffer, at + At.dataSegmentLength);
    const ahsLength = buffer[at + At.totalAhsLength]! * 4;
    if (this.#dataLength > this.#handler.dataLengthMax) {
      this.stop();
      return this.#handler.onOversized(this.#dataLength);
    }
    this.#into = null;
    this.#skipped = false;
    this.#handler.onHeader(buffer, at, this.#dataLength);
    if (this.#stopped) return;
    if (ahsLength === 0) return this.#wantData();
    this.#phase = 'ahs';
    this.#receiver.want(ahsLength);
  }

  #wantData(): void {
    const length = this.#dataLength;
    if (length === 0) return this.#wantHeader();
    const padded = length + padOf(length);
    if (this.#into === null && !this.#skipped && padded <= CONTIGUOUS_BYTES_MAX) {
      this.#phase = 'collect';
      return this.#receiver.want(padded);
    }
    const placed = this.#into === null ? 0 : Math.min(length, this.#into.length - this.#intoAt);
    this.#skipLength = padded - Math.max(0, placed);
    if (placed <= 0) return this.#wantSkip();
    this.#phase = 'into';
    this.#receiver.want(placed, this.#into, this.#intoAt);
  }

  #wantSkip(): void {
    if (this.#skipLength === 0) return this.#finish(null);
    const length = Math.min(this.#skipLength, WASTE.length);
    this.#skipLength -= length;
    this.#phase = 'skip';
    this.#receiver.want(length, WASTE, 0);
  }

  #finish(data: Buffer | null): void {
    this.#handler.onData(data);
    if (!this.#stopped) this.#wantHeader();
  }

  #wantHeader(): void {
    this.#phase = 'header';
    this.#receiver.want(BHS_BYTES);
  }
}
