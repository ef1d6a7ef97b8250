import { NO_DEADLINE, WriteFlag } from '#block/device.ts';
import { sleep } from '#core/clock.ts';
import { intBetween, pick, type Rng } from '#core/rng.ts';
import type { Volume } from '../../services/gateway/volume.ts';
import type { SimCluster } from './cluster.ts';
import { History, type WriteEvent } from './history.ts';

export const BLOCK_BYTES = 512;
export const BLOCKS = 64;
const SPAN_BLOCKS_MAX = 4;
const THINK_MS_MAX = 20;
const NO_VOLUME_PAUSE_MS = 50;
const FLUSH_SHARE = 0.08;
const WRITE_SHARE = 0.6;
const FUA_SHARE = 0.15;

/** Clients that write and read a few blocks over and over, and note what they were told. */
export class Workload {
  readonly history = new History();
  readonly errors: string[] = [];
  readonly #cluster: SimCluster;
  readonly #rng: Rng;
  #nextValue = 1;
  #stopping = false;
  #running = 0;
  operations = 0;

  constructor(cluster: SimCluster, rng: Rng) {
    this.#cluster = cluster;
    this.#rng = rng;
    cluster.onCacheLost = () => this.history.lostCache(cluster.clock.nowMs());
    // There is nobody left who could tell of an earlier loss: that much is documented.
    cluster.onForgotten = () => {
      const nowMs = cluster.clock.nowMs();
      this.history.flushed({ startMs: nowMs, endMs: nowMs, ok: false });
    };
  }

  start(clients: number): void {
    for (let i = 0; i < clients; i++) {
      this.#running += 1;
      this.#client()
        .catch((error) => this.errors.push(`client: ${error}`))
        .finally(() => {
          this.#running -= 1;
        });
    }
  }

  stop(): void {
    this.#stopping = true;
  }

  get idle(): boolean {
    return this.#running === 0;
  }

  async #client(): Promise<void> {
    const { clock } = this.#cluster;
    while (!this.#stopping) {
      if (this.#cluster.volume === undefined) await sleep(clock, NO_VOLUME_PAUSE_MS);
      else {
        await this.#operation();
        await sleep(clock, this.#rng.float() * THINK_MS_MAX);
      }
    }
  }

  /** One read, write or flush; given up when its gateway dies meanwhile, as a client's connection would be. */
  async #operation(): Promise<void> {
    const span = intBetween(this.#rng, 1, SPAN_BLOCKS_MAX);
    const first = intBetween(this.#rng, 0, BLOCKS - span);
    const volume = pick(this.#rng, this.#cluster.volumes);
    const dice = this.#rng.float();
    const work =
      dice < FLUSH_SHARE
        ? this.#flush(volume)
        : dice < FLUSH_SHARE + WRITE_SHARE
          ? this.#write(volume, first, span)
          : this.read(volume, first, span);
    let done = false;
    const finished = work.finally(() => {
      done = true;
    });
    const gone = async (): Promise<void> => {
      while (!done && this.#cluster.volumes.includes(volume)) {
        await sleep(this.#cluster.clock, NO_VOLUME_PAUSE_MS);
      }
    };
    await Promise.race([finished, gone()]);
    this.operations += 1;
  }

  async #write(volume: Volume, first: number, span: number): Promise<void> {
    const { clock } = this.#cluster;
    const bytes = Buffer.alloc(span * BLOCK_BYTES);
    const events: WriteEvent[] = [];
    const durable = this.#rng.float() < FUA_SHARE;
    for (let i = 0; i < span; i++) {
      const value = this.#nextValue++;
      fillBlock(bytes, i, value);
      const event = {
        value,
        startMs: clock.nowMs(),
        ackedMs: Number.POSITIVE_INFINITY,
        durable,
      };
      events.push(event);
      this.history.wrote(first + i, event);
    }
    try {
      const flags = durable ? WriteFlag.Fua : WriteFlag.None;
      await volume.device.write(first * BLOCK_BYTES, bytes, flags, NO_DEADLINE);
    } catch {
      return; // told that it failed: it may have happened or not
    }
    // A gateway that died meanwhile has told its client nothing.
    if (!this.#cluster.volumes.includes(volume)) return;
    for (const event of events) event.ackedMs = clock.nowMs();
  }

  async #flush(volume: Volume): Promise<void> {
    const { clock } = this.#cluster;
    const startMs = clock.nowMs();
    let ok = true;
    try {
      await volume.device.flush(NO_DEADLINE);
    } catch {
      ok = false;
    }
    if (!this.#cluster.volumes.includes(volume)) return;
    this.history.flushed({ startMs, endMs: clock.nowMs(), ok });
  }

  async read(volume: Volume, first: number, span: number): Promise<void> {
    const { clock } = this.#cluster;
    const startMs = clock.nowMs();
    const into = Buffer.alloc(span * BLOCK_BYTES, 0xee);
    try {
      await volume.device.read(first * BLOCK_BYTES, into, NO_DEADLINE);
    } catch {
      return;
    }
    if (!this.#cluster.volumes.includes(volume)) return;
    const endMs = clock.nowMs();
    for (let i = 0; i < span; i++) {
      const value = blockValue(into, i);
      if (value === null) this.errors.push(`block ${first + i} is torn at ${endMs} ms`);
      else this.history.read(first + i, { value, startMs, endMs });
    }
  }
}

function fillBlock(bytes: Buffer, index: number, value: number): void {
  for (let at = 0; at < BLOCK_BYTES; at += 4) bytes.writeUInt32LE(value, index * BLOCK_BYTES + at);
}

/** Null when the block holds more than one value. */
function blockValue(bytes: Buffer, index: number): number | null {
  const value = bytes.readUInt32LE(index * BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at += 4) {
    if (bytes.readUInt32LE(index * BLOCK_BYTES + at) !== value) return null;
  }
  return value;
}
