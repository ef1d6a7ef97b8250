import { readFile } from 'node:fs/promises';
import type { TargetTlsConfig } from '#config/schema.ts';
import { errorText } from '#core/errors.ts';
import { readSecret } from '#security/secret-source.ts';
import type { Network } from '#wire/network.ts';
import { tlsNetwork } from '#wire/tls-network.ts';
import { workerErrors } from './errors.ts';

/** A key of any kind in PEM. */
const KEY_BYTES_MAX = 64 * 1024;

/**
 * How to reach the portals of a target, or those that discovery asks: `plain`, or TLS over it. Files are read at each login, so that a renewed
 * certificate counts from the next login on.
 */
export async function networkFor(
  tls: TargetTlsConfig | undefined,
  plain: Network,
): Promise<Network> {
  if (tls === undefined || tls.ca === '') return plain;
  return tlsNetwork({
    ca: tls.ca === 'system' ? null : await readPem(tls.ca),
    serverName: tls.server_name,
    cert: tls.cert === '' ? '' : await readPem(tls.cert),
    key: tls.key === '' ? '' : await readKey(tls.key),
    minVersion: tls.min_version,
  });
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw workerErrors.make('WORKER_TLS_FILE', { message: `${path}: ${errorText(cause)}`, cause });
  }
}

/** As private as the secret of CHAP. */
async function readKey(path: string): Promise<string> {
  const secret = await readSecret({ kind: 'file', path }, {}, KEY_BYTES_MAX);
  return secret.use((bytes) => Buffer.from(bytes).toString('utf8'));
}
