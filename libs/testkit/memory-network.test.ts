import { describe, expect, test } from 'vitest';
import { seededRng } from '../core/rng.ts';
import type { Address, ByteStream, Listener, StreamSink } from '../wire/network.ts';
import { MemoryNetwork } from './memory-network.ts';
import type { LinkKnobs } from './memory-stream.ts';
import { VirtualClock } from './virtual-clock.ts';

const ADDRESS: Address = { kind: 'tcp', host: 'target', port: 3260 };

class Sink implements StreamSink {
  readonly chunks: Buffer[] = [];
  readonly arrivals: number[] = [];
  over: Error | null | undefined;
  into = Buffer.alloc(16);
  clock: VirtualClock;

  constructor(clock: VirtualClock) {
    this.clock = clock;
  }

  buffer(): Buffer {
    return this.into;
  }

  data(chunk: Buffer, length: number): void {
    this.chunks.push(Buffer.from(chunk.subarray(0, length)));
    this.arrivals.push(this.clock.nowMs());
  }

  closed(error: Error | null): void {
    expect(this.over).toBeUndefined();
    this.over = error;
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }
}

interface Pair {
  clock: VirtualClock;
  network: MemoryNetwork;
  near: ByteStream;
  nearSink: Sink;
  far: ByteStream;
  farSink: Sink;
  listener: Listener;
}

async function open(knobs: Partial<LinkKnobs> = {}, seed = 1): Promise<Pair> {
  const clock = new VirtualClock();
  const network = new MemoryNetwork(clock, seededRng(seed), knobs);
  const farSink = new Sink(clock);
  const nearSink = new Sink(clock);
  let far: ByteStream | undefined;
  const listener = await network.host('target').listen(ADDRESS, (stream) => {
    far = stream;
    return farSink;
  });
  const connecting = network.host('worker').connect(ADDRESS, nearSink, { timeoutMs: 1000 });
  await clock.advance(500);
  const near = await connecting;
  return { clock, network, near, nearSink, far: far!, farSink, listener };
}

const send = (stream: ByteStream, ...texts: string[]): { done: boolean } => {
  const state = { done: false };
  stream.writev(
    texts.map((text) => Buffer.from(text)),
    () => {
      state.done = true;
    },
  );
  return state;
};

async function tryConnect(
  pair: { clock: VirtualClock; network: MemoryNetwork },
  address: Address,
  host = 'worker',
): Promise<string> {
  const result = pair.network
    .host(host)
    .connect(address, new Sink(pair.clock), { timeoutMs: 1000 })
    .then(
      () => 'connected',
      (error: NodeJS.ErrnoException) => error.code ?? String(error),
    );
  await pair.clock.advance(1000);
  return result;
}

describe('a stream in memory', () => {
  test('delivers what was sent, in order, in both directions, and then calls done', async () => {
    const { clock, near, far, nearSink, farSink } = await open();
    const first = send(near, 'one ', 'two ');
    send(near, 'three');
    send(far, 'a longer answer than one buffer of the sink');
    expect(first.done).toBe(false);
    await clock.advance(0);
    expect(first.done).toBe(true);
    expect(farSink.text).toBe('one two three');
    expect(nearSink.text).toBe('a longer answer than one buffer of the sink');
    expect(nearSink.chunks[0]!.length).toBe(16);
  });

  test('copies what it is given, so that the sender may change it', async () => {
    const { clock, near, farSink } = await open();
    const bytes = Buffer.from('before');
    near.writev([bytes], () => {});
    bytes.write('after!');
    await clock.advance(0);
    expect(farSink.text).toBe('before');
  });

  test('counts what has not arrived as unsent', async () => {
    const { clock, near } = await open({ latencyMinMs: 10, latencyMaxMs: 10 });
    send(near, '12345');
    expect(near.unsentBytes).toBe(5);
    await clock.advance(10);
    expect(near.unsentBytes).toBe(0);
  });

  test('takes its latency, and later bytes never overtake earlier ones', async () => {
    const { clock, near, farSink } = await open({ latencyMinMs: 1, latencyMaxMs: 50 });
    const sentAt = clock.nowMs();
    for (let i = 0; i < 20; i++) send(near, String.fromCharCode(97 + i));
    await clock.advance(50);
    expect(farSink.text).toBe('abcdefghijklmnopqrst');
    expect(farSink.arrivals[0]! - sentAt).toBeGreaterThanOrEqual(1);
    expect(farSink.arrivals).toEqual([...farSink.arrivals].sort((a, b) => a - b));
  });

  test('sends no faster than its bandwidth', async () => {
    const { clock, near, farSink } = await open({ bytesPerMs: 10 });
    send(near, 'x'.repeat(1000));
    await clock.advance(99);
    expect(farSink.text).toBe('');
    await clock.advance(1);
    expect(farSink.text.length).toBe(1000);
  });

  test('cuts into random fragments that add up', async () => {
    const { clock, near, farSink } = await open({ fragmentBytesMax: 7 });
    const text = 'the quick brown fox jumps over the lazy dog'.repeat(10);
    send(near, text);
    await clock.advance(0);
    expect(farSink.text).toBe(text);
    expect(farSink.chunks.length).toBeGreaterThan(text.length / 7 - 1);
    expect(Math.max(...farSink.chunks.map((chunk) => chunk.length))).toBeLessThanOrEqual(7);
  });

  test('does the same twice from the same seed', async () => {
    const run = async (): Promise<unknown> => {
      const pair = await open({ fragmentBytesMax: 9, latencyMaxMs: 20 }, 42);
      send(pair.near, 'x'.repeat(200));
      await pair.clock.advance(100);
      return [pair.farSink.arrivals, pair.farSink.chunks.map((chunk) => chunk.length)];
    };
    expect(await run()).toEqual(await run());
  });

  test('holds what arrives while it is paused', async () => {
    const { clock, near, far, farSink } = await open();
    far.pause();
    send(near, 'held');
    await clock.advance(100);
    expect(farSink.text).toBe('');
    far.resume();
    await clock.advance(0);
    expect(farSink.text).toBe('held');
  });
});

describe('the end of a stream', () => {
  test('an orderly end comes after the data and closes both sides without error', async () => {
    const { clock, network, near, nearSink, farSink } = await open();
    send(near, 'last words');
    near.end();
    await clock.advance(0);
    expect(farSink.text).toBe('last words');
    expect(farSink.over).toBeNull();
    expect(nearSink.over).toBeNull();
    expect(network.streams()).toEqual([]);
  });

  test('a destroyed stream resets its peer and drops what was on its way', async () => {
    const { clock, near, nearSink, farSink } = await open();
    const state = send(near, 'lost');
    near.destroy(new Error('why'));
    await clock.advance(0);
    expect(state.done).toBe(true);
    expect(farSink.text).toBe('');
    expect(farSink.over).toMatchObject({ code: 'ECONNRESET' });
    expect(nearSink.over).toMatchObject({ message: 'why' });
  });

  test('with onDestroy part, a prefix of what was on its way may still arrive', async () => {
    const lengths = new Set<number>();
    for (let seed = 1; seed <= 20; seed++) {
      const { clock, near, farSink } = await open({ onDestroy: 'part' }, seed);
      send(near, '0123456789');
      near.destroy();
      await clock.advance(0);
      expect('0123456789'.startsWith(farSink.text)).toBe(true);
      expect(farSink.over).toMatchObject({ code: 'ECONNRESET' });
      lengths.add(farSink.text.length);
    }
    expect(lengths.size).toBeGreaterThan(4);
  });

  test('a cut closes both ends with ECONNRESET and calls done for what was dropped', async () => {
    const { clock, network, near, nearSink, farSink } = await open();
    const state = send(near, 'dropped');
    expect(network.cut(({ connector }) => connector === 'nobody')).toBe(0);
    expect(network.cutLink('target', 'worker')).toBe(1);
    await clock.advance(0);
    expect(state.done).toBe(true);
    expect(farSink.text).toBe('');
    expect(nearSink.over).toMatchObject({ code: 'ECONNRESET' });
    expect(farSink.over).toMatchObject({ code: 'ECONNRESET' });
    send(near, 'too late');
    await clock.advance(0);
    expect(farSink.text).toBe('');
  });

  test('closing a listener closes the streams that it accepted', async () => {
    const { clock, listener, nearSink } = await open();
    const closing = listener.close();
    await clock.advance(0);
    await closing;
    expect(nearSink.over).toMatchObject({ code: 'ECONNRESET' });
  });
});

describe('connecting', () => {
  test('is refused where nobody listens, and where it is told to be', async () => {
    const pair = await open();
    expect(await tryConnect(pair, { ...ADDRESS, port: 1 })).toBe('ECONNREFUSED');
    expect(await tryConnect(pair, { kind: 'unix', path: '/none' })).toBe('ENOENT');
    pair.network.refuse(ADDRESS);
    expect(await tryConnect(pair, ADDRESS)).toBe('ECONNREFUSED');
    pair.network.refuse(ADDRESS, false);
    expect(await tryConnect(pair, ADDRESS)).toBe('connected');
  });

  test('loopback and socket files are private to a host, port 0 is given a number', async () => {
    const pair = await open();
    const a = pair.network.host('a');
    const loopback: Address = { kind: 'tcp', host: '127.0.0.1', port: 0 };
    const { address } = await a.listen(loopback, () => new Sink(pair.clock));
    expect(address).toMatchObject({ kind: 'tcp', host: '127.0.0.1' });
    expect(await tryConnect(pair, address, 'a')).toBe('connected');
    expect(await tryConnect(pair, address, 'b')).toBe('ECONNREFUSED');
    await a.listen({ kind: 'unix', path: '/s' }, () => new Sink(pair.clock));
    expect(await tryConnect(pair, { kind: 'unix', path: '/s' }, 'a')).toBe('connected');
    expect(await tryConnect(pair, { kind: 'unix', path: '/s' }, 'b')).toBe('ENOENT');
    await a.listen({ kind: 'tcp', host: '0.0.0.0', port: 7 }, () => new Sink(pair.clock));
    expect(await tryConnect(pair, { kind: 'tcp', host: 'a', port: 7 }, 'b')).toBe('connected');
  });

  test('an address in use is refused to a second listener', async () => {
    const { network, clock } = await open();
    const second = network.host('other').listen(ADDRESS, () => new Sink(clock));
    await expect(second).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });

  test('can be given up', async () => {
    const { network, clock } = await open();
    const abort = new AbortController();
    const options = { timeoutMs: 1000, signal: abort.signal };
    const connecting = network.host('worker').connect(ADDRESS, new Sink(clock), options);
    abort.abort(new Error('not needed any more'));
    await expect(connecting).rejects.toThrow('not needed any more');
  });
});

describe('partitions and crashes', () => {
  test('a partition is silent, and what was held arrives after it has healed', async () => {
    const { clock, network, near, far, nearSink, farSink } = await open();
    network.partition('worker', 'target');
    send(near, 'question');
    send(far, 'news');
    await clock.advance(10_000);
    expect([farSink.text, nearSink.text]).toEqual(['', '']);
    expect([farSink.over, nearSink.over]).toEqual([undefined, undefined]);
    network.heal('worker', 'target');
    await clock.advance(0);
    expect([farSink.text, nearSink.text]).toEqual(['question', 'news']);
  });

  test('a partition may have one direction only', async () => {
    const { clock, network, near, far, nearSink, farSink } = await open();
    network.partition('target', 'worker', { oneWay: true });
    send(near, 'question');
    send(far, 'answer');
    await clock.advance(100);
    expect([farSink.text, nearSink.text]).toEqual(['question', '']);
  });

  test('connecting through a partition times out, or succeeds when it heals in time', async () => {
    const pair = await open();
    pair.network.partition('worker', 'target');
    expect(await tryConnect(pair, ADDRESS)).toBe('ETIMEDOUT');
    const connecting = tryConnect(pair, ADDRESS);
    pair.clock.after(100, () => pair.network.heal());
    expect(await connecting).toBe('connected');
  });

  test('a crashed host resets its peers, and is refused once it is back', async () => {
    const pair = await open();
    pair.network.crashHost('target');
    await pair.clock.advance(0);
    expect(pair.nearSink.over).toMatchObject({ code: 'ECONNRESET' });
    expect(pair.farSink.over).toMatchObject({ code: 'ECONNABORTED' });
    expect(await tryConnect(pair, ADDRESS)).toBe('ETIMEDOUT');
    await expect(
      pair.network.host('target').listen(ADDRESS, () => new Sink(pair.clock)),
    ).rejects.toMatchObject({ code: 'ENETDOWN' });
    pair.network.startHost('target');
    expect(await tryConnect(pair, ADDRESS)).toBe('ECONNREFUSED');
  });

  test('a host that lost its power is silent, and resets what it has forgotten when it is back', async () => {
    const { clock, network, near, nearSink } = await open();
    network.crashHost('target', { notifyPeers: false });
    send(near, 'anybody there?');
    await clock.advance(10_000);
    expect(nearSink.over).toBeUndefined();
    network.startHost('target');
    await clock.advance(0);
    expect(nearSink.over).toMatchObject({ code: 'ECONNRESET' });
  });
});
