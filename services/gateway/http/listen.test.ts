import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { tempDir } from '#testkit/tmp.ts';
import { leaveSocketBehind, startFixture } from './fixture.ts';
import { checkListenAddress, listenHttp, parseListen } from './listen.ts';

describe('a listen address', () => {
  test.each([
    ['127.0.0.1:8080', { kind: 'tcp', host: '127.0.0.1', port: 8080 }],
    ['[::1]:0', { kind: 'tcp', host: '::1', port: 0 }],
    ['localhost:1', { kind: 'tcp', host: 'localhost', port: 1 }],
    ['unix:/run/x.sock', { kind: 'unix', path: '/run/x.sock' }],
  ])('%s is understood, and is local', (text, expected) => {
    expect(checkListenAddress(text, false)).toEqual(expected);
  });

  test.each(['', '8080', ':8080', '127.0.0.1', '127.0.0.1:99999', 'unix:x', '::1:80', 'a b'])(
    '"%s" is refused',
    (text) => {
      expect(() => parseListen(text)).toThrow(expect.objectContaining({ code: 'HTTP_BAD_LISTEN' }));
    },
  );

  test.each([
    '0.0.0.0:80',
    '192.0.2.1:80',
    '[::]:80',
    'gateway.example:80',
    '[::ffff:192.0.2.1]:80',
  ])('%s is refused as long as nobody says that it is wanted', (text) => {
    expect(() => checkListenAddress(text, false)).toThrow(
      expect.objectContaining({ code: 'HTTP_INSECURE_LISTEN' }),
    );
    expect(checkListenAddress(text, true).kind).toBe('tcp');
  });
});

describe('listening', () => {
  test('on a port in use fails and names the address', async () => {
    await using first = await startFixture();
    await using second = await startFixture();
    const other = listenHttp(second.app, { kind: 'tcp', host: '127.0.0.1', port: first.port });
    await expect(other).rejects.toMatchObject({ code: 'HTTP_LISTEN_FAILED' });
  });

  test('on a unix socket replaces one that a dead process left, never one that answers', async () => {
    await using directory = tempDir('http-listen');
    const path = directory.file('http.sock');
    const alive = createServer().listen(path);
    await new Promise((resolve) => alive.once('listening', resolve));
    const address = { kind: 'unix', path } as const;
    const { app: refused } = await startFixture({ listen: false });
    await expect(listenHttp(refused, address)).rejects.toMatchObject({
      code: 'HTTP_LISTEN_FAILED',
    });
    await refused.close();
    await new Promise((resolve) => alive.close(resolve));

    await leaveSocketBehind(path);
    const { app } = await startFixture({ listen: false });
    await listenHttp(app, address);
    await app.close();
  });
});
