import type { Address, ByteStream, ConnectOptions, Network, StreamSink } from '#wire/network.ts';

/** What becomes of bytes on their way to the initiator: other bytes, and perhaps the end of the stream behind them. */
export interface Tampered {
  readonly bytes: Buffer;
  /** The target closes, resets, or never says anything again. */
  readonly end?: 'close' | 'reset' | 'silence';
}

/** `at`: where the bytes stand in the stream. The bytes belong to the function. */
export type Tamper = (bytes: Buffer, at: number, connection: number) => Tampered;

const READ_BYTES = 64 * 1024;

class TamperedStream implements StreamSink, ByteStream {
  readonly #sink: StreamSink;
  readonly #tamper: Tamper;
  readonly #connection: number;
  readonly #scratch = Buffer.alloc(READ_BYTES);
  #inner: ByteStream | null = null;
  #at = 0;
  #mute = false;
  #over = false;

  constructor(sink: StreamSink, tamper: Tamper, connection: number) {
    this.#sink = sink;
    this.#tamper = tamper;
    this.#connection = connection;
  }

  joined(inner: ByteStream): this {
    this.#inner = inner;
    return this;
  }

  buffer(): Buffer {
    return this.#scratch;
  }

  data(chunk: Buffer, length: number): void {
    if (this.#over || this.#mute) return;
    const at = this.#at;
    this.#at += length;
    const copy = Buffer.from(chunk.subarray(0, length));
    const { bytes, end } = this.#tamper(copy, at, this.#connection);
    this.#deliver(bytes);
    if (end === undefined) return;
    this.#mute = true;
    if (end === 'silence') return;
    this.#inner?.destroy();
    process.nextTick(() => this.closed(end === 'close' ? null : resetError()));
  }

  /** As the platform does it: straight into the buffer that the reader offers. */
  #deliver(bytes: Buffer): void {
    for (let at = 0; at < bytes.length && !this.#over; ) {
      const into = this.#sink.buffer();
      const length = bytes.copy(into, 0, at);
      this.#sink.data(into, length);
      at += length;
    }
  }

  closed(error: Error | null): void {
    if (this.#over) return;
    this.#over = true;
    this.#sink.closed(error);
  }

  get remote(): string {
    return this.#inner!.remote;
  }

  get unsentBytes(): number {
    return this.#inner!.unsentBytes;
  }

  writev(chunks: readonly Uint8Array[], done: () => void): void {
    this.#inner!.writev(chunks, done);
  }

  pause(): void {
    this.#inner!.pause();
  }

  resume(): void {
    this.#inner!.resume();
  }

  end(): void {
    this.#inner!.end();
  }

  destroy(reason?: Error): void {
    this.#inner!.destroy(reason);
  }
}

function resetError(): Error {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
}

/** A network on which somebody changes what targets say. */
export class TamperingNetwork implements Network {
  readonly #network: Network;
  readonly #tamper: Tamper;
  #connections = 0;

  constructor(network: Network, tamper: Tamper) {
    this.#network = network;
    this.#tamper = tamper;
  }

  async connect(address: Address, sink: StreamSink, options: ConnectOptions): Promise<ByteStream> {
    const stream = new TamperedStream(sink, this.#tamper, this.#connections++);
    return stream.joined(await this.#network.connect(address, stream, options));
  }

  listen: Network['listen'] = (address, accept) => this.#network.listen(address, accept);
}

/** Lets everything through, and tells what it was. */
export function recording(into: (bytes: Buffer, connection: number) => void): Tamper {
  return (bytes, _at, connection) => {
    into(bytes, connection);
    return { bytes };
  };
}

/** Changes the byte at `place` of every connection's stream. */
export function flipping(place: number, mask: number): Tamper {
  return (bytes, at) => {
    if (place >= at && place < at + bytes.length) bytes[place - at]! ^= mask;
    return { bytes };
  };
}

/** Does so to one connection, in the order in which they are opened. */
export function onlyTo(which: number, tamper: Tamper): Tamper {
  return (bytes, at, connection) =>
    connection === which ? tamper(bytes, at, connection) : { bytes };
}

/** Ends the stream of every connection after `bytesMax` bytes. */
export function truncating(bytesMax: number, end: NonNullable<Tampered['end']>): Tamper {
  return (bytes, at) =>
    at + bytes.length < bytesMax ? { bytes } : { bytes: bytes.subarray(0, bytesMax - at), end };
}
