// `npm test [-- filter…]`: the checks, then every test. Ends with the runner's summary and one line of numbers.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runChecks } from './check.mjs';
import { inModules, NODE, run } from './pinned.mjs';

const filters = process.argv.slice(2);
// The tidy tests are part of the full run.
const checksFailed = filters.length > 0 ? 0 : await runChecks({ tidy: false });

const scratch = mkdtempSync(join(tmpdir(), 'orion-report-'));
const report = join(scratch, 'report.json');
const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
const vitest = [inModules('vitest/vitest.mjs'), 'run', ...reporters, ...filters];
const { code } = await run(NODE, vitest);

let passed = 0;
let failed = checksFailed;
let skipped = 0;
try {
  const result = JSON.parse(readFileSync(report, 'utf8'));
  passed = result.numPassedTests;
  skipped = result.numPendingTests + result.numTodoTests;
  // A file that could not even be loaded has no test that failed.
  const broken = result.testResults.filter(
    (file) =>
      file.status === 'failed' && !file.assertionResults.some((one) => one.status === 'failed'),
  );
  failed += result.numFailedTests + broken.length;
} catch (error) {
  console.error(`vitest left no report: ${error.message}`);
}
rmSync(scratch, { recursive: true, force: true });
// An error outside of any test.
if (code !== 0 && failed === 0) failed = 1;
if (checksFailed > 0) console.log(`${checksFailed} of the checks failed, see above`);
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 && code === 0 ? 0 : 1;
