import type { KeyValue, KvEntry, Subscription } from '#bus/bus.ts';
import { Membership } from '#cluster/membership.ts';
import { volumePlans } from '#config/derive.ts';
import { checked } from '#contracts/check.ts';
import {
  type Heartbeat,
  type ProcessStatus,
  type ReconnectReply,
  ReconnectRequest,
} from '#contracts/messages.ts';
import { VolumeRecord } from '#contracts/records.ts';
import type { ServiceDeps } from '#contracts/service.ts';
import { subjects } from '#contracts/subjects.ts';
import { every, sleep, type Timer } from '#core/clock.ts';
import { errorText } from '#core/errors.ts';
import { hexId } from '#core/rng.ts';
import { gatewayErrors } from './errors.ts';
import { Ownership } from './ownership.ts';
import { Volume } from './volume.ts';
import { Workers } from './workers.ts';

/** Watches are hints: the records are read anew this often. */
const RESYNC_PERIOD_MS = 3_000;
const BUS_RETRY_MS = 500;

const VOLUME_PREFIX = 'vol.';

/** A gateway without its front doors: which volumes it owns, and their owners. */
export class GatewayCore {
  readonly incarnation: string;
  readonly #deps: ServiceDeps;
  readonly #startedMs: number;
  readonly #membership: Membership;
  readonly #workers: Workers;
  readonly #volumes = new Map<string, Volume>();
  readonly #plans: ReadonlyMap<string, ReturnType<typeof volumePlans>[number]>;
  readonly #onReady: (volume: Volume) => void;
  readonly #stop = new AbortController();
  /** Volumes that this process has served. */
  readonly #known = new Set<string>();
  /** Volumes that have an owner, here or elsewhere, as far as we have heard. */
  readonly #placed = new Set<string>();
  #kv: KeyValue | null = null;
  #watch: Subscription | null = null;
  #resync: Timer | null = null;
  readonly #served: readonly Subscription[];
  #draining = false;

  constructor(deps: ServiceDeps, onReady: (volume: Volume) => void) {
    const { config, id, bus, clock, network, rng } = deps;
    const { cluster } = config.node;
    this.#deps = deps;
    this.#onReady = onReady;
    this.#startedMs = clock.nowMs();
    this.incarnation = hexId(rng, 8);
    this.#plans = new Map(volumePlans(config).map((plan) => [plan.volume.name, plan]));
    const subject = subjects(cluster);
    this.#membership = new Membership({
      bus,
      subjects: subject,
      clock,
      self: () => this.#heartbeat(),
    });
    this.#workers = new Workers({
      bus,
      subjects: subject,
      clock,
      network,
      membership: this.#membership,
      hello: { cluster, id, incarnation: this.incarnation },
      local: deps.local,
      onLinkLost: (worker, cause) => {
        if (this.#draining) return;
        deps.log.warn({ worker, err: errorText(cause) }, 'link to a worker lost');
      },
    });
    this.#served = [
      bus.serve(subject.status(id), async () => this.status()),
      bus.serve(subject.reconnect(id), ({ data }) =>
        this.#reconnect(checked(ReconnectRequest, data, 'reconnect')),
      ),
    ];
  }

  /** Begins to take over what the records give us. Returns at once; the bus may still be on its way. */
  start(): void {
    this.#membership.start();
    this.#open().catch((error) => {
      this.#deps.log.error({ err: errorText(error) }, 'the gateway cannot read its records');
    });
  }

  volume(name: string): Volume | undefined {
    return this.#volumes.get(name);
  }

  get volumes(): readonly Volume[] {
    return [...this.#volumes.values()];
  }

  /** Volumes of the configuration that nobody owns yet, or that we are still taking over. */
  get starting(): readonly string[] {
    return [...this.#plans.keys()].filter(
      (name) => !this.#placed.has(name) || this.#volumes.get(name)?.ready === false,
    );
  }

  get workersAlive(): number {
    return this.#workers.alive().length;
  }

  async #open(): Promise<void> {
    const { bus, clock, config, log } = this.#deps;
    const { bucket } = subjects(config.node.cluster);
    while (!this.#stop.signal.aborted) {
      try {
        this.#kv = await bus.keyValue(bucket);
        this.#watch = await this.#kv.watch(VOLUME_PREFIX, (entry) => this.#reconcile(entry));
        this.#resync = every(clock, RESYNC_PERIOD_MS, () => this.#readAll());
        return;
      } catch (error) {
        log.warn({ err: errorText(error) }, 'waiting for the bus');
        await sleep(clock, BUS_RETRY_MS, this.#stop.signal).catch(() => {});
      }
    }
  }

  #readAll(): void {
    const kv = this.#kv!;
    const read = async (): Promise<void> => {
      for (const key of await kv.keys(VOLUME_PREFIX)) {
        const entry = await kv.get(key);
        if (entry !== null) this.#reconcile(entry);
      }
    };
    // Without the bus nothing can have changed that we could act on; I/O goes on.
    read().catch((error) => this.#deps.log.debug({ err: errorText(error) }, 'resync failed'));
  }

  #reconcile(entry: KvEntry): void {
    if (this.#draining || entry.value === null) return;
    let record: VolumeRecord;
    try {
      record = checked(VolumeRecord, entry.value, `record ${entry.key}`);
    } catch (error) {
      this.#deps.log.error({ err: errorText(error) }, 'a volume record is not readable');
      return;
    }
    this.#placed.add(record.name);
    const mine = record.owner === this.#deps.id && record.ownerIncarnation === this.incarnation;
    const current = this.#volumes.get(record.name);
    if (current !== undefined) {
      if (mine && record.epoch === current.epoch) return;
      if (record.epoch < current.epoch) return; // an old copy
      this.#giveUp(current);
    }
    if (mine) this.#takeOver(record, entry.revision);
  }

  #takeOver(record: VolumeRecord, revision: number): void {
    const { id, clock, rng, log, config } = this.#deps;
    const plan = this.#plans.get(record.name);
    if (plan === undefined) {
      log.error({ volume: record.name }, 'this gateway was given a volume that it does not know');
      return;
    }
    const volume = new Volume({
      plan,
      ownership: new Ownership(this.#kv!, id, this.incarnation, record, revision),
      workers: this.#workers,
      clock,
      rng,
      log,
      node: config.node.name,
      iscsi: config.iscsi,
      knownHere: this.#known.has(record.name),
      onReady: (ready) => {
        this.#known.add(ready.name);
        this.#onReady(ready);
      },
      onLostOwnership: (lost) => this.#giveUp(lost),
    });
    this.#volumes.set(record.name, volume);
    log.info({ volume: record.name, epoch: record.epoch }, 'taking a volume over');
    volume.activate().catch((error) => {
      log.error({ volume: record.name, err: errorText(error) }, 'taking a volume over failed');
      this.#giveUp(volume);
    });
  }

  #giveUp(volume: Volume): void {
    if (this.#volumes.get(volume.name) === volume) this.#volumes.delete(volume.name);
    volume.close({ release: false }).catch((error) => {
      this.#deps.log.warn(
        { volume: volume.name, err: errorText(error) },
        'closing a volume failed',
      );
    });
  }

  #heartbeat(): Heartbeat {
    const { config, id, clock } = this.#deps;
    return {
      role: 'gateway',
      id,
      incarnation: this.incarnation,
      node: config.node.name,
      pid: process.pid,
      uptimeMs: clock.nowMs() - this.#startedMs,
      link: '',
      load: 0,
      draining: this.#draining,
    };
  }

  status(): ProcessStatus {
    const { config, id, clock } = this.#deps;
    return {
      role: 'gateway',
      id,
      node: config.node.name,
      pid: process.pid,
      uptimeMs: clock.nowMs() - this.#startedMs,
      leader: false,
      sessions: [],
      paths: this.volumes.flatMap((volume) => volume.pathStatus()),
      volumes: this.volumes.map((volume) => volume.status()),
    };
  }

  async #reconnect({ volume: name, slot }: ReconnectRequest): Promise<ReconnectReply> {
    const volume = this.#volumes.get(name);
    if (volume === undefined) {
      throw gatewayErrors.make('GATEWAY_NO_PATH', { fields: { volume: name, slot } });
    }
    this.#deps.log.info({ volume: name, slot }, 'a path is logged in anew, as asked');
    return volume.reconnect(slot);
  }

  /** Lets go of everything in good order: what is in flight finishes, sessions are logged out. */
  async close(): Promise<void> {
    this.#draining = true;
    this.#stop.abort();
    this.#resync?.cancel();
    this.#watch?.unsubscribe();
    await Promise.allSettled(this.volumes.map((volume) => volume.close({ release: true })));
    this.#volumes.clear();
    this.#membership.stop();
    for (const subscription of this.#served) subscription.unsubscribe();
    await this.#workers.close();
  }
}
