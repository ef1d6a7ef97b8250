import type { Bus } from '#bus/bus.ts';
import type { RoleName } from '#config/derive.ts';
import type { OrionConfig } from '#config/schema.ts';
import type { Clock } from '#core/clock.ts';
import type { Rng } from '#core/rng.ts';
import type { LocalWorkers } from '#link/host.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Network } from '#wire/network.ts';

/** What every service is built from. */
export interface ServiceDeps {
  readonly config: OrionConfig;
  /** "n1-w0": stable over restarts. */
  readonly id: string;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly network: Network;
  readonly rng: Rng;
  readonly log: Logger;
  /** Workers of this same process, in the embedded mode. */
  readonly local?: LocalWorkers;
}

export interface RunningService {
  /** Drains: what is under way is finished, sessions are logged out. */
  close(): Promise<void>;
}

export interface RunningGateway extends RunningService {
  /** Calls with a volume's addresses once it can be read; at once for those that can already. */
  onReady(fn: (volume: string, uris: string[]) => void): void;
}

export type ReadyListener = (volume: string, uris: readonly string[]) => void;

/** Starts a service; its code is loaded only by the process that runs it. */
export async function startService(
  role: RoleName,
  deps: ServiceDeps,
  onReady: ReadyListener,
): Promise<RunningService> {
  switch (role) {
    case 'coordinator':
      return (await load<CoordinatorModule>('../coordinator/app.ts')).startCoordinator(deps);
    case 'worker':
      return (await load<WorkerModule>('../worker/app.ts')).startWorker(deps);
    case 'gateway': {
      const gateway = await (await load<GatewayModule>('../gateway/app.ts')).startGateway(deps);
      gateway.onReady(onReady);
      return gateway;
    }
  }
}

interface CoordinatorModule {
  startCoordinator(deps: ServiceDeps): Promise<RunningService>;
}
interface WorkerModule {
  startWorker(deps: ServiceDeps): Promise<RunningService>;
}
interface GatewayModule {
  startGateway(deps: ServiceDeps): Promise<RunningGateway>;
}

function load<T>(path: string): Promise<T> {
  return import(path) as Promise<T>;
}
