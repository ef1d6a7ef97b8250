import type { BlockCapabilities } from '#block/device.ts';
import { Failover, type FailoverPorts } from '#cluster/failover.ts';
import { placeSlots, rankWorkers, type SlotPlacement } from '#cluster/placement.ts';
import type { VolumePlan } from '#config/derive.ts';
import type { OrionConfig } from '#config/schema.ts';
import type { ClaimReply, PathStatus, VolumeStatus } from '#contracts/messages.ts';
import type { SlotRecord } from '#contracts/records.ts';
import { type Clock, every, type Timer } from '#core/clock.ts';
import { errorText, isOrionError } from '#core/errors.ts';
import type { Rng } from '#core/rng.ts';
import { MultipathDevice } from '#multipath/device.ts';
import { multipathErrors } from '#multipath/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { askAfterReset } from './after-reset.ts';
import { CacheRecord, withCache } from './cache-record.ts';
import { gatewayErrors } from './errors.ts';
import { giveBack } from './give-back.ts';
import type { Ownership } from './ownership.ts';
import { pathStatus } from './path-status.ts';
import { PathTroubles } from './path-troubles.ts';
import { type Moved, reconnectPath, WORKING } from './reconnect.ts';
import { Takeover } from './takeover.ts';
import { volumeCaps } from './volume-caps.ts';
import type { Workers } from './workers.ts';

/** Longer logins than this would make every failover long; a shorter session_timeout counts. */
const CLAIM_TIMEOUT_MS_MAX = 5_000;
const RESET_TIMEOUT_MS = 10_000;
const ORDER_TIMEOUT_MS = 1_000;
const RETIRE_TIMEOUT_MS = 5_000;

/** How often the places of paths are compared with where they would best be. */
const REBALANCE_PERIOD_MS = 3_000;

export interface VolumeOptions {
  readonly plan: VolumePlan;
  readonly ownership: Ownership;
  readonly workers: Workers;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Logger;
  readonly node: string;
  /** The [iscsi] table of the configuration. */
  readonly iscsi: OrionConfig['iscsi'];
  /** This process has served the volume before. */
  readonly knownHere: boolean;
  readonly onReady: (volume: Volume) => void;
  /** Another gateway owns it now. */
  readonly onLostOwnership: (volume: Volume) => void;
}

/**
 * The single active owner of one volume in one epoch: makes sure that nothing of an older epoch can still write, brings
 * its paths up, and brings each back when it is lost. I/O itself is the business of its multipath device.
 */
export class Volume implements FailoverPorts {
  readonly name: string;
  readonly #options: VolumeOptions;
  readonly #log: Logger;
  readonly #failover: Failover;
  readonly #troubles: PathTroubles;
  readonly #stop = new AbortController();
  #map: MultipathDevice | null = null;
  #quiesced: MultipathDevice | null = null;
  /** Own resets of the unit, and how many there had been when each slot logged in. */
  #resets = 0;
  readonly #resetsAtLogin = new Map<number, number>();
  /** Slots of paths that the configuration has no longer. */
  readonly #unwanted = new Set<number>();
  readonly #cache: CacheRecord;
  readonly #takeover: Takeover;
  #ready = false;
  #rebalancer: Timer | null = null;

  constructor(options: VolumeOptions) {
    const { plan, clock, rng } = options;
    this.name = plan.volume.name;
    this.#options = options;
    this.#log = options.log.child({ volume: this.name });
    this.#troubles = new PathTroubles(this.#log);
    this.#cache = new CacheRecord(options.ownership, this.#log);
    this.#takeover = new Takeover({
      ownership: options.ownership,
      workers: options.workers,
      log: this.#log,
      mayReset: plan.volume.allow_lun_reset,
      knownHere: options.knownHere,
      cache: this.#cache,
      recover: (slot, mustFence, onFenced) => void this.#recover(slot, mustFence, onFenced), // it handles what goes wrong
      onVouched: () => this.#map?.cacheIsWhole(),
      onOver: () => {
        this.#map?.unquiesce(false);
        this.#checkReady();
      },
    });
    this.#failover = new Failover({
      ports: this,
      clock,
      rng,
      signal: this.#stop.signal,
      fencing: plan.volume.fence !== 'none',
      quickTries: options.iscsi.session_retry_count,
      onEvent: (slot, text) => this.#log.info({ slot }, text),
      onFailed: (slot, error) => this.#troubles.notInService(slot, error),
      isFatal: (error) => isOrionError(error) && error.code === 'GATEWAY_NOT_OWNER',
      onFatal: (error) => this.#lostOwnership(error),
    });
  }

  /** The device that front doors use. Only once ready. */
  get device(): MultipathDevice {
    return this.#map!;
  }

  get ready(): boolean {
    return this.#ready;
  }

  get epoch(): number {
    return this.#options.ownership.epoch;
  }

  /** Takes the volume over: seals older epochs at the workers, fences what they cannot vouch for, and serves. */
  async activate(): Promise<void> {
    const { ownership, workers, clock } = this.#options;
    for (const { slot, state } of ownership.record.slots) {
      if (state === 'disabled') this.#unwanted.add(slot);
    }
    // Who served the volume before a record that was lost may be there, and not be heard yet.
    if (ownership.isNew) await workers.heard(this.#stop.signal).catch(() => {}); // closed meanwhile
    if (this.#stop.signal.aborted) return;
    await this.#takeover.begin();
    this.#rebalancer = every(clock, REBALANCE_PERIOD_MS, () => {
      this.#noteCache();
      this.#rebalance();
    });
  }

  #recover(slot: number, mustFence: boolean, onFenced?: () => void): Promise<void> {
    return this.#failover.recover(slot, mustFence, onFenced).catch((error) => {
      // recover handles what the world does to it; what comes here is a bug of ours.
      this.#log.error({ slot, err: errorText(error) }, 'recovery of a path broke');
      this.#lostOwnership(error);
    });
  }

  #checkReady(): void {
    const map = this.#map;
    const isOver = this.#takeover.isOver && !this.#stop.signal.aborted;
    if (map === null || map.readyCount === 0 || !isOver || this.#ready) return;
    this.#ready = true;
    this.#options.ownership
      .change((record) => withCache(map, { ...record, state: 'active' }))
      .then(
        () => this.#options.onReady(this),
        (error) => this.#lostOwnership(error),
      );
  }

  #lostOwnership(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#log.warn({ err: errorText(error) }, 'giving the volume up');
    this.#options.onLostOwnership(this);
  }

  // ---- FailoverPorts

  candidates(slot: number): readonly string[] {
    const { workers, ownership } = this.#options;
    const { worker: held } = ownership.slot(slot);
    const ranked = rankWorkers(this.#placement(true), slot);
    const best = placeSlots(this.#placement(false)).get(slot);
    // A worker that lives keeps what it had; one whose link broke a moment ago comes last.
    const score = (id: string): number => {
      if (workers.isSuspect(id)) return 3;
      if (id === held) return 0;
      return id === best ? 1 : 2;
    };
    return ranked.sort((a, b) => score(a) - score(b));
  }

  assign(slot: number, worker: string): Promise<SlotRecord> {
    const { ownership } = this.#options;
    const incarnation = ownership.slot(slot).incarnation + 1;
    return ownership.changeSlot(slot, { worker, incarnation, state: 'fencing', witness: false });
  }

  claim(record: SlotRecord, anyPortal: boolean): Promise<ClaimReply> {
    const { plan, workers, clock, iscsi } = this.#options;
    const timeoutMs = Math.min(iscsi.session_timeout, CLAIM_TIMEOUT_MS_MAX);
    const others = plan.portals.filter((portal) => portal !== record.portal);
    this.#resetsAtLogin.set(record.slot, this.#resets);
    return workers.claim(record.worker, {
      ...this.#order(record),
      target: plan.target,
      portals: anyPortal ? [...others, record.portal] : [record.portal],
      lun: plan.lun,
      timeoutMs,
      expiresWallMs: clock.wallMs() + timeoutMs,
    });
  }

  async verify(record: SlotRecord, reply: ClaimReply): Promise<void> {
    const { ownership } = this.#options;
    const { wwid } = ownership.record;
    const fields = { volume: this.name, slot: record.slot, found: reply.wwid, expected: wwid };
    if (wwid === '') await ownership.change((old) => ({ ...old, wwid: reply.wwid }));
    else if (wwid !== reply.wwid) throw gatewayErrors.make('GATEWAY_OTHER_UNIT', { fields });
    const caps = this.#map?.caps;
    if (caps === undefined || reply.sizeBytes === 0) return;
    const sizes = { sizeBytes: reply.sizeBytes, expectedBytes: caps.sizeBytes };
    if (sizes.sizeBytes < sizes.expectedBytes || caps.blockBytes !== reply.blockBytes) {
      throw multipathErrors.make('MULTIPATH_PATH_DIFFERS', { fields: { ...fields, ...sizes } });
    }
    // What the volume promises is still there; clients that are connected cannot be told of more.
    if (sizes.sizeBytes > sizes.expectedBytes) {
      this.#log.info(sizes, 'the LUN has grown: so does the volume, when all its paths show it');
    }
  }

  needsFence(slot: number): boolean {
    return this.#map?.needsFence(slot) ?? false;
  }

  async quiesce(timeoutMs: number): Promise<void> {
    // The first paths of a volume may come into service meanwhile: resume must end the hold that was begun, if any.
    this.#quiesced = this.#map;
    await this.#quiesced?.quiesce(timeoutMs);
  }

  resume(reset: boolean): void {
    if (reset) this.#resets += 1;
    this.#quiesced?.unquiesce(reset);
    this.#quiesced = null;
  }

  async resetUnit(record: SlotRecord): Promise<void> {
    const { plan, workers, ownership, clock } = this.#options;
    if (!plan.volume.allow_lun_reset) {
      throw gatewayErrors.make('GATEWAY_NO_FENCE', { fields: { volume: this.name } });
    }
    await workers.reset(record.worker, this.#order(record), RESET_TIMEOUT_MS);
    const others = ownership.record.slots.filter(
      (other) => other.slot !== record.slot && other.worker !== '',
    );
    // A worker that cannot be told is out of reach, and its path is on its way to be lost.
    await Promise.allSettled(
      others.map((other) => workers.afterReset(other.worker, this.#order(other), ORDER_TIMEOUT_MS)),
    );
    if (this.#quiesced !== null) await askAfterReset(this.#quiesced, clock, ORDER_TIMEOUT_MS);
  }

  async fenced(slot: number): Promise<void> {
    await this.#map?.fenced(slot);
  }

  async settle(slot: number, reply: ClaimReply): Promise<void> {
    const { tpgt } = reply;
    const map = this.#map;
    await this.#options.ownership.change((record) => {
      const slots = record.slots.map((old) =>
        old.slot === slot ? { ...old, state: 'assigned' as const, tpgt } : old,
      );
      return map === null ? { ...record, slots } : withCache(map, { ...record, slots });
    });
  }

  async serve(record: SlotRecord, reply: ClaimReply): Promise<void> {
    const { workers, ownership } = this.#options;
    if (this.#unwanted.delete(record.slot)) {
      // It was wanted for its fence alone.
      await this.release(record);
      await ownership.change((old) => ({
        ...old,
        slots: old.slots.filter(({ slot }) => slot !== record.slot),
      }));
      return this.#checkReady();
    }
    if (this.#map === null && reply.sizeBytes === 0) {
      const fields = { volume: this.name, slot: record.slot, access: reply.access?.state ?? '' };
      // No map holds it, so nobody else would let it go. A worker that does not answer ends it with the next claim.
      await this.release(record).catch(() => {});
      throw gatewayErrors.make('GATEWAY_SIZE_UNKNOWN', { fields });
    }
    const name = `${this.name}/${record.slot}`;
    const device = await workers.path(record.worker, name, this.#order(record), reply);
    if (this.#stop.signal.aborted) return;
    const map = this.#ensureMap(device.caps);
    this.#troubles.over(record.slot);
    const wasReset = this.#resetsAtLogin.get(record.slot) !== this.#resets;
    map.addPath(record.slot, device, { portal: reply.portal, worker: record.worker }, wasReset);
    this.#noteCache();
    this.#checkReady();
  }

  #noteCache(): void {
    if (this.#map !== null && this.#ready) this.#cache.note(this.#map);
  }

  release(record: SlotRecord): Promise<void> {
    return this.#options.workers.release(record.worker, this.#order(record), ORDER_TIMEOUT_MS);
  }

  #order(record: SlotRecord) {
    const { slot, incarnation } = record;
    return { volume: this.name, epoch: this.epoch, slot, incarnation };
  }

  #ensureMap(caps: BlockCapabilities): MultipathDevice {
    if (this.#map !== null) return this.#map;
    const { plan, clock, rng, iscsi } = this.#options;
    const { volume } = plan;
    this.#map = new MultipathDevice({
      name: volume.name,
      caps: volumeCaps(caps, volume.read_only),
      cacheMayBeLost: this.#takeover.inheritsLoss,
      clock,
      rng,
      policy: volume.policy,
      noPathRetryMs: volume.no_path_retry_ms,
      noPathQueueBytes: volume.no_path_queue_bytes,
      probeIdleMs: iscsi.target_health_check_interval * 1_000,
      // Before it is in service its record is still to be written.
      onCacheFound: async () => (this.#ready ? this.#cache.found(this.#map!) : undefined),
      onPathLost: (slot, cause) => {
        this.#troubles.lost(slot, cause);
        void this.#recover(slot, false);
      },
      onEvent: ({ kind, text, ...where }) => {
        const line = `${kind.replaceAll('-', ' ')}: ${text}`;
        if (kind === 'cache-may-be-lost') {
          this.#log.warn(where, line);
          this.#noteCache();
        } else if (kind !== 'path-lost') this.#log.info(where, line);
        if (kind === 'attention') this.#checkReady(); // the first path may serve from now on
      },
    });
    // Nothing is sent before everything of older epochs is fenced.
    if (!this.#takeover.isOver) this.#map.hold();
    return this.#map;
  }

  // ---- places

  /** `asIs`: with the slots where they are now; else as if none had a place yet. */
  #placement(asIs: boolean): SlotPlacement {
    const { ownership, workers, node } = this.#options;
    return {
      volume: this.name,
      slots: ownership.record.slots.map(({ slot, portal, worker }) => ({
        slot,
        portal,
        worker: asIs ? worker : '',
      })),
      workers: workers.alive().map(({ id, node: place }) => ({ id, node: place })),
      ownerNode: node,
    };
  }

  /** Moves one path that stands in the wrong place, in good order, when all is quiet and another path is there. */
  #rebalance(): void {
    const map = this.#map;
    const { ownership, workers } = this.#options;
    const { slots } = ownership.record;
    const working = map?.paths.filter(({ state }) => WORKING.has(state)).length ?? 0;
    if (map === null || this.#failover.busy || working < slots.length || slots.length < 2) return;
    const preferred = placeSlots(this.#placement(false));
    const wrong = slots.find(({ slot, worker, portal }) => {
      const entry = map.paths.find((path) => path.slot === slot);
      const place = preferred.get(slot);
      const misplaced = place != null && place !== worker && !workers.isSuspect(place);
      return misplaced || (entry !== undefined && entry.meta.portal !== portal);
    });
    if (wrong === undefined) return;
    this.#move(map, wrong, preferred.get(wrong.slot) ?? wrong.worker).catch((error) => {
      this.#log.warn({ slot: wrong.slot, err: errorText(error) }, 'planned move failed');
    });
  }

  /** Takes a path out in good order and brings it (back) up at `place`. Null: what is in flight does not end. */
  async #move(map: MultipathDevice, record: SlotRecord, place: string): Promise<Moved | null> {
    if (!(await map.retire(record.slot, RETIRE_TIMEOUT_MS))) return null;
    this.#log.info({ slot: record.slot, from: record.worker, to: place }, 'moving a path');
    let isBack: Promise<void> = Promise.resolve();
    try {
      await this.release(record);
      await this.#options.ownership.changeSlot(record.slot, { worker: place, state: 'idle' });
    } finally {
      isBack = this.#recover(record.slot, false);
    }
    return { isBack };
  }

  /** Logs a path in anew, on the order of an operator. Rejects when it was left as it was, or is not back. */
  reconnect(slot: number): ReturnType<typeof reconnectPath> {
    const { plan, clock, ownership } = this.#options;
    const { no_path_retry_ms: noPathRetryMs } = plan.volume;
    const move = (map: MultipathDevice): Promise<Moved | null> =>
      this.#move(map, ownership.slot(slot), ownership.slot(slot).worker);
    return reconnectPath({ volume: this.name, map: this.#map, clock, noPathRetryMs, move }, slot);
  }

  // ---- what people see

  status(): VolumeStatus {
    const { ownership, plan } = this.#options;
    const { record } = ownership;
    const map = this.#map;
    return {
      name: this.name,
      target: plan.target,
      lun: plan.lun,
      owner: record.owner,
      epoch: record.epoch,
      state: this.#ready ? 'active' : 'sealing',
      sizeBytes: map?.caps.sizeBytes ?? 0,
      blockBytes: map?.caps.blockBytes ?? 0,
      pathsReady: map?.readyCount ?? 0,
      pathsTotal: record.slots.length,
      failovers: map?.counters.failovers ?? 0,
      heldWrites: map?.heldWrites ?? 0,
    };
  }

  pathStatus(): PathStatus[] {
    const { record } = this.#options.ownership;
    return pathStatus(this.name, record.slots, this.#map, this.#troubles);
  }

  /** Stops serving. `release`: also lets go of the sessions, in good order. */
  async close(options: { readonly release: boolean }): Promise<void> {
    this.#stop.abort();
    this.#rebalancer?.cancel();
    if (options.release && this.#map !== null) {
      const { clock, ownership } = this.#options;
      await giveBack(this.#map, {
        clock,
        ownership,
        cache: this.#cache,
        log: this.#log,
        release: (record) => this.release(record),
      });
    }
    await this.#map?.close();
  }
}
