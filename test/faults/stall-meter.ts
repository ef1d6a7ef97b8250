import { systemClock } from '#core/clock.ts';
import { NbdClient } from '#nbd/client.ts';
import { nodeNetwork } from '#wire/node-network.ts';

const BLOCK_BYTES = 4096;
const WRITERS = 4;
const PAUSE_MS = 2;
const PATTERN_BLOCKS = 64;

export interface Stall {
  readonly longestMs: number;
  readonly writes: number;
  readonly errors: readonly string[];
}

function connect(socket: string, exportName = ''): Promise<NbdClient> {
  const address = { kind: 'unix', path: socket } as const;
  return NbdClient.connect({ network: nodeNetwork, address, exportName });
}

/** Blocks that were acknowledged, to be looked for later over a new connection. */
export class NbdPattern {
  readonly #socket: string;
  readonly #offset: number;

  private constructor(socket: string, offset: number) {
    this.#socket = socket;
    this.#offset = offset;
  }

  static async write(socket: string, offset: number): Promise<NbdPattern> {
    const client = await connect(socket);
    for (let i = 0; i < PATTERN_BLOCKS; i++) {
      await client.write(offset + i * BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES, i + 1));
    }
    await client.disconnect();
    return new NbdPattern(socket, offset);
  }

  /** False while nobody answers; throws when a block is not what was acknowledged. */
  async verify(): Promise<boolean> {
    let client: NbdClient;
    try {
      client = await connect(this.#socket);
    } catch {
      return false;
    }
    for (let i = 0; i < PATTERN_BLOCKS; i++) {
      const block = await client.read(this.#offset + i * BLOCK_BYTES, BLOCK_BYTES);
      if (!block.equals(Buffer.alloc(BLOCK_BYTES, i + 1))) throw new Error(`block ${i} is lost`);
    }
    await client.disconnect();
    return true;
  }
}

/** Writers that write and read back one block each, without a break, and remember how long the longest I/O took. */
export class StallMeter {
  readonly #client: NbdClient;
  readonly #done: Promise<unknown>;
  #stopping = false;
  #longestMs = 0;
  #writes = 0;
  readonly #errors: string[] = [];

  private constructor(client: NbdClient, offset: number) {
    this.#client = client;
    const writers = Array.from({ length: WRITERS }, (_, i) =>
      this.#write(offset + i * BLOCK_BYTES).catch((error) => this.#errors.push(String(error))),
    );
    this.#done = Promise.all(writers);
  }

  static async start(socket: string, offset: number, exportName = ''): Promise<StallMeter> {
    return new StallMeter(await connect(socket, exportName), offset);
  }

  async #write(offset: number): Promise<void> {
    const bytes = Buffer.alloc(BLOCK_BYTES);
    for (let round = 1; !this.#stopping; round++) {
      bytes.fill(round & 0xff);
      bytes.writeUInt32LE(round, 0);
      const startMs = systemClock.nowMs();
      await this.#client.write(offset, bytes);
      this.#longestMs = Math.max(this.#longestMs, systemClock.nowMs() - startMs);
      const back = await this.#client.read(offset, BLOCK_BYTES);
      if (!back.equals(bytes)) throw new Error(`round ${round} at ${offset} reads back wrong`);
      this.#writes += 1;
      await new Promise((resolve) => systemClock.after(PAUSE_MS, () => resolve(null)));
    }
  }

  async stop(): Promise<Stall> {
    this.#stopping = true;
    await this.#done;
    await this.#client.disconnect();
    return { longestMs: this.#longestMs, writes: this.#writes, errors: this.#errors };
  }
}
