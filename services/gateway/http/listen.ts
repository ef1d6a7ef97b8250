import { lstat, unlink } from 'node:fs/promises';
import { BlockList, connect, isIP } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { httpErrors } from './errors.ts';

export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** "host:port", "[::1]:port" or "unix:/path". */
export function parseListen(text: string): ListenAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (path.startsWith('/')) return { kind: 'unix', path };
    throw httpErrors.make('HTTP_BAD_LISTEN', { fields: { address: text } });
  }
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw httpErrors.make('HTTP_BAD_LISTEN', { fields: { address: text } });
  }
  return { kind: 'tcp', host: (match[1] ?? match[2])!, port };
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Whether only this machine can reach the address. */
export function isLocal(address: ListenAddress): boolean {
  if (address.kind === 'unix') return true;
  const family = isIP(address.host);
  if (family === 0) return address.host.toLowerCase() === 'localhost';
  return loopback.check(address.host, family === 4 ? 'ipv4' : 'ipv6');
}

/** Refuses an address that others can reach, as long as there is no authentication, unless told that it is wanted. */
export function checkListenAddress(text: string, insecure: boolean): ListenAddress {
  const address = parseListen(text);
  if (!insecure && !isLocal(address)) {
    throw httpErrors.make('HTTP_INSECURE_LISTEN', { fields: { address: text } });
  }
  return address;
}

/** Opens the server on an address that was checked. A unix socket that a dead process left behind is replaced. */
export async function listenHttp(app: FastifyInstance, address: ListenAddress): Promise<void> {
  try {
    if (address.kind === 'tcp') {
      await app.listen({ host: address.host, port: address.port });
    } else {
      await removeDeadSocket(address.path);
      await app.listen({ path: address.path });
    }
  } catch (cause) {
    const where = address.kind === 'tcp' ? `${address.host}:${address.port}` : address.path;
    throw httpErrors.make('HTTP_LISTEN_FAILED', {
      message: `the HTTP address ${where} cannot be listened on: ${(cause as Error).message}`,
      fields: { address: where },
      cause,
    });
  }
}

async function removeDeadSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null || !found.isSocket() || (await answers(path))) return;
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}
