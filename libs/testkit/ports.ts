import { connect, createServer, type NetConnectOpts } from 'node:net';

/**
 * Below the range from which the kernel takes ports for outgoing connections (32768 on), so that a port that is
 * free now is not taken by a client a moment later; and below the one from which a node takes the port of its
 * nats-server (20000 on).
 */
const PORT_MIN = 12_000;
const PORT_MAX = 20_000;
/** Test files that run at the same time share no port: each of so many workers of vitest has its own part. */
const PARTS = 8;
const PART_PORTS = (PORT_MAX - PORT_MIN) / PARTS;
const part = (Number(process.env.VITEST_POOL_ID) || 0) % PARTS;
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
    const port = PORT_MIN + part * PART_PORTS + Math.floor(Math.random() * PART_PORTS);
    if (handedOut.has(port)) continue;
    if (!(await isFree(port, host))) continue;
    handedOut.add(port);
    return port;
  }
  throw new Error(`no free TCP port found in part ${part} of ${PORT_MIN} to ${PORT_MAX}`);
}

/** Whether somebody listens: that the file of a unix socket is there does not say so yet. */
export function canConnect(where: NetConnectOpts): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(where);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

export async function freePorts(count: number, host?: string): Promise<number[]> {
  const ports: number[] = [];
  for (let i = 0; i < count; i++) ports.push(await freePort(host));
  return ports;
}
