import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { geteuid } from 'node:process';
import { errorText, isOrionError } from '../core/errors.ts';
import { securityErrors } from './errors.ts';
import { Secret } from './secret.ts';

/** A file that is longer holds something else. */
export const SECRET_BYTES_MAX = 1024;

/** Nothing for group and others, and nothing to execute: 0600 and 0400 are left. */
const MODE_FORBIDDEN = 0o177;

const ROOT_UID = 0;

export type SecretSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'env'; readonly name: string };

/** Reads a secret where the configuration says it is. Errors name the place, never what was read. */
export async function readSecret(
  source: SecretSource,
  env: Readonly<Record<string, string | undefined>>,
  bytesMax = SECRET_BYTES_MAX,
): Promise<Secret> {
  if (source.kind === 'file') return readFileSecret(source.path, bytesMax);
  const text = env[source.name];
  if (text === undefined) {
    throw securityErrors.make('SECRET_NOT_SET', {
      message: `the environment variable ${source.name}, which is to hold a secret, is not set`,
    });
  }
  return checked(Buffer.from(text), source.name, bytesMax);
}

async function readFileSecret(path: string, bytesMax: number): Promise<Secret> {
  let file: FileHandle | null = null;
  try {
    // A pipe must not keep us waiting for somebody to write into it.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    // Of what is open, not of what the path names by now.
    await checkPrivate(file, path);
    const bytes = Buffer.alloc(bytesMax + 2);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    return checked(withoutNewline(bytes.subarray(0, bytesRead)), path, bytesMax);
  } catch (cause) {
    if (isOrionError(cause)) throw cause;
    throw securityErrors.make('SECRET_UNREADABLE', {
      message: `${path}: ${errorText(cause)}`,
      cause,
    });
  } finally {
    await file?.close();
  }
}

async function checkPrivate(file: FileHandle, path: string): Promise<void> {
  const { mode, uid, isFile } = await file.stat().then((stat) => ({
    mode: stat.mode & 0o777,
    uid: stat.uid,
    isFile: stat.isFile(),
  }));
  if (!isFile) {
    throw securityErrors.make('SECRET_UNREADABLE', { message: `${path}: is no regular file` });
  }
  if ((mode & MODE_FORBIDDEN) !== 0) {
    throw securityErrors.make('SECRET_EXPOSED', {
      message: `${path}: has mode 0${mode.toString(8)}; a secret needs 0600 or 0400`,
      hint: `Run: chmod 600 ${path}`,
    });
  }
  const own = geteuid?.() ?? uid;
  if (uid !== own && uid !== ROOT_UID) {
    throw securityErrors.make('SECRET_EXPOSED', {
      message: `${path}: belongs to user ${uid}; a secret must belong to user ${own} or to root`,
    });
  }
}

/** Editors end a file with a newline that is no part of the secret. */
function withoutNewline(bytes: Buffer): Buffer {
  if (bytes.at(-1) !== 0x0a) return bytes;
  return bytes.subarray(0, bytes.at(-2) === 0x0d ? -2 : -1);
}

function checked(bytes: Buffer, place: string, bytesMax: number): Secret {
  if (bytes.length === 0) {
    throw securityErrors.make('SECRET_BAD', {
      message: `${place}: is empty; it is to hold a secret`,
    });
  }
  if (bytes.length > bytesMax) {
    throw securityErrors.make('SECRET_BAD', {
      message: `${place}: is longer than the ${bytesMax} bytes that a secret may have`,
    });
  }
  return new Secret(bytes);
}
