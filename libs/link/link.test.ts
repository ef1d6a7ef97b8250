import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type BlockCapabilities, NO_DEADLINE } from '../block/device.ts';
import { seededRng } from '../core/rng.ts';
import { AccessState } from '../multipath/access.ts';
import { MemoryNetwork } from '../testkit/memory-network.ts';
import { outcomeError, ScriptedPath } from '../testkit/scripted-path.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { BufferPool } from '../wire/buffer-pool.ts';
import type { Address } from '../wire/network.ts';
import { LinkClient } from './client.ts';
import { linkErrors } from './errors.ts';
import { decodeAttention } from './hello.ts';
import type { PathHost } from './host.ts';
import { LinkPath } from './path.ts';
import { type LinkServer, listenLink } from './server.ts';

const CAPS: BlockCapabilities = {
  sizeBytes: 1024 ** 3,
  blockBytes: 512,
  preferredBytes: 4096,
  maxIoBytes: 32 * 1024 * 1024,
  readOnly: false,
  volatileCache: false,
  fua: true,
  trim: true,
  writeZeroes: true,
  fastZero: true,
  extents: true,
  compareAndWriteBytes: 512,
  rotational: false,
};
const HANDLE = 7;
const INCARNATION = 3;
const EPOCH = 5;
const ADDRESS: Address = { kind: 'tcp', host: 'worker', port: 7000 };
const TOKEN = 'sesame';
const hello = (id: string) => ({ cluster: 'c', id, incarnation: `${id}-1`, token: TOKEN });

let clock: VirtualClock;
let network: MemoryNetwork;
let pool: BufferPool;
let device: ScriptedPath;
let server: LinkServer;
let client: LinkClient;
let path: LinkPath;
let minEpoch: number;

const host: PathHost = {
  open(handle, incarnation, epoch) {
    if (handle !== HANDLE || incarnation !== INCARNATION) throw linkErrors.make('LINK_NO_SLOT');
    if (epoch < minEpoch) throw linkErrors.make('LINK_EPOCH_STALE');
    return device;
  },
};

const during = <T>(promise: Promise<T>): Promise<T> => clock.during(promise, 60_000);

beforeEach(async () => {
  clock = new VirtualClock();
  network = new MemoryNetwork(clock, seededRng(1));
  pool = new BufferPool({ checkOwnership: true });
  device = new ScriptedPath('d', CAPS);
  minEpoch = EPOCH;
  server = await listenLink({
    network: network.host('worker'),
    address: ADDRESS,
    host,
    pool,
    hello: hello('w'),
    token: TOKEN,
  });
  const options = { network: network.host('gateway'), clock, address: ADDRESS, hello: hello('g') };
  client = await during(LinkClient.connect(options));
  path = new LinkPath(client, {
    name: 'p',
    caps: CAPS,
    handle: HANDLE,
    incarnation: INCARNATION,
    epoch: EPOCH,
  });
});

afterEach(async () => {
  client.close();
  await clock.advance(10);
  await during(server.close());
  expect(pool.takenBytes).toBe(0);
});

describe('the access state of a path', () => {
  const access = (state: AccessState) => ({ state, preferred: false, group: 2 });

  test('comes with every change, before the answer that it caused, and at first what was missed', async () => {
    const heard: string[] = [];
    path.onUnitAttention((attention) => heard.push(attention.access?.state ?? 'none'));
    device.access = access(AccessState.NonOptimized);
    const read = path.read(0, Buffer.alloc(512), NO_DEADLINE).catch(() => heard.push('refused'));
    await clock.runUntil(() => device.ops.length > 0, 1000);
    device.accessChanged(access(AccessState.Standby));
    device.take().reject(outcomeError('not-executed'));
    await during(read);
    expect(heard).toEqual([AccessState.NonOptimized, AccessState.Standby, 'refused']);
  });

  test('of nonsense ends the link', () => {
    const bytes = (access: unknown) =>
      Buffer.from(JSON.stringify({ asc: 0x2a, ascq: 6, text: 't', access }));
    expect(decodeAttention(bytes(undefined))).toEqual({ asc: 0x2a, ascq: 6, text: 't' });
    for (const bad of [null, 7, {}, { state: 'best', preferred: false, group: null }]) {
      expect(decodeAttention(bytes(bad))).toBeNull();
    }
    const size = Buffer.from(JSON.stringify({ asc: 1, ascq: 1, text: '', sizeBytes: 'big' }));
    expect(decodeAttention(size)).toBeNull();
  });
});

describe('a path over a link', () => {
  test('carries reads, writes and ranges with their bytes, offsets and flags', async () => {
    const into = Buffer.alloc(8192);
    const offset = 2 ** 33 + 512;
    const read = path.read(offset, into, NO_DEADLINE);
    const write = path.write(4096, Buffer.alloc(512, 9), 1, NO_DEADLINE);
    await clock.advance(5);
    const [seenRead, seenWrite] = device.ops.splice(0);
    expect(seenRead).toMatchObject({ kind: 'read', offset, length: 8192 });
    expect(seenWrite!.buffer.equals(Buffer.alloc(512, 9))).toBe(true);
    seenRead!.buffer.fill(5);
    seenWrite!.resolve();
    seenRead!.resolve();
    await during(Promise.all([read, write]));
    expect(into.every((byte) => byte === 5)).toBe(true);
    const trim = path.trim(512, 2 ** 31, 0, NO_DEADLINE);
    await clock.advance(5);
    expect(device.ops[0]).toMatchObject({ kind: 'trim', offset: 512, length: 2 ** 31 });
    device.take().resolve();
    await during(trim);
  });

  test('splits what is longer than a frame, and fails as a whole with the worst outcome', async () => {
    const bytes = 3 * 1024 * 1024 + 4096;
    const write = path.write(0, Buffer.alloc(bytes, 1), 0, NO_DEADLINE);
    await clock.advance(20);
    expect(device.ops.map((op) => op.length)).toEqual([1048576, 1048576, 1048576, 4096]);
    device.take().resolve();
    device.take().reject(outcomeError('not-executed'));
    device.take().reject(outcomeError('unknown'));
    device.take().resolve();
    await expect(during(write)).rejects.toMatchObject({ outcome: 'unknown' });
  });

  test('hands an error over with code, text, outcome and fields', async () => {
    const read = path.read(0, Buffer.alloc(512), NO_DEADLINE);
    await clock.advance(5);
    device.take().reject(outcomeError('final', 'unreadable'));
    const wanted = { code: 'TEST_SCRIPTED', message: 'unreadable', outcome: 'final' };
    await expect(during(read)).rejects.toMatchObject(wanted);
  });

  test('is refused for certain when its owner was replaced or the claim is not held', async () => {
    minEpoch = EPOCH + 1;
    const stale = path.write(0, Buffer.alloc(512), 0, NO_DEADLINE);
    await expect(during(stale)).rejects.toMatchObject({
      code: 'LINK_EPOCH_STALE',
      outcome: 'not-executed',
    });
    const options = {
      name: 'x',
      caps: CAPS,
      handle: 1,
      incarnation: INCARNATION,
      epoch: EPOCH + 1,
    };
    const gone = new LinkPath(client, options).read(0, Buffer.alloc(512), NO_DEADLINE);
    await expect(during(gone)).rejects.toMatchObject({
      code: 'LINK_NO_SLOT',
      outcome: 'not-executed',
    });
  });

  test('is lost at once when its session ends before anything was sent over it', async () => {
    const lost: Error[] = [];
    path.onLost((cause) => lost.push(cause));
    await clock.advance(5);
    device.lose('unknown');
    await clock.advance(5);
    expect(lost).toHaveLength(1);
  });

  test('is lost when the worker says that it does not hold it', async () => {
    const options = { name: 'x', caps: CAPS, handle: 1, incarnation: INCARNATION, epoch: EPOCH };
    const gone = new LinkPath(client, options);
    const lost: Error[] = [];
    gone.onLost((cause) => lost.push(cause));
    await clock.advance(5);
    expect(lost).toMatchObject([{ code: 'LINK_NO_SLOT' }]);
  });

  test('tells of the loss of the session, and of unit attentions', async () => {
    const lost: Error[] = [];
    const attentions: number[] = [];
    path.onLost((cause) => lost.push(cause));
    path.onUnitAttention(({ asc }) => attentions.push(asc));
    const read = path.read(0, Buffer.alloc(512), NO_DEADLINE);
    await clock.advance(5);
    device.attention(0x29, 0);
    device.lose('unknown');
    await expect(during(read)).rejects.toMatchObject({ outcome: 'unknown' });
    await clock.advance(5);
    expect(attentions).toEqual([0x29]);
    expect(lost).toHaveLength(1);
  });
});

describe('when the link breaks', () => {
  test('what was sent is of unknown outcome, and what was not is certainly not executed', async () => {
    const sent = path.write(0, Buffer.alloc(512), 0, NO_DEADLINE);
    await clock.advance(5);
    expect(device.ops).toHaveLength(1);
    const lost: Error[] = [];
    path.onLost((cause) => lost.push(cause));
    // Queued in this very turn: no byte of it has reached the socket.
    const unsent = path.write(4096, Buffer.alloc(512), 0, NO_DEADLINE);
    unsent.catch(() => {}); // looked at below
    client.close();
    await expect(during(sent)).rejects.toMatchObject({ outcome: 'unknown' });
    await expect(during(unsent)).rejects.toMatchObject({ outcome: 'not-executed' });
    await expect(during(path.read(0, Buffer.alloc(512), NO_DEADLINE))).rejects.toMatchObject({
      outcome: 'not-executed',
    });
    expect(lost).toHaveLength(1);
    device.take().resolve();
  });

  test('a worker that falls silent is given up after three pings', async () => {
    const read = path.read(0, Buffer.alloc(512), NO_DEADLINE);
    await clock.advance(5);
    network.partition('gateway', 'worker');
    await clock.advance(1_000);
    expect(client.lost).toBeNull();
    await expect(during(read)).rejects.toMatchObject({ outcome: 'unknown' });
    expect(client.lost).toMatchObject({ code: 'LINK_SILENT' });
    network.heal();
    device.take().resolve();
  });

  test('the loss of the worker is told before the loss of its paths', async () => {
    const told: string[] = [];
    path.onLost(() => told.push('path'));
    client.onLost(() => told.push('worker'));
    client.close();
    expect(told).toEqual(['worker', 'path']);
  });

  test('an idle link stays up', async () => {
    await clock.advance(60_000);
    expect(client.lost).toBeNull();
  });
});

test.each([
  ['of another cluster', { cluster: 'other', id: 'g', incarnation: 'x', token: TOKEN }],
  ['that does not know the token', { cluster: 'c', id: 'g', incarnation: 'x', token: 'open' }],
  ['without a token', { cluster: 'c', id: 'g', incarnation: 'x' }],
])('a gateway %s is turned away', async (_, stranger) => {
  const options = { network: network.host('gateway'), clock, address: ADDRESS, hello: stranger };
  await expect(during(LinkClient.connect(options))).rejects.toMatchObject({ code: 'LINK_CONNECT' });
});

test('garbage closes the connection and nothing else', async () => {
  let closed = false;
  const stream = await during(
    network.host('gateway').connect(
      ADDRESS,
      {
        buffer: () => Buffer.alloc(1024),
        data: () => {},
        closed: () => {
          closed = true;
        },
      },
      { timeoutMs: 1_000 },
    ),
  );
  stream.writev([Buffer.alloc(64, 0xff)], () => {});
  await clock.advance(10);
  expect(closed).toBe(true);
  expect(client.lost).toBeNull();
});

test('more requests than the credit allows wait their turn', async () => {
  const reads = Array.from({ length: 600 }, (_, i) =>
    path.read(i * 512, Buffer.alloc(512), NO_DEADLINE),
  );
  await clock.advance(20);
  expect(device.ops).toHaveLength(512);
  for (const op of device.ops.splice(0)) op.resolve();
  await clock.advance(20);
  expect(device.ops).toHaveLength(88);
  for (const op of device.ops.splice(0)) op.resolve();
  await during(Promise.all(reads));
});
