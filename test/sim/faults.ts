import { sleep } from '#core/clock.ts';
import { intBetween, pick, type Rng } from '#core/rng.ts';
import { LUN, type SimCluster, TARGET_HOST } from './cluster.ts';
import { BLOCKS } from './workload.ts';

const PAUSE_MS_MAX = 1_500;

/** One kind of misfortune: does it, waits, and makes it good again. */
type Misfortune = (cluster: SimCluster, rng: Rng) => Promise<void>;

async function crashAndRestart(cluster: SimCluster, rng: Rng, id: string, worker: boolean) {
  if (!cluster.isUp(id)) return;
  await cluster.crash(id);
  await sleep(cluster.clock, intBetween(rng, 50, 4_000));
  if (worker) await cluster.startWorker(id);
  else cluster.startGateway(id);
}

async function partition(cluster: SimCluster, rng: Rng, a: string, b: string): Promise<void> {
  const oneWay = rng.float() < 0.3;
  cluster.network.partition(a, b, { oneWay });
  await sleep(cluster.clock, intBetween(rng, 100, 8_000));
  cluster.network.heal(a, b);
}

export const MISFORTUNES: Readonly<Record<string, Misfortune>> = {
  'worker dies': (cluster, rng) =>
    crashAndRestart(cluster, rng, pick(rng, cluster.workerIds), true),
  'gateway dies': (cluster, rng) =>
    crashAndRestart(cluster, rng, pick(rng, cluster.gatewayIds), false),
  'connections are cut': async (cluster, rng) => {
    const id = pick(rng, cluster.workerIds);
    cluster.network.cutLink(id, rng.float() < 0.7 ? TARGET_HOST : pick(rng, cluster.gatewayIds));
  },
  'worker and target are parted': (cluster, rng) =>
    partition(cluster, rng, pick(rng, cluster.workerIds), TARGET_HOST),
  'gateway and worker are parted': (cluster, rng) =>
    partition(cluster, rng, pick(rng, cluster.gatewayIds), pick(rng, cluster.workerIds)),
  'bus is down': async (cluster, rng) => {
    cluster.hub.serverDown();
    await sleep(cluster.clock, intBetween(rng, 100, 5_000));
    cluster.hub.serverUp();
  },
  'bus loses its history': async (cluster, rng) => {
    cluster.wipeBus();
    await sleep(cluster.clock, intBetween(rng, 100, 5_000));
  },
  'a process loses the bus': async (cluster, rng) => {
    cluster.cutFromBus(pick(rng, [...cluster.workerIds, ...cluster.gatewayIds]));
    // Long enough for others to take its place.
    await sleep(cluster.clock, intBetween(rng, 100, 20_000));
    cluster.healBus();
  },
  'a gateway and a worker lose the bus together': async (cluster, rng) => {
    cluster.cutFromBus(pick(rng, cluster.gatewayIds), pick(rng, cluster.workerIds));
    // Data still flow between them, and from both to the target.
    await sleep(cluster.clock, intBetween(rng, 100, 20_000));
    cluster.healBus();
  },
  'writes land late': async (cluster, rng) => {
    const from = intBetween(rng, 0, BLOCKS - 8);
    const hold = cluster.target.faults.holdWrites({
      lun: LUN,
      lbaFrom: from,
      lbaTo: from + intBetween(rng, 1, 8),
      count: intBetween(rng, 1, 3),
    });
    await sleep(cluster.clock, intBetween(rng, 20, 6_000));
    hold.release();
  },
  'commands are slow': async (cluster, rng) => {
    const fault = cluster.target.faults.delay({ lun: LUN, ms: intBetween(rng, 1, 500) });
    await sleep(cluster.clock, intBetween(rng, 100, 2_000));
    fault.remove();
  },
  'target is busy': async (cluster, rng) => {
    const fault = cluster.target.faults.busy({ lun: LUN, count: intBetween(rng, 1, 20) });
    await sleep(cluster.clock, intBetween(rng, 100, 1_000));
    fault.remove();
  },
  'target restarts': async (cluster, rng) => {
    await cluster.restartTarget(intBetween(rng, 0, 2_000));
  },
  'target loses its power': async (cluster, rng) => {
    await cluster.restartTarget(intBetween(rng, 0, 2_000), true);
  },
};

/** Does one misfortune after the other, sometimes two at a time, until `untilMs`, and notes them in `log`. */
export async function misfortunes(
  cluster: SimCluster,
  rng: Rng,
  untilMs: number,
  log: string[],
  only?: readonly string[],
): Promise<void> {
  const names = only ?? Object.keys(MISFORTUNES);
  const stream = async (): Promise<void> => {
    while (cluster.clock.nowMs() < untilMs) {
      await sleep(cluster.clock, intBetween(rng, 10, PAUSE_MS_MAX));
      const name = pick(rng, names);
      log.push(`${cluster.clock.nowMs().toFixed(0)} ${name}`);
      await MISFORTUNES[name]!(cluster, rng);
    }
  };
  await Promise.all([stream(), stream()]);
}
