// `npm run docs`: writes every generated page anew, that is, runs every docs-*.ts here.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { NODE, ROOT, run } from './pinned.mjs';

const scripts = readdirSync(join(ROOT, 'scripts')).filter((name) => /^docs-.*\.ts$/.test(name));
for (const name of scripts.sort()) {
  const { code } = await run(NODE, [join(ROOT, 'scripts', name)]);
  if (code !== 0) process.exitCode = 1;
}
