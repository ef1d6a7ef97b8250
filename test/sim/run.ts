import { argv, env, exit } from 'node:process';
import { simulate } from './simulate.ts';

/**
 * Many seeds by hand: `node test/sim/run.ts FROM TO [--no-fence]`. SIM_LOG=FILE keeps the log of the last seed.
 * Ends with exit code 1 when a seed finds a violation, which the log names.
 */
const [from, to] = [Number(argv[2] ?? 1), Number(argv[3] ?? argv[2] ?? 1)];
const fencing = !argv.includes('--no-fence');
const only = fencing ? undefined : ['writes land late', 'connections are cut', 'worker dies'];

let bad = 0;
let acknowledged = 0;
for (let seed = from; seed <= to; seed++) {
  const result = await simulate(seed, { fencing, ...(only === undefined ? {} : { only }) });
  acknowledged += result.acknowledged;
  const problems = [...result.violations, ...result.errors];
  if (problems.length === 0) continue;
  bad += 1;
  console.log(`seed ${seed}: ${problems.length} problems, first: ${problems[0]}`);
  if (env.SIM_LOG !== undefined) break;
}
console.log(`${to - from + 1} seeds, ${bad} with violations, ${acknowledged} acknowledged writes`);
exit(bad === 0 ? 0 : 1);
