import net from 'node:net';
import tls from 'node:tls';
import { errorText, isOrionError, type OrionError } from '../core/errors.ts';
import { wireErrors } from './errors.ts';
import {
  type Address,
  type ByteStream,
  type ConnectOptions,
  formatAddress,
  type Listener,
  type Network,
  type StreamSink,
} from './network.ts';
import { connectSocket, NodeStream } from './node-network.ts';

/** PEM texts, and what the other side has to show. */
export interface TlsOptions {
  /** Null: the authorities that Node.js trusts. */
  readonly ca: string | null;
  /** The name that the certificate must be for; empty: the host that is connected to. */
  readonly serverName: string;
  /** Our own certificate with its chain, and its key; empty: none. */
  readonly cert: string;
  readonly key: string;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
}

/** TLS over TCP, on the connecting side alone. Throws when the certificates cannot be used. */
export function tlsNetwork(options: TlsOptions): Network {
  const context = contextOf(options);
  return {
    connect: (address, sink, connectOptions) =>
      connect(address, sink, connectOptions, options, context),
    listen(): Promise<Listener> {
      throw new Error('nothing here listens with TLS');
    },
  };
}

function contextOf({ ca, cert, key, minVersion }: TlsOptions): tls.SecureContext {
  try {
    return tls.createSecureContext({
      minVersion,
      ...(ca === null ? {} : { ca }),
      ...(cert === '' ? {} : { cert, key }),
    });
  } catch (cause) {
    throw wireErrors.make('TLS_MATERIAL', {
      message: `a certificate or key cannot be used: ${errorText(cause)}`,
      cause,
    });
  }
}

async function connect(
  address: Address,
  sink: StreamSink,
  connectOptions: ConnectOptions,
  { serverName }: TlsOptions,
  secureContext: tls.SecureContext,
): Promise<ByteStream> {
  const remote = formatAddress(address);
  const name = serverName !== '' || address.kind !== 'tcp' ? serverName : address.host;
  const raw = await connectSocket(address, connectOptions);
  const secure = tls.connect({
    socket: raw,
    secureContext,
    // Checked against the certificate; only names may be asked for (RFC 6066 §3).
    host: name,
    ...(net.isIP(name) === 0 ? { servername: name } : {}),
  });
  raw.on('error', (error) => secure.destroy(error));
  await handshake(secure, raw, remote, connectOptions);
  const stream = new NodeStream(secure, remote, raw, (error) => explained(error, remote, true));
  stream.sink = sink;
  // Node reads into buffers of its own here: `onread` is for sockets that it has made itself.
  secure.on('data', (chunk: Buffer) => stream.sink?.data(chunk, chunk.length));
  return stream;
}

function handshake(
  secure: tls.TLSSocket,
  raw: net.Socket,
  remote: string,
  { timeoutMs, signal }: ConnectOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      secure.removeListener('secureConnect', onSecure);
      secure.removeListener('error', onError);
      secure.removeListener('close', onClose);
      if (error === null) return resolve();
      secure.on('error', () => {}); // the cause is reported already
      secure.destroy();
      raw.destroy();
      reject(error);
    };
    const onSecure = (): void => done(null);
    const onError = (error: Error): void => done(explained(error, remote, false));
    const onClose = (): void => done(hungUp(remote));
    const onAbort = (): void => done(signal?.reason as Error);
    const timer = setTimeout(() => done(silent(remote, timeoutMs)), timeoutMs);
    if (signal?.aborted === true) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    secure.once('secureConnect', onSecure);
    secure.once('error', onError);
    secure.once('close', onClose);
  });
}

function silent(remote: string, timeoutMs: number): OrionError {
  return wireErrors.make('TLS_NOT_SPOKEN', {
    message: `${remote} takes connections, but did not begin TLS within ${timeoutMs} ms`,
  });
}

function hungUp(remote: string): OrionError {
  return wireErrors.make('TLS_NOT_SPOKEN', {
    message: `${remote} hung up during the TLS handshake: it does not speak TLS, or does not take us`,
  });
}

/** What Node and OpenSSL call a failure, in our words. */
const CODES: readonly (readonly [RegExp, Parameters<typeof wireErrors.make>[0], string])[] = [
  [/^ERR_TLS_CERT_ALTNAME_INVALID$/, 'TLS_WRONG_NAME', 'is for another name'],
  [/^CERT_HAS_EXPIRED$/, 'TLS_EXPIRED', 'has expired'],
  [/^CERT_NOT_YET_VALID$/, 'TLS_EXPIRED', 'is not valid yet'],
  [
    /^(?:DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_|CERT_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH)/,
    'TLS_UNTRUSTED',
    'is not trusted',
  ],
];

function explained(error: Error, remote: string, isOpen: boolean): Error {
  if (isOrionError(error)) return error;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const known = CODES.find(([pattern]) => pattern.test(code));
  if (known !== undefined) {
    const [, kind, text] = known;
    const detail = kind === 'TLS_WRONG_NAME' ? altNames(error) : `(${code})`;
    const message = `the certificate of ${remote} ${text} ${detail}`;
    return wireErrors.make(kind, { message, cause: error });
  }
  const kind = sslKind(code);
  if (kind !== null) {
    return wireErrors.make(kind, {
      message: `${wireErrors.specs[kind].text}: ${remote} (${code})`,
      cause: error,
    });
  }
  if (isOpen && !code.startsWith('ERR_SSL')) return error; // a loss as of any connection
  if (/^(?:ECONNRESET|EPIPE)$/.test(code)) return hungUp(remote);
  return wireErrors.make('TLS_FAILED', {
    message: `TLS with ${remote} failed: ${error.message.slice(0, 200)}`,
    cause: error,
  });
}

function sslKind(code: string): 'TLS_NOT_SPOKEN' | 'TLS_VERSION' | 'TLS_CLIENT_REFUSED' | null {
  if (!code.startsWith('ERR_SSL_')) return null;
  if (
    /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|UNKNOWN_PROTOCOL|BAD_RECORD_TYPE|INVALID_RECORD/.test(
      code,
    )
  ) {
    return 'TLS_NOT_SPOKEN';
  }
  if (/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|INAPPROPRIATE_FALLBACK|VERSION_TOO_LOW/.test(code)) {
    return 'TLS_VERSION';
  }
  if (
    /ALERT_(?:CERTIFICATE_|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE)/.test(
      code,
    )
  ) {
    return 'TLS_CLIENT_REFUSED';
  }
  return null;
}

const NAMES_CHARS_MAX = 120;

/** "(it is for DNS:storage1, IP Address:192.0.2.7)": what to write into server_name. */
function altNames(error: Error): string {
  const { cert } = error as { readonly cert?: tls.PeerCertificate };
  const names = cert?.subjectaltname ?? String(cert?.subject?.CN ?? '');
  return names === '' ? '' : `(it is for ${names.slice(0, NAMES_CHARS_MAX)})`;
}
