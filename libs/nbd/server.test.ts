import { renameSync, statSync } from 'node:fs';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type BlockDevice, type IoContext, WriteFlag } from '../block/device.ts';
import { blockErrors } from '../block/errors.ts';
import { MemoryDevice } from '../block/memory.ts';
import { intBetween, seededRng } from '../core/rng.ts';
import { tempDir } from '../testkit/tmp.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { waitFor } from '../testkit/wait.ts';
import { BufferPool } from '../wire/buffer-pool.ts';
import type { Address } from '../wire/network.ts';
import { nodeNetwork } from '../wire/node-network.ts';
import { listExports, NbdClient, nbdErrno } from './client.ts';
import type { NbdEvent } from './connection.ts';
import { CmdFlag, NbdCmd, NbdErr, NbdInfo, NbdOpt, NbdRep, TransmissionFlag } from './constants.ts';
import type { NbdExport } from './export.ts';
import { encodeOption } from './options.ts';
import { RawPeer, rawRequest } from './rows/raw-peer.ts';
import { NbdServer, type NbdServerOptions } from './server.ts';

const MIB = 1024 * 1024;

/** A device whose calls wait until the test lets them go, or fail as it says. */
class HeldDevice extends MemoryDevice {
  holding = false;
  failure: Error | null = null;
  readonly calls: { kind: string; flags: number; io: IoContext; go(): void }[] = [];

  #pass(kind: string, flags: number, io: IoContext, run: () => Promise<void>): Promise<void> {
    const call = { kind, flags, io, go: () => {} };
    this.calls.push(call);
    if (this.failure !== null) return Promise.reject(this.failure);
    if (!this.holding) return run();
    return new Promise((resolve, reject) => {
      call.go = () => run().then(resolve, reject);
    });
  }

  override read(offset: number, into: Buffer, io: IoContext): Promise<void> {
    return this.#pass('read', 0, io, () => super.read(offset, into, io));
  }

  override write(offset: number, from: Buffer, flags: number, io: IoContext): Promise<void> {
    return this.#pass('write', flags, io, () => super.write(offset, from, flags, io));
  }

  override flush(io: IoContext): Promise<void> {
    return this.#pass('flush', 0, io, () => super.flush(io));
  }

  release(): void {
    this.holding = false;
    for (const call of this.calls.splice(0)) call.go();
  }
}

const pool = new BufferPool({ checkOwnership: true });
const clock = new VirtualClock();
const dir = tempDir('nbd');
let counter = 0;
let device: HeldDevice;
let exp: NbdExport;
let server: NbdServer;
let address: Address;
let events: NbdEvent[];

async function start(
  options: Partial<NbdServerOptions> = {},
  overrides: Partial<NbdExport> = {},
): Promise<void> {
  exp = { name: 'vol', description: 'a volume', device, ...overrides };
  server = new NbdServer({
    network: nodeNetwork,
    clock,
    pool,
    exports: { list: () => [exp], find: (name) => (name === '' || name === 'vol' ? exp : null) },
    onEvent: (event) => events.push(event),
    ...options,
  });
  address = { kind: 'unix', path: dir.file(`${counter++}.sock`) };
  await server.listen(address);
}

function connect(): Promise<RawPeer> {
  return RawPeer.connect(address);
}

function kinds(kind: NbdEvent['kind']): NbdEvent[] {
  return events.filter((event) => event.kind === kind);
}

beforeEach(() => {
  device = new HeldDevice({ name: 'held', sizeBytes: 64 * MIB });
  events = [];
});

afterEach(async () => {
  device.failure = null;
  device.release();
  await server.close();
  await waitFor('all connections gone', () => server.connections().length === 0);
  expect(pool.takenBytes, 'every buffer was given back').toBe(0);
});

afterAll(() => dir.remove());

describe('listening', () => {
  test('row 1: one server listens on IPv4, IPv6 and a unix socket at once', async () => {
    await start();
    for (const host of ['127.0.0.1', '::1']) {
      const listener = await server.listen({ kind: 'tcp', host, port: 0 });
      const client = await NbdClient.connect({ network: nodeNetwork, address: listener.address });
      expect(client.info.sizeBytes).toBe(64 * MIB);
      await client.disconnect();
    }
    const exports = await listExports({ network: nodeNetwork, address });
    expect(exports).toEqual([{ name: 'vol', description: 'a volume' }]);
  });

  test('row 3: a socket file that nobody listens on is taken over, and belongs to its owner alone', async () => {
    await start();
    if (address.kind !== 'unix') throw new Error('not a unix socket');
    const { path } = address;
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await expect(server.listen(address)).rejects.toThrow(/EADDRINUSE/);
    // A process that was killed leaves its socket file behind: so does a listener whose file was moved away.
    renameSync(path, `${path}.old`);
    await server.close();
    renameSync(`${path}.old`, path);
    await start({}, {});
    await server.listen({ kind: 'unix', path });
    address = { kind: 'unix', path };
    const peer = await connect();
    await peer.go('vol');
    peer.leave();
  });

  test('row 7: a connection that is idle for a day is still alive', async () => {
    await start();
    const peer = await connect();
    await peer.go('vol');
    await clock.advance(24 * 3600 * 1000);
    await peer.expectAlive();
    peer.leave();
  });

  test('row 8: a handshake that takes longer than its deadline is dropped', async () => {
    await start({ limits: { handshakeMs: 10_000 } });
    const peer = await connect();
    await peer.greet();
    await clock.advance(9_999);
    expect(peer.isClosed).toBe(false);
    await clock.advance(1);
    await peer.gone;
    await waitFor('the event', () => kinds('closed').length === 1);
    expect(events.at(-1)).toMatchObject({ reason: expect.stringContaining('handshake') });
  });

  test('row 8: 200 idle sockets do not keep a good client out', async () => {
    await start({ limits: { handshakesMax: 50, connectionsMax: 60 } });
    const idle = await Promise.all(Array.from({ length: 200 }, connect));
    const peer = await connect();
    await peer.go('vol');
    await peer.expectAlive();
    expect(server.connections().length).toBeLessThanOrEqual(60);
    for (const one of [...idle, peer]) one.leave();
  });

  test('row 18: a client that sends options for ever is dropped', async () => {
    await start({ limits: { optionsMax: 20 } });
    const peer = await connect();
    await peer.greet();
    for (let i = 0; i < 20; i++) await peer.info(NbdOpt.Info, 'vol');
    peer.send(encodeOption(0x999, Buffer.alloc(0)));
    await peer.gone;
    expect(kinds('protocol-error').length).toBe(1);
  });

  test('row 20: a client that leaves between two messages is no error, in the middle of one it is', async () => {
    await start();
    const clean = await connect();
    await clean.greet();
    clean.send(encodeOption(NbdOpt.Abort, Buffer.alloc(0)));
    clean.leave();
    const also = await connect();
    await also.go('vol');
    also.leave();
    const broken = await connect();
    await broken.go('vol');
    broken.send(rawRequest({ command: NbdCmd.Write, payload: Buffer.alloc(4096) }).subarray(0, 99));
    await waitFor('the request', () => server.connections().some((c) => c.inflight === 1));
    broken.leave();
    await waitFor('three ends', () => kinds('closed').length === 3);
    expect(kinds('closed').map((event) => event.kind === 'closed' && event.clean)).toEqual([
      true,
      true,
      false,
    ]);
    expect(kinds('protocol-error')).toEqual([]);
  });

  test('row 94: the slot of a client that was killed is free again', async () => {
    await start({ limits: { connectionsMax: 1 } });
    for (let i = 0; i < 3; i++) {
      const peer = await connect();
      await peer.go('vol');
      const refused = await connect();
      await refused.gone;
      peer.leave();
      await waitFor('the slot', () => server.connections().length === 0);
    }
    expect(server.stats.refused).toBe(3);
  });
});

describe('choosing an export', () => {
  test('row 23: the empty name is the default export, and INFO_NAME tells the canonical one', async () => {
    await start();
    const peer = await connect();
    await peer.greet();
    const replies = await peer.info(NbdOpt.Go, '', [NbdInfo.Name]);
    expect(replies[1]!.data.toString('utf8', 2)).toBe('vol');
    peer.leave();
  });

  test('row 23: without a default export the empty name is ERR_UNKNOWN', async () => {
    await start({ exports: { list: () => [], find: () => null } });
    const peer = await connect();
    await peer.greet();
    expect((await peer.info(NbdOpt.Go, '')).at(-1)!.type).toBe(NbdRep.ErrUnknown);
    peer.leave();
  });

  test('row 24: who asks for an export that will be there soon is told so', async () => {
    const whyNot = (name: string): string => `"${name}" is starting`;
    await start({ exports: { list: () => [], find: () => null, whyNot } });
    const peer = await connect();
    await peer.greet();
    const answer = (await peer.info(NbdOpt.Go, 'vol')).at(-1)!;
    expect(answer.type).toBe(NbdRep.ErrUnknown);
    expect(answer.data.toString()).toBe('"vol" is starting');
    peer.leave();
  });

  test('row 26: listing can be forbidden with ERR_POLICY', async () => {
    await start({ exports: { list: () => null, find: () => exp } });
    const peer = await connect();
    await peer.greet();
    expect(await peer.verdict(NbdOpt.List)).toBe(NbdRep.ErrPolicy);
    peer.leave();
  });

  test('row 26: a thousand exports are listed, and each may be asked for', async () => {
    const names = Array.from({ length: 1000 }, (_, i) => ({ name: `v${i}`, description: '' }));
    await start({ exports: { list: () => names, find: () => exp } });
    const peer = await connect();
    await peer.greet();
    expect((await peer.option(NbdOpt.List)).length).toBe(1001);
    for (const { name } of names) {
      expect((await peer.info(NbdOpt.Info, name)).at(-1)!.type).toBe(NbdRep.Ack);
    }
    peer.leave();
  });

  test('row 36: options that arrive while draining get ERR_SHUTDOWN, ABORT is acknowledged', async () => {
    await start();
    const peer = await connect();
    await peer.greet();
    await peer.expectInStep();
    const drained = server.drain(5_000);
    expect(await peer.verdict(NbdOpt.List)).toBe(NbdRep.ErrShutdown);
    expect((await peer.info(NbdOpt.Go, 'vol')).at(-1)!.type).toBe(NbdRep.ErrShutdown);
    expect(await peer.verdict(NbdOpt.Abort)).toBe(NbdRep.Ack);
    await peer.gone;
    await drained;
  });

  test.each([
    NbdOpt.StructuredReply,
    NbdOpt.ListMetaContext,
    NbdOpt.SetMetaContext,
    NbdOpt.ExtendedHeaders,
  ])('option %i is answered with ERR_UNSUP', async (option) => {
    await start();
    const peer = await connect();
    await peer.greet();
    expect(await peer.verdict(option)).toBe(NbdRep.ErrUnsup);
    await peer.expectInStep();
    peer.leave();
  });
});

describe('what is advertised', () => {
  async function flagsOf(overrides: Partial<NbdExport>): Promise<number> {
    await start({}, overrides);
    const peer = await connect();
    const flags = await peer.go('vol');
    peer.leave();
    await server.close();
    return flags;
  }

  test('rows 60, 62, 65: flags follow the capabilities of the device', async () => {
    const { SendTrim, SendWriteZeroes, SendFastZero, Rotational, ReadOnly, CanMultiConn } =
      TransmissionFlag;
    const poor = new MemoryDevice({
      sizeBytes: MIB,
      caps: { trim: false, writeZeroes: false, fastZero: true, rotational: true, fua: false },
    });
    const flags = await flagsOf({ device: poor, multiConn: false });
    expect(flags & (SendTrim | SendWriteZeroes | SendFastZero | CanMultiConn)).toBe(0);
    expect(flags & Rotational).toBe(Rotational);
    // FUA works everywhere: it is made of a flush where the device has none.
    expect(flags & TransmissionFlag.SendFua).toBe(TransmissionFlag.SendFua);
    const rich = await flagsOf({});
    expect(rich & (SendTrim | SendWriteZeroes | SendFastZero | CanMultiConn)).toBe(
      SendTrim | SendWriteZeroes | SendFastZero | CanMultiConn,
    );
    expect(rich & (Rotational | ReadOnly)).toBe(0);
  });

  test('rows 64, 84: a read-only export says so and refuses every kind of write with EPERM', async () => {
    await start({}, { readOnly: true });
    const peer = await connect();
    expect((await peer.go('vol')) & TransmissionFlag.ReadOnly).toBe(TransmissionFlag.ReadOnly);
    for (const command of [NbdCmd.Trim, NbdCmd.WriteZeroes]) {
      expect(await peer.request({ command, length: 4096 })).toBe(NbdErr.EPERM);
    }
    const payload = Buffer.alloc(4096, 1);
    expect(await peer.request({ command: NbdCmd.Write, payload })).toBe(NbdErr.EPERM);
    expect(await peer.read(0, 4096)).toEqual(Buffer.alloc(4096));
    peer.leave();
  });

  test('row 66: the minimum is the block size of the device, the maximum 32 MiB', async () => {
    device = new HeldDevice({ sizeBytes: MIB, blockBytes: 4096 });
    await start();
    const client = await NbdClient.connect({ network: nodeNetwork, address, exportName: 'vol' });
    expect(client.info.blockSizes).toEqual({
      minimum: 4096,
      preferred: 4096,
      maximum: 32 * MIB,
    });
    await client.disconnect();
  });

  test('row 67: a client that negotiated sizes and does not keep them gets EINVAL', async () => {
    await start();
    const peer = await connect();
    await peer.go('vol', true);
    expect(await peer.request({ command: NbdCmd.Read, offset: 1, length: 512 })).toBe(22);
    const payload = Buffer.alloc(100);
    expect(await peer.request({ command: NbdCmd.Write, offset: 512, payload })).toBe(22);
    await peer.expectAlive();
    peer.leave();
  });

  test('row 68: a new connection sees the new size, an old one keeps its own', async () => {
    await start();
    const old = await connect();
    await old.go('vol');
    device = new HeldDevice({ sizeBytes: 128 * MIB });
    exp = { ...exp, device };
    const client = await NbdClient.connect({ network: nodeNetwork, address });
    expect(client.info.sizeBytes).toBe(128 * MIB);
    const past = { command: NbdCmd.Read, offset: 64 * MIB, length: 512 };
    expect(await old.request(past)).toBe(NbdErr.EINVAL);
    await client.disconnect();
    old.leave();
  });
});

describe('requests', () => {
  test('row 73: a FUA write reaches the device as such', async () => {
    await start();
    const client = await NbdClient.connect({ network: nodeNetwork, address });
    await client.write(0, Buffer.alloc(4096, 1), WriteFlag.Fua);
    await client.write(0, Buffer.alloc(4096, 1));
    expect(device.calls.map(({ kind, flags }) => [kind, flags])).toEqual([
      ['write', WriteFlag.Fua],
      ['write', 0],
    ]);
    await client.disconnect();
  });

  test('row 74: a FUA write on a device with a volatile cache and no FUA is flushed before it is answered', async () => {
    device = new HeldDevice({ sizeBytes: MIB, caps: { fua: false, volatileCache: true } });
    await start();
    const client = await NbdClient.connect({ network: nodeNetwork, address });
    await client.write(0, Buffer.alloc(4096, 1), WriteFlag.Fua);
    expect(device.calls.map(({ kind, flags }) => [kind, flags])).toEqual([
      ['write', 0],
      ['flush', 0],
    ]);
    await client.disconnect();
  });

  test('row 77: FAST_ZERO that the device refuses is ENOTSUP, other refusals of that kind are EINVAL', async () => {
    await start();
    const peer = await connect();
    await peer.go('vol');
    const unsupported = blockErrors.make('BLOCK_UNSUPPORTED');
    device.writeZeroes = () => Promise.reject(unsupported);
    device.trim = () => Promise.reject(unsupported);
    const zero = { command: NbdCmd.WriteZeroes, length: 4096 };
    expect(await peer.request({ ...zero, flags: CmdFlag.FastZero })).toBe(NbdErr.ENOTSUP);
    expect(await peer.request({ command: NbdCmd.Trim, length: 4096 })).toBe(NbdErr.EINVAL);
    peer.leave();
  });

  test('row 89: FAST_ZERO that was not advertised is EINVAL', async () => {
    device = new HeldDevice({ sizeBytes: MIB, caps: { fastZero: false } });
    await start();
    const peer = await connect();
    await peer.go('vol');
    const zero = { command: NbdCmd.WriteZeroes, flags: CmdFlag.FastZero, length: 4096 };
    expect(await peer.request(zero)).toBe(NbdErr.EINVAL);
    expect(await peer.request({ ...zero, flags: 0 })).toBe(0);
    peer.leave();
  });

  test.each([
    ['EPERM', blockErrors.make('BLOCK_READ_ONLY')],
    ['ENOSPC', blockErrors.make('BLOCK_NO_SPACE')],
    ['EIO', blockErrors.make('BLOCK_MEDIUM')],
    ['ESHUTDOWN', blockErrors.make('BLOCK_CLOSED')],
    ['EIO', new Error('something else')],
  ] as const)(
    'row 85: a device error is told as %s, and as an event with its text',
    async (errno, failure) => {
      await start();
      const client = await NbdClient.connect({ network: nodeNetwork, address });
      device.failure = failure;
      const failed = await client.write(0, Buffer.alloc(512)).catch((error) => nbdErrno(error));
      expect(failed).toBe(errno);
      expect(kinds('request-error')).toMatchObject([
        { export: 'vol', failure: { command: 'Write', errno, source: 'device', error: failure } },
      ]);
      await client.disconnect();
    },
  );

  test('row 69: a failed read sends no payload, so nothing of an old buffer leaks', async () => {
    await start();
    const peer = await connect();
    await peer.go('vol');
    await peer.request({ command: NbdCmd.Write, payload: Buffer.alloc(4096, 0x53) });
    device.failure = blockErrors.make('BLOCK_MEDIUM');
    expect(await peer.request({ command: NbdCmd.Read, offset: MIB, length: 4096 })).toBe(5);
    device.failure = null;
    await peer.expectAlive();
    peer.leave();
  });

  test('row 87: a write of more than twice the maximum drops the connection', async () => {
    await start();
    const peer = await connect();
    await peer.go('vol');
    peer.send(rawRequest({ command: NbdCmd.Write, length: 65 * MIB }));
    await peer.gone;
    expect(kinds('protocol-error').length).toBe(1);
  });

  test('row 91: replies come in the order in which the device finishes', async () => {
    await start();
    const peer = await connect();
    await peer.go('vol');
    device.holding = true;
    for (const cookie of [1n, 2n, 3n]) {
      peer.send(rawRequest({ command: NbdCmd.Write, cookie, payload: Buffer.alloc(512) }));
    }
    await waitFor('three calls', () => device.calls.length === 3);
    for (const i of [2, 0, 1]) {
      device.calls[i]!.go();
      expect((await peer.reply()).cookie).toBe(BigInt(i + 1));
    }
    device.calls.length = 0;
    peer.leave();
  });

  test('a trace travels with the request that it was made for', async () => {
    const trace = { traceId: '1'.repeat(32), spanId: '2'.repeat(16) };
    const seen: [number, number, number][] = [];
    await start({
      onRequest: (command, offset, length) => {
        seen.push([command, offset, length]);
        return offset === 0 ? trace : undefined;
      },
    });
    const client = await NbdClient.connect({ network: nodeNetwork, address });
    await client.read(0, 512);
    await client.read(512, 1024);
    expect(seen).toEqual([
      [NbdCmd.Read, 0, 512],
      [NbdCmd.Read, 512, 1024],
    ]);
    expect(device.calls.map(({ io }) => io.trace)).toEqual([trace, undefined]);
    expect(device.calls[0]!.io.client).toMatch(/^nbd:/);
    await client.disconnect();
  });
});

describe('bounds', () => {
  test('row 92: requests beyond the bound wait in the socket, and all are answered', async () => {
    await start({ limits: { inflightRequestsMax: 8 } });
    const peer = await connect();
    await peer.go('vol');
    device.holding = true;
    let most = 0;
    const all: Buffer[] = [];
    for (let i = 0; i < 4096; i++) {
      all.push(
        rawRequest({ command: NbdCmd.Read, cookie: BigInt(i), offset: i * 1024, length: 512 }),
      );
    }
    peer.send(Buffer.concat(all));
    await waitFor('the bound', () => device.calls.length === 8);
    expect(server.connections()[0]).toMatchObject({ inflight: 8, paused: true });
    const read = device.read.bind(device);
    device.read = (offset, into, io) => {
      most = Math.max(most, server.connections()[0]!.inflight);
      return read(offset, into, io);
    };
    device.release();
    const cookies = new Set<bigint>();
    for (let i = 0; i < 4096; i++) {
      cookies.add((await peer.reply()).cookie);
      await peer.take(512);
    }
    expect(cookies.size).toBe(4096);
    expect(most).toBeLessThanOrEqual(8);
    await peer.expectAlive();
    peer.leave();
  });

  test('row 92: the bytes in flight are bounded, and one request may still be larger than the bound', async () => {
    await start({ limits: { inflightBytesMax: 64 * 1024 } });
    const client = await NbdClient.connect({ network: nodeNetwork, address });
    device.holding = true;
    const reads = Array.from({ length: 64 }, (_, i) => client.read(i * 32_768, 16_384));
    await waitFor('the bound', () => device.calls.length === 4);
    expect(server.connections()[0]!.inflightBytes).toBe(64 * 1024);
    device.release();
    await Promise.all(reads);
    expect((await client.read(0, MIB)).length).toBe(MIB);
    await client.disconnect();
  });

  test('row 92: a client that never reads its replies does not make memory grow', async () => {
    const unsentBytesMax = 4 * MIB;
    await start({ limits: { unsentBytesMax } });
    const peer = await connect();
    await peer.go('vol');
    peer.stream.pause();
    const reads: Buffer[] = [];
    for (let i = 0; i < 2000; i++) {
      reads.push(rawRequest({ command: NbdCmd.Read, offset: 0, length: 64 * 1024 }));
    }
    peer.send(Buffer.concat(reads));
    await waitFor('the server pauses', () => server.connections()[0]!.paused);
    // What is in flight has ended; the rest waits for the client.
    await waitFor('all settled', () => server.connections()[0]!.inflight === 0);
    expect(server.connections()[0]!.unsentBytes).toBeLessThanOrEqual(unsentBytesMax + 4096);
    expect(pool.takenBytes).toBeLessThanOrEqual(unsentBytesMax + 128 * 1024);
    const served = device.calls.length;
    await clock.advance(60_000);
    expect(device.calls.length).toBe(served);
    // It wakes up and gets everything.
    peer.stream.resume();
    for (let i = 0; i < 2000; i++) {
      await peer.reply();
      await peer.take(64 * 1024);
    }
    peer.leave();
  });

  test('many clients that never read hold little each once they hold much together; a good one goes on', async () => {
    const [poolBytesMax, crowdedBytesMax] = [MIB, 128 * 1024];
    await start({ limits: { poolBytesMax, crowdedBytesMax } });
    const reads = Array.from({ length: 100 }, () =>
      rawRequest({ command: NbdCmd.Read, offset: 0, length: 64 * 1024 }),
    );
    const deaf: RawPeer[] = [];
    for (let i = 0; i < 8; i++) {
      const peer = await connect();
      deaf.push(peer);
      await peer.go('vol');
      peer.stream.pause();
      peer.send(...reads);
      await waitFor('the server pauses', () => server.connections()[i]!.paused);
    }
    expect(pool.takenBytes).toBeLessThanOrEqual(poolBytesMax + 9 * (crowdedBytesMax + 64 * 1024));
    const good = await connect();
    await good.go('vol');
    for (let i = 0; i < 20; i++) await good.expectAlive();
    good.leave();
    // Each of them still gets everything when it begins to read.
    for (const peer of deaf) {
      peer.stream.resume();
      for (let i = 0; i < reads.length; i++) {
        await peer.reply();
        await peer.take(64 * 1024);
      }
      peer.leave();
    }
  });

  test('a client that dies while its requests are in flight is listed until they have settled', async () => {
    await start();
    const peer = await connect();
    await peer.go('vol');
    device.holding = true;
    peer.send(rawRequest({ command: NbdCmd.Write, payload: Buffer.alloc(8192, 1) }));
    await waitFor('the call', () => device.calls.length === 1);
    peer.leave();
    await waitFor('the end', () => kinds('closed').length === 1);
    expect(kinds('closed')[0]).toMatchObject({ clean: false, inflight: 1 });
    expect(server.connections()).toMatchObject([{ phase: 'settling', inflight: 1 }]);
    device.release();
    await waitFor('gone', () => server.connections().length === 0);
  });
});

describe('shutdown', () => {
  test('row 93: a drain answers what is in flight, refuses what still comes, then closes', async () => {
    await start();
    const peer = await connect();
    await peer.go('vol');
    device.holding = true;
    const payload = Buffer.alloc(4096, 9);
    peer.send(rawRequest({ command: NbdCmd.Write, cookie: 1n, payload }));
    await waitFor('the call', () => device.calls.length === 1);
    const drained = server.drain(5_000);
    peer.send(rawRequest({ command: NbdCmd.Write, cookie: 2n, payload }));
    expect(await peer.reply()).toEqual({ error: NbdErr.ESHUTDOWN, cookie: 2n });
    device.release();
    expect(await peer.reply()).toEqual({ error: 0, cookie: 1n });
    await peer.gone;
    await drained;
  });

  test('row 93: a drain does not wait for ever', async () => {
    await start();
    const peer = await connect();
    await peer.go('vol');
    device.holding = true;
    peer.send(rawRequest({ command: NbdCmd.Read, length: 512 }));
    await waitFor('the call', () => device.calls.length === 1);
    const drained = server.drain(1_000);
    await clock.advance(1_000);
    await drained;
    await peer.gone;
    expect(peer.unread).toBe(0);
  });

  test('a drain with an idle client in its handshake takes half a second', async () => {
    await start();
    const peer = await connect();
    await peer.greet();
    await peer.expectInStep();
    const drained = server.drain(60_000);
    await clock.advance(500);
    await peer.gone;
    await drained;
  });

  test('a closed server accepts nobody', async () => {
    await start();
    await server.close();
    await expect(connect()).rejects.toThrow();
  });
});

test('rows 86, 90: random requests are answered or end the connection, and never the server', async () => {
  await start({ limits: { requestBytesMax: MIB, inflightRequestsMax: 16 } });
  const rng = seededRng(5);
  for (let round = 0; round < 40; round++) {
    const peer = await connect();
    await peer.go('vol', round % 2 === 0);
    for (let i = 0; i < 50; i++) {
      const broken = rng.float() < 0.02;
      const length = rng.float() < 0.1 ? rng.u32() : intBetween(rng, 0, 8192);
      const command = intBetween(rng, 0, 9);
      const request = rawRequest({
        command,
        flags: rng.float() < 0.3 ? intBetween(rng, 0, 0xffff) : 0,
        offset: rng.float() < 0.1 ? BigInt(rng.u32()) << 31n : intBetween(rng, 0, 64 * MIB),
        length,
        ...(broken ? { magic: rng.u32() } : {}),
        ...(command === NbdCmd.Write && length < MIB ? { payload: Buffer.alloc(length) } : {}),
      });
      peer.send(request.subarray(0, broken ? intBetween(rng, 1, request.length) : request.length));
    }
    await clock.settle();
    peer.leave();
  }
  const client = await NbdClient.connect({ network: nodeNetwork, address });
  expect((await client.read(0, 512)).length).toBe(512);
  await client.disconnect();
});

test('a broken device that throws is an error of its request only', async () => {
  await start();
  const client = await NbdClient.connect({ network: nodeNetwork, address });
  const broken: Pick<BlockDevice, 'read'> = device;
  const { read } = device;
  broken.read = () => {
    throw new Error('a bug');
  };
  expect(await client.read(0, 512).catch((error) => nbdErrno(error))).toBe('EIO');
  broken.read = read;
  expect((await client.read(0, 512)).length).toBe(512);
  await client.disconnect();
});
