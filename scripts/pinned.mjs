// Plain JavaScript that old versions of Node understand: it runs before anything of ours is installed.
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** The Node that package.json pins, whatever the machine's own is. */
export const NODE = join(ROOT, 'node_modules/.bin/node');

/** Path of a JavaScript file in a package. */
export const inModules = (path) => join(ROOT, 'node_modules', path);

/**
 * Runs a program in the repository. `capture` collects stdout and stderr in order instead of passing them on.
 * Resolves with `{ code, output }`; a signal counts as code 1.
 */
export function run(command, args, { capture = false, env = {} } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: {
        ...process.env,
        PATH: `${join(ROOT, 'node_modules/.bin')}:${process.env.PATH}`,
        ...env,
      },
      stdio: ['ignore', capture ? 'pipe' : 'inherit', capture ? 'pipe' : 'inherit'],
    });
    const chunks = [];
    child.stdout?.on('data', (chunk) => chunks.push(chunk));
    child.stderr?.on('data', (chunk) => chunks.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      resolve({ code: code ?? 1, output: Buffer.concat(chunks).toString() });
    });
  });
}
