import { PathState } from '#multipath/path.ts';
import type { NbdServer } from '#nbd/server.ts';
import type { MetricsRegistry } from '#telemetry/metrics.ts';
import { sharedPool } from '#wire/buffer-pool.ts';
import type { GatewayCore } from './core.ts';

export interface GatewaySources {
  readonly nbd: NbdServer;
  readonly core: GatewayCore;
}

/** Paths, failovers, clients and buffers of a gateway, read from plain counters when they are scraped. */
export function registerGatewayMetrics(metrics: MetricsRegistry, sources: GatewaySources): void {
  const { nbd, core } = sources;
  metrics.gauge('orion_path_state', 'State of each path: 1 for the one it is in', () =>
    core.volumes.flatMap((volume) =>
      volume.pathStatus().flatMap((path) =>
        Object.values(PathState).map((state) => ({
          labels: { volume: volume.name, path: String(path.slot), state },
          value: path.state === state ? 1 : 0,
        })),
      ),
    ),
  );
  metrics.counterFrom('orion_failovers_total', 'Paths that were lost', () =>
    core.volumes.map((volume) => ({
      labels: { volume: volume.name },
      value: volume.status().failovers,
    })),
  );
  metrics.gauge('orion_held_writes', 'Writes of unknown outcome that wait for a fence', () =>
    core.volumes.map((volume) => ({
      labels: { volume: volume.name },
      value: volume.status().heldWrites,
    })),
  );
  metrics.gauge('orion_lease_epoch', 'Epoch in which the volume is owned', () =>
    core.volumes.map((volume) => ({ labels: { volume: volume.name }, value: volume.epoch })),
  );
  metrics.gauge('orion_connections', 'Clients that are connected', () => [
    { labels: { proto: 'nbd' }, value: nbd.connections().length },
  ]);
  metrics.gauge('orion_buffer_pool_taken_bytes', 'Pooled buffers in use', () => [
    { labels: {}, value: sharedPool.takenBytes },
  ]);
}
