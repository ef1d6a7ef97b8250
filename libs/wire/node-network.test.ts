import net from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import type { StreamSink } from './network.ts';
import { nodeNetwork } from './node-network.ts';

afterEach(() => vi.restoreAllMocks());

const sink = (closed: () => void): StreamSink => ({
  buffer: () => Buffer.alloc(1024),
  data() {},
  closed,
});

test('a connection sends without delay, and notices by itself a peer that has vanished', async () => {
  const spy = vi.spyOn(net, 'connect');
  const listener = await nodeNetwork.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, () =>
    sink(() => {}),
  );
  const over = Promise.withResolvers<void>();
  const stream = await nodeNetwork.connect(
    listener.address,
    sink(() => over.resolve()),
    { timeoutMs: 30_000 },
  );
  expect(spy.mock.calls[0]![0]).toMatchObject({ noDelay: true, keepAlive: true });
  stream.destroy();
  await over.promise;
  await listener.close();
});

test('a connection that is dropped right after its end is closed all the same', async () => {
  const listener = await nodeNetwork.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, () =>
    sink(() => {}),
  );
  const over = Promise.withResolvers<void>();
  const stream = await nodeNetwork.connect(
    listener.address,
    sink(() => over.resolve()),
    { timeoutMs: 30_000 },
  );
  stream.end();
  stream.destroy(new Error('logged out'));
  await over.promise;
  await listener.close();
});

test('a connection that is given up while it is made is over', async () => {
  const abort = new AbortController();
  abort.abort(new Error('given up'));
  const options = { timeoutMs: 30_000, signal: abort.signal };
  const address = { kind: 'tcp', host: '127.0.0.1', port: 1 } as const;
  await expect(
    nodeNetwork.connect(
      address,
      sink(() => {}),
      options,
    ),
  ).rejects.toThrow('given up');
});
