import type {
  Address,
  ByteStream,
  ConnectOptions,
  Listener,
  Network,
  StreamSink,
} from '#wire/network.ts';

/** A network whose connections can be cut off while they are in use. */
export class CuttingNetwork implements Network {
  readonly #network: Network;
  readonly #open: ByteStream[] = [];
  connects = 0;

  constructor(network: Network) {
    this.#network = network;
  }

  /** Connections that are open, in the order in which they were made. */
  get open(): readonly ByteStream[] {
    return this.#open;
  }

  async connect(address: Address, sink: StreamSink, options: ConnectOptions): Promise<ByteStream> {
    this.connects += 1;
    const watched: StreamSink = {
      buffer: () => sink.buffer(),
      data: (chunk, length) => sink.data(chunk, length),
      closed: (error) => {
        this.#open.splice(this.#open.indexOf(stream), 1);
        sink.closed(error);
      },
    };
    const stream = await this.#network.connect(address, watched, options);
    this.#open.push(stream);
    return stream;
  }

  listen(address: Address, accept: (stream: ByteStream) => StreamSink): Promise<Listener> {
    return this.#network.listen(address, accept);
  }

  /** Both sides lose the connection at once; what is queued is lost. */
  cut(index: number): void {
    this.#open[index]!.destroy(new Error('cut'));
  }
}
