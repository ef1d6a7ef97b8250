import type { SharedMemory } from './shared-memory.ts';

/**
 * Byte streams as a dependency. `node-network.ts` is the real one; the simulation has one in memory under its
 * virtual clock. Everything that talks a protocol (iSCSI, NBD, link, our target) is written against this.
 */

export type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** What a stream delivers to. Its owner implements it; all calls come from the event loop, never re-entrantly. */
export interface StreamSink {
  /**
   * Where the next bytes are to be received. Used where the platform allows it (connections that we opened);
   * elsewhere bytes arrive in buffers of the platform's own.
   */
  buffer(): Buffer;
  /** `length` bytes arrived at the start of `chunk`, which belongs to the sink only during the call. */
  data(chunk: Buffer, length: number): void;
  /** The stream is over: null for the peer's orderly end, else why. Called exactly once, nothing follows it. */
  closed(error: Error | null): void;
}

export interface ByteStream {
  /** "127.0.0.1:3260" or a socket's path, for messages. */
  readonly remote: string;
  /** Bytes given to writev that have not left this process. */
  readonly unsentBytes: number;
  /**
   * Sends all chunks in order with as few system calls as possible. `done` is called when none of them is needed
   * any more: sent, or the stream is destroyed. Until then they must not change.
   */
  writev(chunks: readonly Uint8Array[], done: () => void): void;
  /** Stops delivering data (the kernel's buffer fills, then the peer's), and goes on. */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then ends our side. `closed` follows when the peer has ended too. */
  end(): void;
  /** Drops the connection with a TCP reset where there is one. What is queued is lost. `closed` follows. */
  destroy(reason?: Error): void;
}

export interface Listener {
  readonly address: Address;
  close(): Promise<void>;
}

export interface ConnectOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface Network {
  /** Connects and delivers to `sink`. Rejects with the system's error, or on timeout; then `sink` is never called. */
  connect(address: Address, sink: StreamSink, options: ConnectOptions): Promise<ByteStream>;
  /** For each accepted stream `accept` returns its sink. Rejects when the address is in use or not allowed. */
  listen(address: Address, accept: (stream: ByteStream) => StreamSink): Promise<Listener>;
  /** Memory that both ends of a socket file can see; null or left out where there is none. */
  readonly sharedMemory?: SharedMemory | null;
}

/** "host:port", "[::1]:3260", "unix:/path" to an address; null when it is none. */
export function parseAddress(text: string, defaultPort?: number): Address | null {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    return path === '' ? null : { kind: 'unix', path };
  }
  const match = /^(?:\[([0-9a-f:.%]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/i.exec(text);
  if (match === null) return null;
  const port = match[3] === undefined ? defaultPort : Number(match[3]);
  if (port === undefined || port > 65535) return null;
  return { kind: 'tcp', host: (match[1] ?? match[2])!, port };
}

export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${host}:${address.port}`;
}
