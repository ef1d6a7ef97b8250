import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { IoContext } from '../block/device.ts';
import { blockErrors } from '../block/errors.ts';
import { MemoryDevice } from '../block/memory.ts';
import { seededRng } from '../core/rng.ts';
import { tempDir } from '../testkit/tmp.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { waitFor } from '../testkit/wait.ts';
import { BufferPool } from '../wire/buffer-pool.ts';
import type { Lent } from '../wire/lent.ts';
import type { Address } from '../wire/network.ts';
import { nodeNetwork } from '../wire/node-network.ts';
import { NbdClient, nbdErrno } from './client.ts';
import { NbdCmd, SIMPLE_REPLY_BYTES } from './constants.ts';
import type { NbdExport } from './export.ts';
import { RawPeer, rawRequest } from './rows/raw-peer.ts';
import { NbdServer, type NbdServerOptions } from './server.ts';

const KIB = 1024;
const SIZE_BYTES = 4 * 1024 * KIB;

/** Notes which reads reach it; refuses those that touch the bad block, and keeps them back while it is told to. */
class WatchedDevice extends MemoryDevice {
  readonly reads: { offset: number; length: number; traced: boolean }[] = [];
  badAt = -1;
  held: (() => void)[] | null = null;

  override async read(offset: number, into: Buffer, io: IoContext): Promise<void> {
    this.reads.push({ offset, length: into.length, traced: io.trace !== undefined });
    const { held } = this;
    if (held !== null) await new Promise<void>((resolve) => held.push(resolve));
    if (offset <= this.badAt && this.badAt < offset + into.length) {
      into.fill(0xee);
      throw blockErrors.make('BLOCK_UNSUPPORTED', { errno: 'EIO', message: 'a bad block' });
    }
    return super.read(offset, into, io);
  }
}

/** Lends what is read of it. */
class LendingDevice extends WatchedDevice {
  lentBytes = 0;
  lent = 0;

  lend(offset: number, length: number, io: IoContext): Promise<Lent> {
    const bytes = Buffer.alloc(length);
    return this.read(offset, bytes, io).then(() => {
      this.lent += 1;
      this.lentBytes += length;
      const giveBack = (): void => {
        bytes.fill(0xdd);
        this.lentBytes -= length;
      };
      return { bytes, giveBack };
    });
  }
}

const pool = new BufferPool({ checkOwnership: true });
const dir = tempDir('run');
const content = Buffer.alloc(SIZE_BYTES);
const rng = seededRng(7);
for (let at = 0; at < SIZE_BYTES; at += 4) content.writeUInt32LE(rng.u32(), at);
let counter = 0;
let device: WatchedDevice;
let server: NbdServer;
let address: Address;
let client: NbdClient;

async function start(options: Partial<NbdServerOptions> = {}): Promise<void> {
  const exp: NbdExport = { name: 'vol', description: '', device };
  server = new NbdServer({
    network: nodeNetwork,
    clock: new VirtualClock(),
    pool,
    exports: { list: () => [exp], find: () => exp },
    ...options,
  });
  address = { kind: 'unix', path: dir.file(`${counter++}.sock`) };
  await server.listen(address);
  client = await NbdClient.connect({ network: nodeNetwork, address });
}

beforeEach(async () => {
  device = new WatchedDevice({ name: 'watched', sizeBytes: SIZE_BYTES });
  await device.write(0, content, 0, { deadlineMs: Number.POSITIVE_INFINITY, client: 'test' });
});

afterEach(async () => {
  client.destroy();
  await waitFor('all connections gone', () => server.connections().length === 0);
  await server.close();
  expect(pool.takenBytes, 'every buffer was given back').toBe(0);
});

afterAll(() => dir.remove());

/** Asks for all at once, so that the requests arrive together. */
async function readAll(ranges: readonly (readonly [number, number])[]): Promise<void> {
  const answers = await Promise.all(ranges.map(([offset, length]) => client.read(offset, length)));
  for (const [i, [offset, length]] of ranges.entries()) {
    expect(answers[i]!.equals(content.subarray(offset, offset + length))).toBe(true);
  }
}

/** The client goes while the device holds its one read back, which ends after that. */
async function leaveMeanwhile(reading: Promise<unknown>): Promise<void> {
  await waitFor('the read is under way', () => device.held!.length === 1);
  client.destroy();
  await reading;
  await waitFor('its end is noticed', () =>
    server.connections().every((connection) => connection.phase === 'settling'),
  );
  for (const go of device.held!.splice(0)) go();
  await waitFor('all connections gone', () => server.connections().length === 0);
}

describe('reads that arrive together', () => {
  test('neighbours are read at once, and each gets its own part', async () => {
    await start();
    await readAll([
      [8 * KIB, 4 * KIB],
      [12 * KIB, 64 * KIB],
      [76 * KIB, 512],
    ]);
    expect(device.reads).toEqual([{ offset: 8 * KIB, length: 68 * KIB + 512, traced: false }]);
  });

  test('what has a gap before it, or goes backwards, is read alone', async () => {
    await start();
    await readAll([
      [0, 4 * KIB],
      [8 * KIB, 4 * KIB],
      [4 * KIB, 4 * KIB],
    ]);
    expect(device.reads.map((read) => read.length)).toEqual([4 * KIB, 4 * KIB, 4 * KIB]);
  });

  test('a run ends at its bound, so that several are under way', async () => {
    await start();
    await readAll(Array.from({ length: 10 }, (_, i) => [i * 64 * KIB, 64 * KIB] as const));
    expect(device.reads.map((read) => read.length / KIB)).toEqual([256, 256, 128]);
  });

  test('a write between two neighbours ends the run', async () => {
    await start();
    const writing = [
      client.read(0, 4 * KIB),
      client.write(64 * KIB, content.subarray(64 * KIB, 68 * KIB)),
      client.read(4 * KIB, 4 * KIB),
    ];
    await Promise.all(writing);
    expect(device.reads.map((read) => read.length)).toEqual([4 * KIB, 4 * KIB]);
  });

  test('a bad block fails the request that asked for it, and none of its neighbours', async () => {
    await start();
    device.badAt = 5 * KIB;
    const answers = await Promise.allSettled([
      client.read(0, 4 * KIB),
      client.read(4 * KIB, 4 * KIB),
      client.read(8 * KIB, 4 * KIB),
    ]);
    expect(answers.map((answer) => answer.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(nbdErrno((answers[1] as PromiseRejectedResult).reason)).toBe('EIO');
    const [first, , third] = answers as PromiseFulfilledResult<Buffer>[];
    expect(first!.value.equals(content.subarray(0, 4 * KIB))).toBe(true);
    expect(third!.value.equals(content.subarray(8 * KIB, 12 * KIB))).toBe(true);
    expect(server.stats.errors).toBe(1);
  });

  test('a request that is traced is seen alone', async () => {
    let asked = 0;
    const trace = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) };
    await start({ onRequest: () => (asked++ === 1 ? trace : undefined) });
    await readAll([
      [0, 4 * KIB],
      [4 * KIB, 4 * KIB],
      [8 * KIB, 4 * KIB],
    ]);
    expect(device.reads.filter((read) => read.traced)).toEqual([
      { offset: 4 * KIB, length: 4 * KIB, traced: true },
    ]);
  });

  test('a client that leaves meanwhile costs no buffer, whether the read succeeds or not', async () => {
    for (const badAt of [-1, 0]) {
      await start();
      device.held = [];
      device.badAt = badAt;
      const reading = Promise.allSettled([client.read(0, 4 * KIB), client.read(4 * KIB, 4 * KIB)]);
      await leaveMeanwhile(reading);
      expect(pool.takenBytes).toBe(0);
    }
  });
});

describe('reads of a device that lends', () => {
  let lender: LendingDevice;

  beforeEach(async () => {
    lender = new LendingDevice({ name: 'lender', sizeBytes: SIZE_BYTES });
    await lender.write(0, content, 0, { deadlineMs: Number.POSITIVE_INFINITY, client: 'test' });
    device = lender;
  });

  afterEach(() => expect(lender.lentBytes, 'all was given back').toBe(0));

  test('are answered from where they stand, which is given back when the client has them', async () => {
    await start();
    await readAll(Array.from({ length: 10 }, (_, i) => [i * 64 * KIB, 64 * KIB] as const));
    await readAll([[1024 * KIB, 1024 * KIB]]);
    expect(lender.lent).toBe(4);
    await waitFor('all of it to be given back', () => lender.lentBytes === 0);
  });

  test('are copied when they are short', async () => {
    await start();
    await readAll([[0, 4 * KIB]]);
    expect(lender.lent).toBe(0);
  });

  test('fail one by one', async () => {
    await start();
    lender.badAt = 70 * KIB;
    await expect(client.read(64 * KIB, 64 * KIB)).rejects.toThrow();
    expect(lender.reads).toHaveLength(1);
    const both = await Promise.allSettled([
      client.read(0, 64 * KIB),
      client.read(64 * KIB, 64 * KIB),
    ]);
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  });

  test('are given back when the client has left', async () => {
    await start();
    lender.held = [];
    const reading = Promise.allSettled([client.read(0, 64 * KIB)]);
    await leaveMeanwhile(reading);
    expect(lender.lent).toBe(1);
  });

  test('stay what they are for a client that is slow to take them', async () => {
    await start();
    const slow = await RawPeer.connect(address);
    await slow.go('vol');
    slow.stream.pause();
    const requests = Array.from({ length: 16 }, (_, i) =>
      rawRequest({ command: NbdCmd.Read, offset: i * 256 * KIB, length: 256 * KIB }),
    );
    slow.send(...requests);
    await waitFor('the server to have read them', () => lender.lentBytes >= 2048 * KIB);
    slow.stream.resume();
    const bytes = await slow.take(requests.length * (SIMPLE_REPLY_BYTES + 256 * KIB));
    for (let i = 0; i < requests.length; i++) {
      const at = i * (SIMPLE_REPLY_BYTES + 256 * KIB) + SIMPLE_REPLY_BYTES;
      const wanted = content.subarray(i * 256 * KIB, (i + 1) * 256 * KIB);
      expect(bytes.subarray(at, at + 256 * KIB).equals(wanted)).toBe(true);
    }
    slow.leave();
    await waitFor('all of it to be given back', () => lender.lentBytes === 0);
  });

  test('are given back when a client leaves that did not take them', async () => {
    await start();
    const slow = await RawPeer.connect(address);
    await slow.go('vol');
    slow.stream.pause();
    for (let i = 0; i < 16; i++) {
      slow.send(rawRequest({ command: NbdCmd.Read, offset: i * 256 * KIB, length: 256 * KIB }));
    }
    await waitFor('the server to have read them', () => lender.lentBytes >= 2048 * KIB);
    slow.leave();
    await waitFor('all of it to be given back', () => lender.lentBytes === 0);
  });
});
