import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TempDir extends AsyncDisposable {
  readonly path: string;
  /** Path of a file in it. */
  file(name: string): string;
  remove(): Promise<void>;
}

const MEMORY = '/dev/shm';
const alive = new Set<string>();
let hooked = false;

/**
 * A directory of one's own, removed by `remove`, at the end of an `await using` block, or at the latest when the
 * process exits. `memory` puts it on tmpfs where there is one, which takes the disk out of the test.
 * Paths are short: a unix socket's may have 107 bytes.
 */
export function tempDir(name = 'test', where: 'disk' | 'memory' = 'disk'): TempDir {
  if (!hooked) {
    hooked = true;
    process.on('exit', () => {
      for (const path of alive) rmSync(path, { recursive: true, force: true });
    });
  }
  const base = where === 'memory' && existsSync(MEMORY) ? MEMORY : tmpdir();
  const path = mkdtempSync(join(base, `orion-${name}-`));
  alive.add(path);
  const remove = async (): Promise<void> => {
    rmSync(path, { recursive: true, force: true, maxRetries: 3 });
    alive.delete(path);
  };
  return { path, file: (file) => join(path, file), remove, [Symbol.asyncDispose]: remove };
}
