// Abuses sessions at random: `node test/faults/abuse.ts --seconds 1800 --seed 1`, or `--seed 77 --episodes 1` to see one again.
import { parseArgs } from 'node:util';
import { abuse, renderReport } from './abuse-run.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    episodes: { type: 'string' },
  },
});
const untilMs = performance.now() + Number(values.seconds) * 1000;
const episodesMax =
  values.episodes === undefined ? Number.POSITIVE_INFINITY : Number(values.episodes);
const report = await abuse(
  Number(values.seed),
  (episodes) => episodes < episodesMax && performance.now() < untilMs,
);
console.log(renderReport(report));
process.exitCode = report.faults.length === 0 ? 0 : 1;
