import net from 'node:net';
import { expect, test } from 'vitest';
import { errorText } from '#core/errors.ts';
import { explained } from './listen-errors.ts';

function listenError(options: net.ListenOptions): Promise<Error> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', resolve);
    server.listen(options);
  });
}

test('a port in use is told with the address and what to do', async () => {
  const holder = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => holder.once('listening', resolve));
  const { port } = holder.address() as net.AddressInfo;
  const error = await listenError({ host: '127.0.0.1', port });
  holder.close();
  const wrapped = new Error('gateway', { cause: error });
  for (const given of [error, wrapped]) {
    expect(errorText(explained(given))).toBe(
      `CLI_ADDRESS: cannot listen on 127.0.0.1:${port}: the address is in use. Stop what uses it ("ss -ltnp" shows it), or change the listener in the configuration.`,
    );
  }
});

test('a socket in a directory that is not there is told with its path', async () => {
  const error = await listenError({ path: '/no/such/dir/nbd.sock' });
  expect(errorText(explained(error))).toMatch(/cannot listen on \/no\/such\/dir\/nbd.sock/);
});

test('any other error is passed through', () => {
  const error = new Error('x');
  expect(explained(error)).toBe(error);
  expect(explained('text')).toBe('text');
});
