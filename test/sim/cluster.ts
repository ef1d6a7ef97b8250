import type { Bus } from '#bus/bus.ts';
import { MemoryBusHub } from '#bus/memory/hub.ts';
import { loadConfig } from '#config/load.ts';
import type { OrionConfig } from '#config/schema.ts';
import type { RunningService, ServiceDeps } from '#contracts/service.ts';
import { type Rng, seededRng } from '#core/rng.ts';
import { startTarget, type Target, type TargetBehaviour } from '#target/target.ts';
import { createLogger } from '#telemetry/log.ts';
import { MemoryNetwork } from '#testkit/memory-network.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { startCoordinator } from '../../services/coordinator/app.ts';
import { GatewayCore } from '../../services/gateway/core.ts';
import type { Volume } from '../../services/gateway/volume.ts';
import { startWorker } from '../../services/worker/app.ts';

export const VOLUME = 'v';
export const LUN = 1;
export const TARGET_HOST = 'target';

export interface SimOptions {
  readonly seed: number;
  readonly workers?: number;
  readonly gateways?: number;
  readonly behaviour?: TargetBehaviour;
  /** The target has a write cache, which it loses with its power. */
  readonly writeCache?: boolean;
  /** False switches the protection off, to see that the judge then finds what it must. */
  readonly fencing?: boolean;
  readonly sizeBytes?: number;
  /** Lines of the services' logs go here. */
  readonly onLog?: (line: string) => void;
}

interface Process {
  readonly id: string;
  readonly bus: Bus;
  readonly service: RunningService;
}

/** A whole cluster in one process, under a virtual clock: target, workers, coordinator, gateways, bus and network. */
export class SimCluster {
  readonly clock = new VirtualClock();
  readonly rng: Rng;
  readonly network: MemoryNetwork;
  readonly hub: MemoryBusHub;
  config: OrionConfig;
  target!: Target;
  /** The target loses what was not flushed, now. */
  onCacheLost: () => void = () => {};
  /** A volume came into service of which nobody remembers anything: the records are gone, and all who had served it. */
  onForgotten: () => void = () => {};
  /** Workers that knew the volume when the records were lost, and have lived since. */
  #remembering: Set<string> | null = null;
  /** Processes that have no bus now. */
  #cutOff = new Set<string>();
  readonly #options: SimOptions;
  readonly #processes = new Map<string, Process>();
  readonly #cores = new Map<string, GatewayCore>();
  #restart: Promise<void> | null = null;
  readonly #ready = new Map<string, Volume>();

  constructor(options: SimOptions) {
    this.#options = options;
    this.rng = seededRng(options.seed);
    const split = (): Rng => seededRng(this.rng.u32());
    this.network = new MemoryNetwork(this.clock, split(), {
      latencyMinMs: 0.05,
      latencyMaxMs: 0.5,
      onDestroy: 'part',
    });
    this.hub = new MemoryBusHub({
      clock: this.clock,
      rng: split(),
      knobs: { delayMs: { min: 0.1, max: 1 } },
    });
    this.config = simConfig(options, [3260, 3261]);
  }

  get workerIds(): string[] {
    return Array.from({ length: this.#options.workers ?? 2 }, (_, i) => `n1-w${i}`);
  }

  get gatewayIds(): string[] {
    return Array.from({ length: this.#options.gateways ?? 1 }, (_, i) => `n1-g${i}`);
  }

  isUp(id: string): boolean {
    return this.#processes.has(id);
  }

  async start(): Promise<void> {
    const portals = [3260, 3261].map((port) => ({
      address: { kind: 'tcp' as const, host: TARGET_HOST, port },
    }));
    this.target = await startTarget({
      network: this.network.host(TARGET_HOST),
      clock: this.clock,
      rng: seededRng(this.rng.u32()),
      targetName: this.config.targets[0]!.name,
      portals,
      luns: [
        {
          lun: LUN,
          sizeBytes: this.#options.sizeBytes ?? 1024 * 1024,
          writeCache: this.#options.writeCache ?? false,
        },
      ],
      behaviour: this.#options.behaviour ?? {},
      recordWrites: true,
    });
    await this.startCoordinator();
    for (const id of this.workerIds) await this.startWorker(id);
    for (const id of this.gatewayIds) this.startGateway(id);
  }

  #deps(id: string, bus: Bus): ServiceDeps {
    const { onLog } = this.#options;
    const write = (line: string): void => onLog?.(`${this.clock.nowMs().toFixed(1)} ${line}`);
    return {
      config: this.config,
      id,
      bus,
      clock: this.clock,
      network: this.network.host(id),
      rng: seededRng(this.rng.u32()),
      log: createLogger({
        level: onLog === undefined ? 'silent' : 'debug',
        pretty: false,
        name: id,
        destination: { write },
      }),
    };
  }

  /** Takes the bus from these processes, and gives it back to any other that had none. */
  cutFromBus(...ids: string[]): void {
    this.#cutOff = new Set(ids);
    this.hub.partition([ids]);
  }

  healBus(): void {
    this.#cutOff = new Set();
    this.hub.heal();
  }

  /** The store of the bus loses all records. */
  wipeBus(): void {
    // Who has started since an earlier loss has not served yet.
    this.#remembering ??= new Set(this.workerIds.filter((id) => this.isUp(id)));
    this.hub.wipe();
  }

  /** One restart at a time; another one asked for meanwhile is the same one. */
  restartTarget(downMs: number, loseCache = false): Promise<void> {
    if (this.#restart !== null) return this.#restart;
    if (loseCache) this.onCacheLost();
    this.#restart = this.target.restart({ downMs, loseCache }).finally(() => {
      this.#restart = null;
    });
    return this.#restart;
  }

  async startCoordinator(): Promise<void> {
    const id = 'n1-c0';
    const bus = this.hub.connect(id);
    this.#processes.set(id, { id, bus, service: await startCoordinator(this.#deps(id, bus)) });
  }

  async startWorker(id: string): Promise<void> {
    this.network.startHost(id);
    const bus = this.hub.connect(id);
    this.#processes.set(id, { id, bus, service: await startWorker(this.#deps(id, bus)) });
  }

  startGateway(id: string): void {
    this.network.startHost(id);
    const bus = this.hub.connect(id);
    const core = new GatewayCore(this.#deps(id, bus), (volume) => {
      const nobody = [...(this.#remembering ?? [])].every((worker) => this.#cutOff.has(worker));
      if (this.#remembering !== null && nobody) this.onForgotten();
      this.#remembering = null;
      this.#ready.set(id, volume);
    });
    core.start();
    this.#cores.set(id, core);
    this.#processes.set(id, { id, bus, service: core });
  }

  /**
   * The process is gone from one moment to the next. Its objects live on unreachable: no network, no bus; what its
   * sockets had sent may still arrive.
   */
  async crash(id: string): Promise<void> {
    const process = this.#processes.get(id);
    if (process === undefined) return;
    this.#processes.delete(id);
    this.#remembering?.delete(id);
    this.#ready.delete(id);
    this.#cores.delete(id);
    this.network.crashHost(id);
    await process.bus.close();
  }

  /** What processes that start from now on are told. */
  reconfigure(ports: readonly number[]): void {
    this.config = simConfig(this.#options, ports);
  }

  /** Where gateways serve the volume, as they see it: one that is cut off may believe so wrongly. */
  get volumes(): readonly Volume[] {
    return [...this.#ready]
      .filter(([id, volume]) => this.#cores.get(id)?.volume(VOLUME) === volume)
      .map(([, volume]) => volume);
  }

  get volume(): Volume | undefined {
    return this.volumes[0];
  }

  /** Lets time pass until the promise settles. */
  during<T>(promise: Promise<T>, maxMs = 120_000): Promise<T> {
    return this.clock.during(promise, maxMs);
  }

  async stop(): Promise<void> {
    const closing = [...this.#processes.values()].map(({ service }) => service.close());
    await this.during(Promise.allSettled(closing));
    await this.during(this.target.close());
  }
}

function simConfig(options: SimOptions, ports: readonly number[]): OrionConfig {
  const fence = options.fencing === false ? 'fence = "none"\nallow_unsafe = true' : '';
  const text = `
[node]
name = "n1"
state_dir = "/sim"
[workers]
link_listen = ["{id}:7000"]
[[targets]]
name = "iqn.2026-11.sim:disk"
portals = [${ports.map((port) => `"${TARGET_HOST}:${port}"`).join(', ')}]
[[volumes]]
name = "${VOLUME}"
target = "iqn.2026-11.sim:disk"
lun = ${LUN}
policy = "round-robin"
${fence}
`;
  return loadConfig({ file: 'sim.toml', readFile: () => text, hostname: 'sim' }).config;
}
