import { chmodSync, existsSync, unlinkSync } from 'node:fs';
import net from 'node:net';
import { systemRng } from '../core/rng.ts';
import {
  type Address,
  type ByteStream,
  type ConnectOptions,
  formatAddress,
  type Listener,
  type Network,
  type StreamSink,
} from './network.ts';
import { nodeSharedMemory } from './node-shared-memory.ts';
import type { SharedMemory } from './shared-memory.ts';

/** Sends a probe after this long without traffic, so that a peer that vanished is noticed by the kernel. */
const KEEPALIVE_MS = 30_000;

/** Wraps one net.Socket. One object a connection, none per read or write. */
export class NodeStream implements ByteStream {
  readonly remote: string;
  sink: StreamSink | null = null;
  readonly #socket: net.Socket;
  readonly #raw: net.Socket;
  #closedError: Error | null = null;

  /** `raw`: the TCP socket beneath, where `socket` is one of TLS. `explain` words what the system says. */
  constructor(
    socket: net.Socket,
    remote: string,
    raw = socket,
    explain: (error: Error) => Error = (error) => error,
  ) {
    this.#socket = socket;
    this.#raw = raw;
    this.remote = remote;
    socket.on('error', (error) => {
      this.#closedError ??= explain(error);
    });
    socket.on('close', () => {
      const sink = this.sink;
      this.sink = null;
      sink?.closed(this.#closedError);
    });
  }

  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  writev(chunks: readonly Uint8Array[], done: () => void): void {
    const socket = this.#socket;
    if (socket.destroyed || socket.writableEnded) {
      done();
      return;
    }
    if (chunks.length === 1) {
      socket.write(chunks[0]!, done);
      return;
    }
    socket.cork();
    const last = chunks.length - 1;
    for (let i = 0; i < last; i++) socket.write(chunks[i]!);
    socket.write(chunks[last]!, done);
    socket.uncork();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    this.#socket.end();
  }

  destroy(reason?: Error): void {
    this.#closedError ??= reason ?? null;
    // resetAndDestroy throws on a pipe, since a reset exists in TCP alone; and after `end` it fails, and closes nothing.
    if (this.#raw.remoteFamily === undefined || this.#raw.writableEnded) this.#raw.destroy();
    else this.#raw.resetAndDestroy();
    if (this.#raw !== this.#socket) this.#socket.destroy();
  }
}

async function connect(
  address: Address,
  sink: StreamSink,
  options: ConnectOptions,
  heard: () => void,
): Promise<ByteStream> {
  let stream: NodeStream | null = null;
  await connectSocket(
    address,
    options,
    {
      buffer: () => sink.buffer(),
      callback: (length, chunk) => {
        heard();
        stream?.sink?.data(chunk as Buffer, length);
        return true;
      },
    },
    (connected) => {
      stream = new NodeStream(connected, formatAddress(address));
      stream.sink = sink;
    },
  );
  return stream!;
}

/** A connected socket with the options that all of ours have. `onConnect` runs before anything can be read from it. */
export function connectSocket(
  address: Address,
  options: ConnectOptions,
  onread?: net.OnReadOpts,
  onConnect?: (socket: net.Socket) => void,
): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const reading = onread === undefined ? {} : { onread };
    const socket =
      address.kind === 'unix'
        ? net.connect({ path: address.path, ...reading })
        : net.connect({
            host: address.host,
            port: address.port,
            noDelay: true,
            keepAlive: true,
            keepAliveInitialDelay: KEEPALIVE_MS,
            ...reading,
          });
    const fail = (error: Error): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      socket.removeAllListeners();
      socket.on('error', () => {}); // the cause is reported already
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(options.signal?.reason as Error);
    const timer = setTimeout(() => {
      const error = new Error(
        `no connection to ${formatAddress(address)} within ${options.timeoutMs} ms`,
      );
      fail(Object.assign(error, { code: 'ETIMEDOUT' }));
    }, options.timeoutMs);
    if (options.signal?.aborted) return onAbort();
    options.signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('error', fail);
    socket.once('connect', () => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      socket.removeListener('error', fail);
      onConnect?.(socket);
      resolve(socket);
    });
  });
}

/** True when nobody listens behind the socket file, so that it may be replaced. */
function isStaleSocket(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
}

/** Asked for before the sink is known; read into only once, if at all. */
const FIRST_READ = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * The accepted connection as a socket that reads where its sink wants it. Node gives `onread` to sockets that connect
 * only; without it each read allocates 64 KiB, which costs more than all the rest of a large write. So the handle moves
 * to a socket of ours. Where a Node has no handle to give, the socket stays as it is.
 */
function withOnRead(accepted: net.Socket, onread: net.OnReadOpts): net.Socket {
  const owner = accepted as unknown as { _handle?: object | null };
  const handle = owner._handle;
  if (handle === undefined || handle === null) {
    accepted.on('data', (chunk) => onread.callback(chunk.length, chunk as Buffer));
    return accepted;
  }
  owner._handle = null;
  accepted.destroy();
  return new net.Socket({
    handle,
    readable: true,
    writable: true,
    manualStart: true,
    onread,
  } as net.SocketConstructorOpts);
}

async function listen(
  address: Address,
  accept: (stream: ByteStream) => StreamSink,
  heard: () => void,
): Promise<Listener> {
  if (address.kind === 'unix' && existsSync(address.path) && (await isStaleSocket(address.path))) {
    unlinkSync(address.path);
  }
  const sockets = new Set<net.Socket>();
  const server = net.createServer(
    { noDelay: true, keepAlive: true, pauseOnConnect: true },
    (accepted) => {
      let stream: NodeStream | null = null;
      const socket = withOnRead(accepted, {
        buffer: () => stream?.sink?.buffer() ?? FIRST_READ,
        callback: (length, chunk) => {
          heard();
          stream?.sink?.data(chunk as Buffer, length);
          return true;
        },
      });
      const remote =
        address.kind === 'unix' ? address.path : `${socket.remoteAddress}:${socket.remotePort}`;
      stream = new NodeStream(socket, remote);
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      stream.sink = accept(stream);
      socket.resume();
    },
  );
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    const listening = (): void => {
      server.removeListener('error', reject);
      resolve();
    };
    if (address.kind === 'unix') server.listen({ path: address.path }, listening);
    else server.listen({ host: address.host, port: address.port }, listening);
  });
  // A socket file is the whole protection of a local listener: its owner alone may connect.
  if (address.kind === 'unix') chmodSync(address.path, 0o600);
  const bound = server.address();
  const actual: Address =
    address.kind === 'tcp' && bound !== null && typeof bound === 'object'
      ? { kind: 'tcp', host: address.host, port: bound.port }
      : address;
  return {
    address: actual,
    close() {
      return new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      });
    },
  };
}

let sharedMemory: SharedMemory | null | undefined;

/**
 * The real network: net.Socket with `onread` on both sides, one writev per flush. `heard` is called whenever bytes arrive
 * from anybody.
 */
export function makeNodeNetwork(heard: () => void): Network {
  return {
    connect: (address, sink, options) => connect(address, sink, options, heard),
    listen: (address, accept) => listen(address, accept, heard),
    get sharedMemory() {
      sharedMemory ??= nodeSharedMemory(systemRng);
      return sharedMemory;
    },
  };
}

export const nodeNetwork: Network = makeNodeNetwork(() => {});
