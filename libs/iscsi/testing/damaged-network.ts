import type {
  Address,
  ByteStream,
  ConnectOptions,
  Network,
  StreamSink,
} from '../../wire/network.ts';
import { At, Bit } from '../pdu/bhs.ts';

interface Damage {
  readonly opcode: number;
  /** From the first byte of the PDU. */
  readonly at: number;
  readonly mask: number;
}

/** A network that changes bits of what an initiator sends, after everything that the initiator does itself. */
export class DamagedNetwork implements Network {
  readonly #network: Network;
  #next: Damage | null = null;

  constructor(network: Network) {
    this.#network = network;
  }

  /** True once what was armed has happened. */
  get struck(): boolean {
    return this.#next === null;
  }

  /** Strikes the next batch that begins with a PDU of this opcode. */
  arm(damage: Damage): void {
    this.#next = damage;
  }

  async connect(address: Address, sink: StreamSink, options: ConnectOptions): Promise<ByteStream> {
    const stream = await this.#network.connect(address, sink, options);
    const writev = stream.writev.bind(stream);
    stream.writev = (chunks, done) => writev(this.#damaged(chunks), done);
    return stream;
  }

  listen: Network['listen'] = (address, accept) => this.#network.listen(address, accept);

  #damaged(chunks: readonly Uint8Array[]): readonly Uint8Array[] {
    const damage = this.#next;
    const opcode = chunks[0]![At.opcode]! & Bit.opcodeMask;
    if (damage === null || opcode !== damage.opcode) return chunks;
    this.#next = null;
    const bytes = Buffer.concat(chunks);
    bytes[damage.at]! ^= damage.mask;
    return [bytes];
  }
}
