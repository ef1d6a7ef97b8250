import { chmodSync, writeFileSync } from 'node:fs';
import { canConnect, freePort } from './ports.ts';
import { check, startProcess, type TestProcess } from './process.ts';
import { type TempDir, tempDir } from './tmp.ts';

/** Certificates made by openssl, and TLS fronts (stunnel) that use them. */

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

export interface TlsLab extends AsyncDisposable {
  readonly dir: TempDir;
  /** The file of the authority that signs. */
  readonly ca: string;
  /** `names` as openssl has them: "DNS:storage.lab,IP:127.0.0.1". Negative days: expired. */
  certificate(id: string, names: string, days?: number): Promise<Certificate>;
  /** A front before a TCP port; returns its own address. `clientCa`: clients need a certificate of this authority. */
  front(backend: string, own: Certificate, options?: FrontOptions): Promise<string>;
  stop(): Promise<void>;
}

export interface FrontOptions {
  readonly clientCa?: string;
  /** As stunnel writes it: "TLSv1.2". */
  readonly sslVersion?: string;
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

export async function startTlsLab(): Promise<TlsLab> {
  const dir = tempDir('tls');
  const fronts: TestProcess[] = [];
  const ca = dir.file('ca.pem');
  const authority = ['-keyout', dir.file('ca.key'), '-out', ca, '-subj', '/CN=lab', '-days', '2'];
  await check('openssl', ['req', '-x509', ...KEY, ...authority]);

  const certificate = async (id: string, names: string, days = 2): Promise<Certificate> => {
    const [cert, key, request, extension] = ['pem', 'key', 'csr', 'ext'].map((ending) =>
      dir.file(`${id}.${ending}`),
    ) as [string, string, string, string];
    await check('openssl', ['req', ...KEY, '-keyout', key, '-out', request, '-subj', `/CN=${id}`]);
    writeFileSync(extension, `subjectAltName=${names}`);
    const signed = ['-CA', ca, '-CAkey', dir.file('ca.key'), '-CAcreateserial'];
    const rest = ['-days', String(days), '-extfile', extension, '-out', cert];
    await check('openssl', ['x509', '-req', '-in', request, ...signed, ...rest]);
    chmodSync(key, 0o600);
    return { cert, key };
  };

  const front = async (
    backend: string,
    own: Certificate,
    { clientCa, sslVersion }: FrontOptions = {},
  ): Promise<string> => {
    const port = await freePort();
    const file = dir.file(`stunnel-${port}.conf`);
    const client = clientCa === undefined ? '' : `CAfile = ${clientCa}\nverifyChain = yes\n`;
    const version = sslVersion === undefined ? '' : `sslVersion = ${sslVersion}\n`;
    writeFileSync(
      file,
      `foreground = yes\npid =\n[iscsi]\naccept = 127.0.0.1:${port}\nconnect = ${backend}\ncert = ${own.cert}\nkey = ${own.key}\nTIMEOUTclose = 0\n${client}${version}`,
    );
    const child = await startProcess({ command: 'stunnel4', args: [file] });
    fronts.push(child);
    await child.until('stunnel listens', () => canConnect({ host: '127.0.0.1', port }));
    return `127.0.0.1:${port}`;
  };

  const stop = async (): Promise<void> => {
    for (const child of fronts) await child.stop('SIGTERM');
    await dir.remove();
  };
  return { dir, ca, certificate, front, stop, [Symbol.asyncDispose]: stop };
}
