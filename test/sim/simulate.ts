import { writeFileSync } from 'node:fs';
import { seededRng } from '#core/rng.ts';
import { SimCluster } from './cluster.ts';
import { misfortunes } from './faults.ts';
import { BLOCKS, Workload } from './workload.ts';

const CLIENTS = 5;
export const START_MS = 30_000;
const TROUBLE_MS = 20_000;
const QUIET_MS = 120_000;
/** After this nothing that was sent before can still be on its way. */
const GHOST_MS = 20_000;

export interface SimResult {
  readonly violations: readonly string[];
  readonly errors: readonly string[];
  readonly acknowledged: number;
  readonly operations: number;
  readonly log: readonly string[];
}

export async function simulate(
  seed: number,
  options: { readonly fencing?: boolean; readonly only?: readonly string[] } = {},
): Promise<SimResult> {
  const rng = seededRng(seed);
  const behaviour = {
    onReinstatement: rng.float() < 0.7 ? ('keep' as const) : ('abort' as const),
    onLunReset: rng.float() < 0.5 ? ('wait' as const) : ('abort' as const),
  };
  const lines: string[] = [];
  const cluster = new SimCluster({
    seed,
    behaviour,
    gateways: rng.float() < 0.5 ? 1 : 2,
    workers: rng.float() < 0.5 ? 2 : 3,
    fencing: options.fencing ?? true,
    writeCache: rng.float() < 0.6,
    ...(process.env.SIM_LOG === undefined ? {} : { onLog: (line: string) => lines.push(line) }),
  });
  const { clock } = cluster;
  const log: string[] = [];
  const workload = new Workload(cluster, seededRng(rng.u32()));
  try {
    await cluster.start();
    await clock.runUntil(() => cluster.volume !== undefined, START_MS);
    workload.start(CLIENTS);
    const trouble = misfortunes(cluster, rng, clock.nowMs() + TROUBLE_MS, log, options.only);
    await cluster.during(trouble, TROUBLE_MS * 3);
    cluster.network.heal();
    cluster.healBus();
    workload.stop();
    await clock.runUntil(() => workload.idle && cluster.volume !== undefined, QUIET_MS);
    await clock.advance(GHOST_MS);
    await clock.runUntil(() => cluster.volume !== undefined, QUIET_MS);
    await cluster.during(workload.read(cluster.volume!, 0, BLOCKS), QUIET_MS);
    return {
      violations: workload.history.violations(),
      errors: workload.errors,
      acknowledged: workload.history.acknowledged,
      operations: workload.operations,
      log,
    };
  } finally {
    if (process.env.SIM_LOG !== undefined) {
      writeFileSync(process.env.SIM_LOG, [...lines, ...log].join('\n'));
    }
    await cluster.stop();
  }
}
