import { createServer } from 'node:net';

/**
 * Below the range from which the kernel takes ports for outgoing connections (32768 on), so that a port that is
 * free now is not taken by a client a moment later.
 */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;
const TRIES_MAX = 200;

const handedOut = new Set<number>();

function isFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A TCP port that nobody listens on, for a peer that cannot be told to choose one itself. Never given twice. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  for (let i = 0; i < TRIES_MAX; i++) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    if (handedOut.has(port)) continue;
    if (!(await isFree(port, host))) continue;
    handedOut.add(port);
    return port;
  }
  throw new Error(`no free TCP port found between ${PORT_MIN} and ${PORT_MAX}`);
}

export async function freePorts(count: number, host?: string): Promise<number[]> {
  const ports: number[] = [];
  for (let i = 0; i < count; i++) ports.push(await freePort(host));
  return ports;
}
