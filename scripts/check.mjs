// `npm run check`: types, format and lint, unused code, layers. Says one line for each that passes.
import { pathToFileURL } from 'node:url';
import { inModules, NODE, run } from './pinned.mjs';

const CHECKS = [
  { name: 'types', command: [inModules('.bin/tsc'), '-p', '.', '--pretty', 'false'] },
  {
    name: 'format and lint',
    command: [
      inModules('.bin/biome'),
      'check',
      '--diagnostic-level=warn',
      '--error-on-warnings',
      '--max-diagnostics=40',
    ],
  },
  { name: 'unused code', command: [NODE, inModules('knip/bin/knip.js'), '--no-progress'] },
  {
    name: 'layers and tidiness',
    command: [NODE, inModules('vitest/vitest.mjs'), 'run', 'test/tidy', '--reporter=dot'],
    tidy: true,
  },
];

/** Returns how many failed. */
export async function runChecks({ tidy }) {
  const chosen = CHECKS.filter((check) => tidy || !check.tidy);
  const started = chosen.map(async ({ name, command }) => {
    const begin = Date.now();
    const [program, ...args] = command;
    const { code, output } = await run(program, args, { capture: true, env: { NO_COLOR: '1' } });
    return { name, code, output, seconds: (Date.now() - begin) / 1000 };
  });
  let failed = 0;
  for (const result of started) {
    const { name, code, output, seconds } = await result;
    if (code === 0) {
      console.log(`check ${name}: ok (${seconds.toFixed(1)} s)`);
    } else {
      failed++;
      console.log(`${output.trim()}\ncheck ${name}: FAILED`);
    }
  }
  return failed;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.exitCode = (await runChecks({ tidy: true })) === 0 ? 0 : 1;
}
