import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type BlockCapabilities, NO_DEADLINE } from '../block/device.ts';
import { seededRng, systemRng } from '../core/rng.ts';
import { MemoryNetwork } from '../testkit/memory-network.ts';
import { ScriptedPath } from '../testkit/scripted-path.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { BufferPool, sharedPool } from '../wire/buffer-pool.ts';
import type { Lent } from '../wire/lent.ts';
import type { Address, Network } from '../wire/network.ts';
import { nodeSharedMemory } from '../wire/node-shared-memory.ts';
import type { SharedMemory } from '../wire/shared-memory.ts';
import { LinkClient } from './client.ts';
import { FLAG_SHARED, FRAME_BYTES, FrameType, putFramePage, writeFrame } from './frame.ts';
import { LINK_MEMORY_BYTES } from './memory.ts';
import { LinkPath } from './path.ts';
import { type LinkServer, listenLink } from './server.ts';

const KIB = 1024;
const CAPS = { sizeBytes: 1024 ** 3, blockBytes: 512 } as BlockCapabilities;
const ADDRESS: Address = { kind: 'unix', path: '/run/worker.sock' };
const hello = (id: string) => ({ cluster: 'c', id, incarnation: `${id}-1`, token: 't' });

const shared = nodeSharedMemory(systemRng)!;
let clock: VirtualClock;
let network: Network;
let pool: BufferPool;
let device: ScriptedPath;
let server: LinkServer;
let workload: { inflight: number };
let events: string[];
const clients: LinkClient[] = [];

const during = <T>(promise: Promise<T>): Promise<T> => clock.during(promise, 60_000);

beforeEach(async () => {
  clock = new VirtualClock();
  const memory = new MemoryNetwork(clock, seededRng(1));
  network = { ...memory.host('node'), sharedMemory: shared };
  pool = new BufferPool({ checkOwnership: true });
  device = new ScriptedPath('d', CAPS);
  workload = { inflight: 0 };
  events = [];
  server = await listenLink({
    network,
    address: ADDRESS,
    host: { open: () => device },
    pool,
    hello: hello('w'),
    token: 't',
    workload,
    onEvent: (text) => events.push(text),
  });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await clock.advance(10);
  await during(server.close());
  expect(pool.takenBytes).toBe(0);
  expect(workload.inflight).toBe(0);
});

async function connect(
  sharedMemory: SharedMemory | null = shared,
): Promise<{ client: LinkClient; path: LinkPath }> {
  const ours = { ...network, sharedMemory };
  const options = { network: ours, clock, address: ADDRESS, hello: hello('g') };
  const client = await during(LinkClient.connect(options));
  clients.push(client);
  const path = new LinkPath(client, {
    name: 'p',
    caps: CAPS,
    handle: 1,
    incarnation: 1,
    epoch: 1,
  });
  await clock.advance(5);
  return { client, path };
}

const isShared = (buffer: Buffer): boolean => buffer.buffer.byteLength === LINK_MEMORY_BYTES;

describe('on one machine', () => {
  test('large payloads stand in memory that both see, and small ones go with their frame', async () => {
    const { client, path } = await connect();
    expect(client.sharesMemory).toBe(true);
    const into = Buffer.alloc(100 * KIB);
    const read = path.read(512, into, NO_DEADLINE);
    const write = path.write(4096, Buffer.alloc(64 * KIB, 9), 1, NO_DEADLINE);
    const small = path.write(0, Buffer.alloc(4 * KIB, 7), 0, NO_DEADLINE);
    await clock.advance(5);
    expect(workload.inflight).toBe(3);
    const [seenRead, seenWrite, seenSmall] = device.ops.splice(0);
    expect(seenRead).toMatchObject({ kind: 'read', offset: 512, length: 100 * KIB });
    expect([seenRead, seenWrite, seenSmall].map((op) => isShared(op!.buffer))).toEqual([
      true,
      true,
      false,
    ]);
    expect(seenWrite!.buffer.equals(Buffer.alloc(64 * KIB, 9))).toBe(true);
    expect(seenSmall!.buffer.equals(Buffer.alloc(4 * KIB, 7))).toBe(true);
    seenRead!.buffer.fill(5);
    for (const op of [seenSmall, seenRead, seenWrite]) op!.resolve();
    await during(Promise.all([read, write, small]));
    expect(into.equals(Buffer.alloc(100 * KIB, 5))).toBe(true);
  });

  test('what finds no place there goes over the socket, and every byte arrives', async () => {
    const { path } = await connect();
    // A little more than 64 KiB takes a place of 256 KiB, of which there are 256.
    const bytes = 64 * KIB + 512;
    const buffers = Array.from({ length: 300 }, () => Buffer.alloc(bytes));
    const reads = buffers.map((into, i) => path.read(i * bytes, into, NO_DEADLINE));
    await clock.runUntil(() => device.ops.length === 300, 5_000);
    expect(device.ops.filter(({ buffer }) => isShared(buffer))).toHaveLength(256);
    for (const { buffer, offset, resolve } of device.ops.splice(0)) {
      buffer.fill(offset / bytes);
      resolve();
    }
    await during(Promise.all(reads));
    buffers.forEach((into, i) => {
      expect(into.equals(Buffer.alloc(bytes, i))).toBe(true);
    });
  });

  test('a worker that was given up can reach no buffer of the gateway any more', async () => {
    const { client, path } = await connect();
    const into = Buffer.alloc(64 * KIB, 1);
    const read = path.read(0, into, NO_DEADLINE);
    await clock.advance(5);
    const late = device.take();
    client.close();
    await expect(during(read)).rejects.toMatchObject({ outcome: 'unknown' });
    into.fill(2); // as another path reads it
    late.buffer.fill(3);
    late.resolve();
    await clock.advance(5);
    expect(into.equals(Buffer.alloc(64 * KIB, 2))).toBe(true);
  });

  test('what a worker still sends of a write stays what it was after the gateway has gone', async () => {
    const { client, path } = await connect();
    const write = path.write(0, Buffer.alloc(256 * KIB, 4), 0, NO_DEADLINE);
    await clock.advance(5);
    const late = device.take();
    client.close();
    await expect(during(write)).rejects.toMatchObject({ outcome: 'unknown' });
    await clock.advance(5);
    const next = await connect();
    const other = next.path.write(0, Buffer.alloc(256 * KIB, 5), 0, NO_DEADLINE);
    await clock.advance(5);
    expect(late.buffer.equals(Buffer.alloc(256 * KIB, 4))).toBe(true);
    late.resolve();
    device.take().resolve();
    await during(other);
  });

  test('an offer that the worker cannot take leaves the link on its socket, and says so', async () => {
    const stranger: SharedMemory = {
      ...shared,
      open: shared.open.bind(shared),
      offer: (bytes) => ({ ...shared.offer(bytes), name: '/etc/passwd' }),
    };
    const { client, path } = await connect(stranger);
    expect(client.sharesMemory).toBe(false);
    expect(events).toMatchObject([expect.stringContaining('is no shared memory')]);
    const read = path.read(0, Buffer.alloc(64 * KIB), NO_DEADLINE);
    await clock.advance(5);
    expect(isShared(device.ops[0]!.buffer)).toBe(false);
    device.take().resolve();
    await during(read);
  });

  test.each([
    ['beyond the end of the memory', true, 0xffff],
    ['of memory that was never offered', false, 0],
  ])('a payload %s is the end of the link, and nothing is touched', async (_, offers, page) => {
    let closed = false;
    const sink = {
      buffer: () => Buffer.alloc(4096),
      data: () => {},
      closed: () => {
        closed = true;
      },
    };
    const stream = await during(network.connect(ADDRESS, sink, { timeoutMs: 1_000 }));
    const region = shared.offer(LINK_MEMORY_BYTES);
    const memory = { name: region.name, bytes: LINK_MEMORY_BYTES };
    const json = Buffer.from(JSON.stringify({ ...hello('g'), ...(offers ? { memory } : {}) }));
    const frames = Buffer.alloc(2 * FRAME_BYTES);
    writeFrame(frames, 0, FrameType.Hello, 0, 0, 0, 0, 0, 0, json.length);
    writeFrame(frames, FRAME_BYTES, FrameType.Write, FLAG_SHARED, 0, 1, 1, 1, 0, 1024 * KIB);
    putFramePage(frames, FRAME_BYTES, page);
    stream.writev([frames.subarray(0, FRAME_BYTES), json, frames.subarray(FRAME_BYTES)], () => {});
    await clock.advance(20);
    expect(closed).toBe(true);
    expect(device.ops).toEqual([]);
    expect(events.join()).toContain('of shared memory');
    region.settle();
    region.release();
  });
});

describe('what is read to be lent', () => {
  const lend = (path: LinkPath, bytes: number) => path.lend(0, bytes, NO_DEADLINE)!;

  /** Answers all reads that are waiting, each with other bytes. */
  const answer = (fill = 1): void => {
    for (const op of device.ops.splice(0)) {
      op.buffer.fill(fill++);
      op.resolve();
    }
  };

  test('stands where the worker has put it, until it is given back', async () => {
    const { path } = await connect();
    const first = lend(path, 64 * KIB);
    await clock.advance(5);
    const place = device.ops[0]!.buffer;
    answer(7);
    const lent = await during(first);
    expect(isShared(lent.bytes)).toBe(true);
    expect(lent.bytes.equals(Buffer.alloc(64 * KIB, 7))).toBe(true);
    const second = lend(path, 64 * KIB);
    await clock.advance(5);
    expect(device.ops[0]!.buffer.byteOffset).not.toBe(place.byteOffset);
    answer(8);
    (await during(second)).giveBack();
    expect(lent.bytes.equals(Buffer.alloc(64 * KIB, 7))).toBe(true);
    lent.giveBack();
    expect(() => lent.giveBack()).toThrow('once');
    const third = lend(path, 64 * KIB);
    await clock.advance(5);
    expect(device.ops[0]!.buffer.byteOffset).toBe(place.byteOffset);
    answer();
    (await during(third)).giveBack();
  });

  test('is not lent when it is short, or longer than a frame, or there is no such memory', async () => {
    const { path } = await connect();
    expect(path.lend(0, 8 * KIB, NO_DEADLINE)).toBeNull();
    expect(path.lend(0, 2048 * KIB, NO_DEADLINE)).toBeNull();
    expect(path.lends(1024 * KIB)).toBe(true);
    const { path: bare } = await connect(null);
    expect(bare.lends(64 * KIB)).toBe(false);
    expect(bare.lend(0, 64 * KIB, NO_DEADLINE)).toBeNull();
  });

  test('stays what it is when the link ends, and the memory goes with the last of it', async () => {
    let released = 0;
    const watched: SharedMemory = {
      open: shared.open.bind(shared),
      offer: (bytes) => {
        const region = shared.offer(bytes);
        const release = (): void => {
          released += 1;
          region.release();
        };
        return { ...region, release };
      },
    };
    const { client, path } = await connect(watched);
    const reads = [lend(path, 64 * KIB), lend(path, 1024 * KIB), lend(path, 64 * KIB)];
    await clock.advance(5);
    const late = device.ops.pop()!;
    answer(3);
    const [one, two] = await during(Promise.all(reads.slice(0, 2)));
    client.close();
    await expect(during(reads[2]!)).rejects.toMatchObject({ outcome: 'unknown' });
    late.buffer.fill(9); // in the hands of a worker that was given up, and has not answered it
    late.resolve();
    await clock.advance(5);
    expect(one!.bytes.equals(Buffer.alloc(64 * KIB, 3))).toBe(true);
    expect(two!.bytes.equals(Buffer.alloc(1024 * KIB, 4))).toBe(true);
    expect(released).toBe(0);
    one!.giveBack();
    expect(released).toBe(0);
    two!.giveBack();
    expect(released).toBe(1);
  });

  test('is copied where so much is lent already that others would find no place', async () => {
    const { path } = await connect();
    const before = sharedPool.takenBytes;
    const reads = Array.from({ length: 34 }, () => lend(path, 1024 * KIB));
    await clock.runUntil(() => device.ops.length === 34, 5_000);
    answer();
    const lent = await during(Promise.all(reads));
    expect(lent.filter(({ bytes }) => isShared(bytes))).toHaveLength(32);
    lent.forEach(({ bytes, giveBack }, i) => {
      expect(bytes.equals(Buffer.alloc(1024 * KIB, i + 1))).toBe(true);
      giveBack();
    });
    expect(sharedPool.takenBytes).toBe(before);
  });

  test('takes no more than half of the places either when it is short', async () => {
    const { path } = await connect();
    // A place has 64 KiB at least: 512 of them are half.
    const lent: Lent[] = [];
    for (let i = 0; i < 3; i++) {
      const reads = Array.from({ length: 256 }, () => lend(path, 16 * KIB));
      await clock.runUntil(() => device.ops.length === 256, 5_000);
      answer();
      lent.push(...(await during(Promise.all(reads))));
    }
    expect(lent.filter(({ bytes }) => isShared(bytes))).toHaveLength(512);
    const other = path.read(0, Buffer.alloc(1024 * KIB), NO_DEADLINE);
    await clock.advance(5);
    expect(isShared(device.ops[0]!.buffer)).toBe(true);
    answer();
    await during(other);
    for (const { giveBack } of lent) giveBack();
  });

  test('comes over the socket where it finds no place, and an error costs no buffer', async () => {
    const { path } = await connect();
    const before = sharedPool.takenBytes;
    const bytes = 64 * KIB + 512;
    const reads = Array.from({ length: 300 }, () => lend(path, bytes));
    await clock.runUntil(() => device.ops.length === 300, 5_000);
    const [first, ...rest] = device.ops.splice(0).reverse();
    expect(isShared(first!.buffer)).toBe(false);
    expect(rest.filter(({ buffer }) => isShared(buffer))).toHaveLength(256);
    first!.reject(new Error('scripted'));
    for (const op of rest) {
      op.buffer.fill(6);
      op.resolve();
    }
    await expect(during(reads.pop()!)).rejects.toThrow();
    for (const lent of await during(Promise.all(reads))) {
      expect(lent.bytes.equals(Buffer.alloc(bytes, 6))).toBe(true);
      lent.giveBack();
    }
    expect(sharedPool.takenBytes).toBe(before);
  });

  test('costs no buffer when the link ends first', async () => {
    const { client, path } = await connect();
    const before = sharedPool.takenBytes;
    const reads = Array.from({ length: 300 }, () => lend(path, 64 * KIB + 512));
    await clock.runUntil(() => device.ops.length === 300, 5_000);
    client.close();
    const settled = await during(Promise.allSettled(reads));
    expect(settled.every(({ status }) => status === 'rejected')).toBe(true);
    for (const { resolve } of device.ops.splice(0)) resolve();
    await clock.advance(5);
    expect(sharedPool.takenBytes).toBe(before);
  });
});

test('no memory is offered to a worker that may be on another machine', async () => {
  const tcp: Address = { kind: 'tcp', host: '127.0.0.1', port: 7000 };
  const options = { host: { open: () => device }, pool, hello: hello('w'), token: 't' };
  const remote = await listenLink({ ...options, network, address: tcp });
  const asked = { network, clock, address: tcp, hello: hello('g') };
  const client = await during(LinkClient.connect(asked));
  expect(client.sharesMemory).toBe(false);
  client.close();
  await clock.advance(10);
  await during(remote.close());
});
