import { readFileSync } from 'node:fs';
import { byteDevice } from '#block/byte-device.ts';
import type { BlockDevice } from '#block/device.ts';
import { type StatsDevice, statsFilter } from '#block/filters/stats.ts';
import { traceFilter } from '#block/filters/trace.ts';
import type { RunningGateway, ServiceDeps } from '#contracts/service.ts';
import { NBD_PORT } from '#nbd/constants.ts';
import { NbdServer } from '#nbd/server.ts';
import { MetricsRegistry } from '#telemetry/metrics.ts';
import { registerProcessMetrics } from '#telemetry/process-metrics.ts';
import { createSampler, startTracing } from '#telemetry/traces.ts';
import { registerVolumeMetrics } from '#telemetry/volume-metrics.ts';
import { sharedPool } from '#wire/buffer-pool.ts';
import { type Address, formatAddress, type Listener, parseAddress } from '#wire/network.ts';
import { GatewayCore } from './core.ts';
import { checkListenAddress, listenHttp } from './http/listen.ts';
import { createHttpServer } from './http/server.ts';
import type { VolumeHandle } from './http/volumes.ts';
import { registerGatewayMetrics } from './metrics.ts';
import type { Volume } from './volume.ts';

/** What clients have in flight may take this long when the gateway stops. */
const DRAIN_TIMEOUT_MS = 10_000;

/** A volume as the front doors see it. */
interface Served {
  readonly volume: Volume;
  readonly stats: StatsDevice;
  readonly device: BlockDevice;
}

function programVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** A gateway: owns volumes and hands them out over NBD and HTTP. */
export async function startGateway(deps: ServiceDeps): Promise<RunningGateway> {
  const { config, id, clock, network, rng, log } = deps;
  const version = programVersion();
  const served = new Map<string, Served>();
  const readyListeners: ((volume: string, uris: readonly string[]) => void)[] = [];
  const metrics = new MetricsRegistry(clock);
  const stopProcessMetrics = registerProcessMetrics(metrics, { version, role: 'gateway' });
  const { otlp_endpoint: endpoint, sample_ratio: ratio } = config.telemetry;
  const tracing = startTracing({
    endpoint,
    service: 'orion-gateway',
    resource: { 'service.instance.id': id, 'host.name': config.node.name },
    clock,
  });
  const sampler = createSampler(tracing.enabled ? ratio : 0, rng);

  const core = new GatewayCore(deps, (volume) => {
    const stats = statsFilter(volume.device, { clock });
    const traced = tracing.enabled ? traceFilter(stats, { clock, stage: 'volume' }) : stats;
    // One for all front doors: its lock makes unaligned writes safe against each other only there.
    const device = byteDevice(traced);
    served.set(volume.name, { volume, stats, device });
    log.info({ volume: volume.name, sizeBytes: device.caps.sizeBytes }, 'volume ready');
    for (const fn of readyListeners) fn(volume.name, uris(volume.name));
  });
  /** Only what this gateway owns at this moment. */
  const current = (name: string): Served | undefined => {
    const entry = served.get(name);
    return entry !== undefined && core.volume(name) === entry.volume ? entry : undefined;
  };
  const all = (): Served[] =>
    [...served.keys()].map(current).filter((entry) => entry !== undefined);
  registerVolumeMetrics(metrics, () =>
    all().map(({ volume, stats }) => ({ volume: volume.name, counters: stats.counters })),
  );
  const describe = (name: string): string =>
    config.volumes.find((volume) => volume.name === name)?.description ?? '';

  const nbd = new NbdServer({
    network,
    clock,
    pool: sharedPool,
    exports: {
      list: () => all().map(({ volume: { name } }) => ({ name, description: describe(name) })),
      find: (name) => {
        const only = served.size === 1 ? [...served.keys()][0]! : '';
        const entry = current(name === '' ? only : name);
        if (entry === undefined) return null;
        const { volume, device } = entry;
        return { name: volume.name, description: describe(volume.name), device };
      },
      whyNot: (name) =>
        core.starting.includes(name)
          ? `the volume "${name}" has no usable path yet: connect again in a moment`
          : null,
    },
    ...(deps.workload === undefined ? {} : { workload: deps.workload }),
    ...(ratio > 0 && tracing.enabled ? { onRequest: () => sampler.sample() } : {}),
    onEvent: (event) => log.debug(event, 'nbd'),
  });
  registerGatewayMetrics(metrics, { nbd, core });

  const handle = ({ volume, device }: Served): VolumeHandle => ({
    name: volume.name,
    description: describe(volume.name),
    device,
    state: volume.ready ? 'active' : 'sealing',
    info: () => ({ ...volume.status(), paths: volume.pathStatus() }),
  });
  const http = createHttpServer({
    volumes: {
      list: () => all().map(handle),
      get: (name) => {
        const entry = current(name);
        return entry === undefined ? undefined : handle(entry);
      },
      isStarting: (name) => core.starting.includes(name),
    },
    pool: sharedPool,
    clock,
    metrics,
    log,
    version,
    sampler,
    readiness: () => {
      const checks = [
        { name: 'bus', ok: deps.bus.status === 'connected', detail: deps.bus.status },
        {
          name: 'volumes',
          // One that cannot be served must not take the others out of a load balancer.
          ok: core.starting.length < config.volumes.length || config.volumes.length === 0,
          detail: core.starting.length === 0 ? 'served' : `starting: ${core.starting.join(' ')}`,
        },
        { name: 'workers', ok: core.workersAlive > 0, detail: `${core.workersAlive} alive` },
      ];
      return { ready: checks.every(({ ok }) => ok), checks };
    },
    status: async () => core.status(),
  });

  const nbdListeners: Listener[] = [];
  for (const text of config.gateway.nbd_listen) {
    nbdListeners.push(await nbd.listen(parseAddress(text, NBD_PORT)!));
  }
  await listenHttp(http, checkListenAddress(config.gateway.http_listen, config.gateway.insecure));
  const httpAddress = http.server.address();
  const httpBase =
    httpAddress !== null && typeof httpAddress === 'object'
      ? `http://${hostOf(config.gateway.http_listen)}:${httpAddress.port}`
      : '';

  const uris = (volume: string): string[] => [
    ...nbdListeners.map(({ address }) => nbdUri(address, volume)),
    ...(httpBase === '' ? [] : [`${httpBase}/v1/volumes/${volume}`]),
  ];

  core.start();
  log.info({ nbd: nbdListeners.map(({ address }) => formatAddress(address)) }, 'gateway started');

  return {
    onReady(fn) {
      readyListeners.push(fn);
      for (const { volume } of all()) fn(volume.name, uris(volume.name));
    },
    async close() {
      await Promise.all([nbd.drain(DRAIN_TIMEOUT_MS), http.close()]);
      await core.close();
      stopProcessMetrics();
      await tracing.close();
      log.info('gateway stopped');
    },
  };
}

function hostOf(listen: string): string {
  return listen.slice(0, listen.lastIndexOf(':'));
}

/** NBD URI (doc/uri.md of the NBD project). */
function nbdUri(address: Address, volume: string): string {
  if (address.kind === 'unix') return `nbd+unix:///${volume}?socket=${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `nbd://${host}:${address.port}/${volume}`;
}
