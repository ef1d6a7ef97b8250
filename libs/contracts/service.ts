import type { Bus } from '../bus/bus.ts';
import type { OrionConfig } from '../config/schema.ts';
import type { Clock } from '../core/clock.ts';
import type { Rng } from '../core/rng.ts';
import type { Workload } from '../core/workload.ts';
import type { LocalWorkers } from '../link/host.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Network } from '../wire/network.ts';

/** Everything a service needs from outside; the simulation gives other ones than production. */
export interface ServiceDeps {
  readonly config: OrionConfig;
  /** "n1-w0": stable over restarts. */
  readonly id: string;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly network: Network;
  /** Where the service counts the requests that it works on, when somebody wants to know. */
  readonly workload?: Workload;
  readonly rng: Rng;
  readonly log: Logger;
  /** Workers of this same process, when there are any: they register here, and the gateway calls them plainly. */
  readonly local?: LocalWorkers;
}

export interface RunningService {
  /** Drains and stops. */
  close(): Promise<void>;
}

export interface RunningGateway extends RunningService {
  /** Called once per volume when it can be read: where clients find it ("nbd://127.0.0.1:10809/vol1"). */
  onReady(fn: (volume: string, uris: readonly string[]) => void): void;
}
