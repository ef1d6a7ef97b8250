import { isOrionError } from '#core/errors.ts';
import { cliErrors } from './errors.ts';

interface SystemError extends Error {
  readonly code?: string;
  readonly syscall?: string;
  readonly address?: string;
  readonly port?: number;
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address is in use',
  EADDRNOTAVAIL: 'this machine does not have the address',
  EACCES: 'no permission',
  ENOENT: 'the directory of the socket does not exist',
  ENOTFOUND: 'the host name is not known',
};
const CAUSES_MAX = 8;

/** An error of the system about a listener, told with the address; anything else is passed through. */
export function explained(error: unknown): unknown {
  if (isOrionError(error)) return error;
  let at: unknown = error;
  for (let i = 0; i < CAUSES_MAX && at instanceof Error; i++) {
    const { code = '', syscall, address, port } = at as SystemError;
    const reason = REASONS[code];
    const isListen = syscall === 'listen' || syscall === 'bind' || code === 'EADDRINUSE';
    if (reason !== undefined && isListen) {
      const where = port === undefined || port < 0 ? (address ?? '') : `${address}:${port}`;
      return cliErrors.make('CLI_ADDRESS', {
        message: `cannot listen on ${where}: ${reason}`,
        cause: error,
      });
    }
    at = at.cause;
  }
  return error;
}
