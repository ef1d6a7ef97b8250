import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { blockErrors } from '#block/errors.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { waitFor } from '#testkit/wait.ts';
import { type Fixture, type FixtureOptions, startFixture } from './fixture.ts';
import { DEFAULT_LIMITS, IO_BYTES, READ_WINDOW, UNSENT_WINDOW, WRITE_WINDOW } from './limits.ts';

/** A client that speaks HTTP by hand, to do what no good client does. */
class RawClient {
  readonly socket: Socket;
  readonly #pieces: Buffer[] = [];
  bytes = 0;
  closed = false;

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1' });
    this.socket.on('error', () => undefined); // a reset is one of the ways to close
    this.socket.on('data', (piece: Buffer) => {
      this.#pieces.push(piece);
      this.bytes += piece.length;
    });
    this.socket.once('close', () => {
      this.closed = true;
    });
  }

  /** Reads this much more, and not much beyond it, then reads no further. */
  async read(bytes: number): Promise<void> {
    const wanted = this.bytes + bytes;
    const enough = (): void => {
      if (this.bytes >= wanted) this.socket.pause();
    };
    this.socket.on('data', enough);
    this.socket.resume();
    await until('some progress', () => this.bytes >= wanted);
    this.socket.off('data', enough);
  }

  send(...lines: string[]): void {
    this.socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  }

  get text(): string {
    return Buffer.concat(this.#pieces).toString('latin1');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.destroy();
    if (!this.closed) await once(this.socket, 'close');
  }
}

async function until(what: string, probe: () => boolean): Promise<void> {
  await waitFor(what, probe);
}

/** A fixture that is checked to have given everything back at its end. */
async function start(options: FixtureOptions = {}): Promise<Fixture> {
  const fixture = await startFixture(options);
  return Object.assign(fixture, {
    [Symbol.asyncDispose]: async () => {
      await fixture.app.close();
      expect(fixture.pool.takenBytes).toBe(0);
      expect(fixture.device.inflight).toBe(0);
    },
  });
}

const PUT = (range: string, length: number, ...more: string[]) => [
  'PUT /v1/volumes/vol1/data HTTP/1.1',
  'Host: x',
  `Content-Range: ${range}`,
  `Content-Length: ${length}`,
  ...more,
];

const MIB = 1024 * 1024;

const PERIOD_MS = DEFAULT_LIMITS.stallMs;

/** After a pause of this process there may be looks in a row before the server gets its turn. */
const QUIET_LOOKS = 5;

/** Waits until the server has handed out all that it will while the client does not read. */
async function untilFull(fixture: Fixture): Promise<void> {
  let calls = -1;
  let quietLooks = 0;
  await until('a full window', () => {
    quietLooks = fixture.device.calls.length === calls ? quietLooks + 1 : 0;
    calls = fixture.device.calls.length;
    return quietLooks >= QUIET_LOOKS && fixture.pool.takenBytes > 0;
  });
}

test('a client that never reads costs a bounded number of buffers, and is cut off in the end', async () => {
  const clock = new VirtualClock();
  await using fixture = await start({ sizeBytes: 64 * MIB, clock });
  await using client = new RawClient(fixture.port);
  client.socket.pause();
  client.send('GET /v1/volumes/vol1/data HTTP/1.1', 'Host: x');
  await untilFull(fixture);
  expect(fixture.pool.takenBytes).toBeLessThanOrEqual((READ_WINDOW + UNSENT_WINDOW) * IO_BYTES);
  expect(fixture.device.calls.length).toBeLessThan((64 * MIB) / IO_BYTES);
  // In the first period the kernel took what it can hold; in the second nothing moves.
  await clock.advance(2 * PERIOD_MS);
  await until('the buffers are back', () => fixture.pool.takenBytes === 0);
});

test('a client that reads slowly but steadily gets everything', async () => {
  const clock = new VirtualClock();
  await using fixture = await start({ sizeBytes: 64 * MIB, clock });
  await using client = new RawClient(fixture.port);
  client.send('GET /v1/volumes/vol1/data HTTP/1.1', 'Host: x');
  for (let i = 0; i < 5; i++) {
    await client.read(4 * MIB);
    await clock.advance(PERIOD_MS);
    expect(client.closed).toBe(false);
  }
  client.socket.resume();
  await until('all of it', () => client.bytes > 64 * MIB);
});

test('a client that hangs up starts no more reads, and those under way are waited for', async () => {
  await using fixture = await start({ sizeBytes: 64 * MIB });
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  fixture.device.before = async (_op, offset) => {
    if (offset >= IO_BYTES) await gate;
  };
  const noticed = new Promise((resolve) => {
    fixture.app.server.once('connection', (socket) => socket.once('close', resolve));
  });
  const client = new RawClient(fixture.port);
  client.send('GET /v1/volumes/vol1/data HTTP/1.1', 'Host: x');
  await until('the head', () => client.text.includes('\r\n\r\n'));
  await client[Symbol.asyncDispose]();
  await noticed;
  const calls = fixture.device.calls.length;
  expect(calls).toBeLessThanOrEqual(READ_WINDOW + 2);
  release();
  await until('the buffers are back', () => fixture.pool.takenBytes === 0);
  expect(fixture.device.calls.length).toBe(calls);
});

test('a client that hangs up in the middle of an upload leaves no write behind', async () => {
  await using fixture = await start({ sizeBytes: 8 * MIB });
  const client = new RawClient(fixture.port);
  client.send(...PUT(`bytes 0-${4 * MIB - 1}/*`, 4 * MIB));
  client.socket.write(Buffer.alloc(MIB, 1));
  await until('some writes', () => fixture.device.calls.length >= 3);
  await client[Symbol.asyncDispose]();
  await until('the buffers are back', () => fixture.pool.takenBytes === 0);
  expect(fixture.device.calls).not.toContain('flush');
});

test('a slow device stops the upload: a bounded number of writes, and the socket is not read', async () => {
  await using fixture = await start({ sizeBytes: 32 * MIB });
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  fixture.device.before = (op) => (op === 'write' ? gate : undefined);
  await using client = new RawClient(fixture.port);
  client.send(...PUT(`bytes 0-${32 * MIB - 1}/*`, 32 * MIB));
  client.socket.write(Buffer.alloc(32 * MIB, 9));
  await until('a full window', () => fixture.device.inflight === WRITE_WINDOW);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(fixture.device.inflightMax).toBe(WRITE_WINDOW);
  expect(fixture.pool.takenBytes).toBeLessThanOrEqual((WRITE_WINDOW + 1) * IO_BYTES);
  expect(client.socket.writableLength).toBeGreaterThan(0);
  release();
  await until('the answer', () => client.text.includes('204 No Content'));
  expect(fixture.device.data.equals(Buffer.alloc(32 * MIB, 9))).toBe(true);
});

test('an upload that trickles is cut off', async () => {
  const clock = new VirtualClock();
  await using fixture = await start({ clock });
  await using client = new RawClient(fixture.port);
  client.send(...PUT('bytes 0-65535/*', 65536));
  client.socket.write('x'.repeat(100));
  await until('the first bytes', () => fixture.pool.takenBytes > 0);
  for (let i = 0; i < 2 && !client.closed; i++) {
    client.socket.write('x');
    await clock.advance(PERIOD_MS);
  }
  await until('cut off', () => client.closed);
  expect(fixture.device.calls).toEqual([]);
});

test('a slow device is not held against the client', async () => {
  const clock = new VirtualClock();
  await using fixture = await start({ clock });
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  fixture.device.before = () => gate;
  const written = fetch(fixture.dataUrl, {
    method: 'PUT',
    body: new Uint8Array(65536),
    headers: { 'content-range': 'bytes 0-65535/*' },
  });
  await until('a write', () => fixture.device.inflight === 1);
  await clock.advance(10 * PERIOD_MS);
  release();
  expect((await written).status).toBe(204);
});

test('a JSON body that trickles is answered 408', async () => {
  await using fixture = await start({ limits: { bodyMs: 100 } });
  await using client = new RawClient(fixture.port);
  client.send(
    'PATCH /v1/volumes/vol1/data HTTP/1.1',
    'Host: x',
    'Content-Type: application/vnd.orion.block-ops+json',
    'Content-Length: 100',
  );
  await until('the answer', () => client.text.includes('408'));
  expect(client.text).toContain('urn:orion-iscsi:problem:request-timeout');
});

test('headers that do not come to an end are answered 408', async () => {
  await using fixture = await start({ limits: { headersMs: 100 } });
  await using client = new RawClient(fixture.port);
  client.socket.write('GET / HTTP/1.1\r\nX-A: ');
  await until('closed', () => client.closed);
  expect(client.text).toContain('408 Request Timeout');
}, 15_000);

test('"100 Continue" comes only after the request has passed its checks', async () => {
  await using fixture = await start();
  await using good = new RawClient(fixture.port);
  good.send(...PUT('bytes 0-511/*', 512, 'Expect: 100-continue'));
  await until('continue', () => good.text.includes('100 Continue'));
  good.socket.write(Buffer.alloc(512, 3));
  await until('the answer', () => good.text.includes('204 No Content'));
  expect(fixture.device.data[511]).toBe(3);

  await using bad = new RawClient(fixture.port);
  bad.send(...PUT('bytes 1-512/*', 512, 'Expect: 100-continue'));
  await until('the answer', () => bad.closed);
  expect(bad.text).not.toContain('100 Continue');
  expect(bad.text).toContain('problem:alignment');

  await using json = new RawClient(fixture.port);
  json.send(
    'PATCH /v1/volumes/vol1/data HTTP/1.1',
    'Host: x',
    'Content-Type: application/vnd.orion.block-ops+json',
    'Content-Length: 24',
    'Expect: 100-continue',
  );
  await until('continue', () => json.text.includes('100 Continue'));
  json.socket.write('{"ops":[{"op":"flush"}]}');
  await until('the answer', () => json.text.includes('200 OK'));
});

test('a client that is still sending gets the answer of an upload that failed', async () => {
  await using fixture = await start({ sizeBytes: 64 * MIB });
  fixture.device.before = (op) => {
    if (op === 'write') throw blockErrors.make('BLOCK_NO_SPACE');
  };
  await using client = new RawClient(fixture.port);
  client.send(...PUT(`bytes 0-${64 * MIB - 1}/*`, 64 * MIB));
  client.socket.write(Buffer.alloc(64 * MIB));
  await until('the answer', () => client.text.includes('507 '));
  expect(client.text.toLowerCase()).toContain('connection: close');
  expect(client.text).toContain('contiguousBytesWritten');
});

test('pipelined requests are answered in order on one connection', async () => {
  await using fixture = await start();
  await using client = new RawClient(fixture.port);
  const get = (range: string) => [
    'GET /v1/volumes/vol1/data HTTP/1.1',
    'Host: x',
    `Range: bytes=${range}`,
    '',
    '',
  ];
  client.socket.write(
    [...get('0-9'), ...get('1000-1009')].join('\r\n').replaceAll('\r\n\r\n\r\n', '\r\n\r\n'),
  );
  await until('both', () => (client.text.match(/206 Partial/g) ?? []).length === 2);
  expect(client.text.indexOf('bytes 0-9/')).toBeLessThan(client.text.indexOf('bytes 1000-1009/'));
});

test('what is not HTTP is told so, and too large headers too', async () => {
  await using fixture = await start();
  await using garbage = new RawClient(fixture.port);
  garbage.socket.write('\x00\x01\x02 NBDMAGIC\r\n\r\n');
  await until('closed', () => garbage.closed);
  expect(garbage.text).toContain('400 Bad Request');
  await using huge = new RawClient(fixture.port);
  huge.send('GET / HTTP/1.1', 'Host: x', `X-A: ${'a'.repeat(20_000)}`);
  await until('closed', () => huge.closed);
  expect(huge.text).toContain('431 ');
});

test('more data requests than allowed are told to come back', async () => {
  await using fixture = await start({ limits: { dataRequestsMax: 2 } });
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  fixture.device.before = () => gate;
  const range = { headers: { range: 'bytes=0-1' } };
  const held = [fetch(fixture.dataUrl, range), fetch(fixture.dataUrl, range)];
  await until('both under way', () => fixture.device.inflight === 2);
  const refused = await fetch(fixture.dataUrl, range);
  expect(refused.status).toBe(503);
  expect(refused.headers.get('retry-after')).toBe('1');
  await refused.arrayBuffer();
  release();
  for (const response of await Promise.all(held)) {
    expect(response.status).toBe(206);
    await response.arrayBuffer();
  }
});

test('closing lets a request finish, and cuts it off after the grace', async () => {
  const fixture = await startFixture({ limits: { closeGraceMs: 50 } });
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  fixture.device.before = () => gate;
  const failed = fetch(fixture.dataUrl).then(
    () => false,
    () => true,
  );
  await until('under way', () => fixture.device.inflight > 0);
  await fixture.app.close();
  expect(await failed).toBe(true);
  release();
  await until('the buffers are back', () => fixture.pool.takenBytes === 0);
});

test('a deadline asked for by the client reaches the device', async () => {
  await using fixture = await start();
  const bad = await fetch(fixture.dataUrl, { headers: { 'request-timeout': 'soon' } });
  expect(bad.status).toBe(400);
  await bad.arrayBuffer();
  const good = await fetch(fixture.dataUrl, {
    headers: { 'request-timeout': '2.5', range: 'bytes=0-1' },
  });
  expect(good.status).toBe(206);
  await good.arrayBuffer();
});
