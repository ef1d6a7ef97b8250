import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** Debian has servers here, which is not on every user's PATH. */
const MORE_PLACES = ['/usr/sbin', '/usr/local/sbin', '/usr/local/bin', '/sbin'];

/** Where a program is, on PATH or where servers are; null when it is not installed. */
export function findProgram(name: string, path = process.env.PATH ?? ''): string | null {
  for (const dir of [...path.split(':'), ...MORE_PLACES]) {
    const candidate = join(dir === '' ? '.' : dir, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // not here
    }
  }
  return null;
}
