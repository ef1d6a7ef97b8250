import type { KeyValue } from '#bus/bus.ts';
import { checked } from '#contracts/check.ts';
import type {
  AfterResetRequest,
  ClaimReply,
  ClaimRequest,
  ReleaseRequest,
  ResetRequest,
  SealReply,
  SealRequest,
  SessionStatus,
} from '#contracts/messages.ts';
import { VolumeRecord } from '#contracts/records.ts';
import { volumeKey } from '#contracts/subjects.ts';
import { type Clock, sleep } from '#core/clock.ts';
import { isOrionError, type OrionError } from '#core/errors.ts';
import type { Rng } from '#core/rng.ts';
import { makeIsid } from '#iscsi/isid.ts';
import type { IscsiLun } from '#iscsi/lun.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { linkErrors } from '#link/errors.ts';
import type { PathHost } from '#link/host.ts';
import { AccessState } from '#multipath/access.ts';
import type { PathDevice } from '#multipath/path.ts';
import type { BufferPool } from '#wire/buffer-pool.ts';
import { CacheDoubt } from './cache-doubt.ts';
import { workerErrors } from './errors.ts';
import { LoginWaits } from './login-waits.ts';
import type { TargetLogins } from './target-logins.ts';

/** How often a seal looks whether the older epoch has drained. */
const DRAIN_POLL_MS = 5;

/** Time that the target has to empty its cache when an older epoch is sealed. */
const SEAL_FLUSH_MS = 2_000;

/** Time that an orderly logout may take before the connection is simply dropped. */
const LOGOUT_TIMEOUT_MS = 2_000;

const HANDLES = 0x10000;

/** A claim that does not hold any more. */
const CLAIM_LOST = new Set(['WORKER_CLAIM_STALE', 'WORKER_CLAIM_SUPERSEDED', 'LINK_EPOCH_STALE']);

export interface SlotTableOptions {
  readonly worker: string;
  readonly workerIncarnation: string;
  readonly cluster: string;
  readonly logins: TargetLogins;
  readonly sessionsMax: number;
  readonly connectTimeoutMs: number;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly pool: BufferPool;
  /** Opened lazily: where a claim is checked against the record that authorises it. */
  readonly records: () => Promise<KeyValue>;
  /** A login has worked, for the slot of this claim: before the session is used, so that nothing it says is missed. */
  readonly onSessionOpened?: (session: IscsiSession, claim: ClaimRequest) => void;
  readonly onSessionLost: (held: HeldSlot, cause: Error) => void;
}

/** A slot that this worker holds: one session, one LUN. */
export interface HeldSlot {
  readonly volume: string;
  readonly slot: number;
  readonly incarnation: number;
  readonly handle: number;
  readonly target: string;
  readonly epoch: number;
  readonly session: IscsiSession;
  readonly lun: IscsiLun;
  readonly cache: CacheDoubt;
}

interface Opened {
  readonly session: IscsiSession;
  readonly lun: IscsiLun;
  /** As the claim has it: a redirection may have led elsewhere from there. */
  readonly portal: string;
}

/**
 * The sessions of a worker. It logs in only on a claim that the volume's record in the key-value store confirms, never
 * on its own account, and drops what a newer claim or a newer epoch has taken from it.
 */
export class SlotTable implements PathHost {
  readonly #options: SlotTableOptions;
  readonly #held = new Map<string, HeldSlot>();
  readonly #byHandle: (HeldSlot | undefined)[] = [];
  /** Newest epoch seen per volume: frames and orders of older ones are refused (failover.md I8). */
  readonly #epochs = new Map<string, number>();
  /** Newest claim seen per slot. Incarnations count within an epoch: records that were lost begin again. */
  readonly #claims = new Map<string, { readonly epoch: number; readonly incarnation: number }>();
  readonly #waits: LoginWaits;
  #nextHandle = 1;

  constructor(options: SlotTableOptions) {
    this.#options = options;
    this.#waits = new LoginWaits(options.clock);
  }

  open(handle: number, incarnation: number, epoch: number): PathDevice {
    const held = this.#byHandle[handle];
    if (held === undefined || (held.incarnation & 0xffff) !== incarnation) {
      throw linkErrors.make('LINK_NO_SLOT', { fields: { handle, incarnation } });
    }
    if (epoch < this.#epochs.get(held.volume)!) {
      throw linkErrors.make('LINK_EPOCH_STALE', { fields: { volume: held.volume, epoch } });
    }
    return held.lun;
  }

  get heldCount(): number {
    return this.#held.size;
  }

  async claim(request: ClaimRequest): Promise<ClaimReply> {
    const { clock } = this.#options;
    const key = slotKey(request.volume, request.slot);
    const fields = { volume: request.volume, slot: request.slot, incarnation: request.incarnation };
    if (clock.wallMs() > request.expiresWallMs) {
      throw workerErrors.make('WORKER_CLAIM_EXPIRED', { fields });
    }
    this.#seeEpoch(request.volume, request.epoch);
    const { epoch, incarnation } = request;
    const last = this.#claims.get(key);
    if (last !== undefined && epoch === last.epoch && incarnation <= last.incarnation) {
      throw workerErrors.make('WORKER_CLAIM_STALE', { fields });
    }
    this.#claims.set(key, { epoch, incarnation });
    this.#drop(key, workerErrors.make('WORKER_CLAIM_SUPERSEDED', { fields }));
    if (this.#held.size >= this.#options.sessionsMax) {
      throw workerErrors.make('WORKER_SLOTS_MAX', { fields });
    }
    this.#waits.check(key, fields);
    await this.#confirm(request);
    this.#checkNewest(key, request);
    const opened = await this.#login(request);
    try {
      this.#checkNewest(key, request);
    } catch (error) {
      opened.session.destroy(error as OrionError);
      throw error;
    }
    return this.#hold(key, request, opened);
  }

  /** The record of the volume is the authority: without it no login (failover.md §4). */
  async #confirm(request: ClaimRequest): Promise<void> {
    const kv = await this.#options.records();
    const entry = await kv.get(volumeKey(request.volume));
    const record = entry === null ? null : checked(VolumeRecord, entry.value, 'volume record');
    const slot = record?.slots.find((candidate) => candidate.slot === request.slot);
    const confirmed =
      record?.epoch === request.epoch &&
      slot?.worker === this.#options.worker &&
      slot.incarnation === request.incarnation;
    if (!confirmed) {
      throw workerErrors.make('WORKER_CLAIM_STALE', {
        fields: { volume: request.volume, slot: request.slot, incarnation: request.incarnation },
      });
    }
  }

  /** Before each further login of a session: whether the claim that it was opened for still holds (failover.md §4). */
  async #mayContinue(request: ClaimRequest): Promise<boolean> {
    const key = slotKey(request.volume, request.slot);
    try {
      this.#checkNewest(key, request);
      await this.#confirm(request);
      this.#checkNewest(key, request);
      return true;
    } catch (error) {
      if (isOrionError(error) && CLAIM_LOST.has(error.code)) return false;
      throw error;
    }
  }

  #checkNewest(key: string, request: ClaimRequest): void {
    this.#seeEpoch(request.volume, request.epoch);
    const newest = this.#claims.get(key)!;
    if (newest.epoch !== request.epoch || newest.incarnation !== request.incarnation) {
      throw workerErrors.make('WORKER_CLAIM_SUPERSEDED', {
        fields: { volume: request.volume, slot: request.slot, incarnation: request.incarnation },
      });
    }
  }

  async #login(request: ClaimRequest): Promise<Opened> {
    const { clock, rng, pool, cluster, logins } = this.#options;
    const { target, slot, timeoutMs } = request;
    const { loginMs, ...login } = await logins.to(target);
    const options = {
      ...login,
      clock,
      rng,
      pool,
      targetName: target,
      isid: makeIsid(cluster, target, slot),
      timeouts: {
        connectMs: Math.min(this.#options.connectTimeoutMs, timeoutMs),
        loginMs: Math.min(loginMs, timeoutMs),
      },
    };
    const mayLogIn = (): Promise<boolean> => this.#mayContinue(request);
    const { session, portal } = await firstOf(request.portals, (text) =>
      openSession({ ...options, mayLogIn, portals: [logins.portal(target, text)] }),
    );
    this.#options.onSessionOpened?.(session, request);
    try {
      const deadlineMs = clock.nowMs() + timeoutMs;
      const profile = logins.profile(target);
      const lun = await attachLun(session, Buffer.from(request.lun, 'hex'), {
        deadlineMs,
        profile,
        allowUnsized: true,
      });
      return { session, lun, portal };
    } catch (error) {
      session.destroy(error as Error);
      this.#waits.note(slotKey(request.volume, slot), session);
      throw error;
    }
  }

  #hold(key: string, request: ClaimRequest, { session, lun, portal }: Opened): ClaimReply {
    const handle = this.#freeHandle();
    const { volume, slot, incarnation, epoch, target } = request;
    const cache = new CacheDoubt(lun, this.#options.clock);
    const held = { volume, slot, incarnation, handle, target, epoch, session, lun, cache };
    this.#held.set(key, held);
    this.#byHandle[handle] = held;
    session.onClosed((cause) => {
      this.#waits.note(key, session);
      // One that we let go of ourselves is not lost.
      if (this.#held.get(key) === held) this.#options.onSessionLost(held, cause);
      this.#forget(key, held);
    });
    const { identity, caps, access } = lun;
    return {
      handle,
      workerIncarnation: this.#options.workerIncarnation,
      portal,
      tpgt: session.remoteTpgt,
      sizeBytes: caps.sizeBytes,
      blockBytes: caps.blockBytes,
      wwid: identity.wwid,
      vendor: identity.vendor,
      product: identity.product,
      revision: identity.revision,
      caps: { ...caps },
      ...(access.state === AccessState.Any ? {} : { access: { ...access } }),
    };
  }

  async reset(request: ResetRequest): Promise<void> {
    const held = this.#require(request);
    for (const { cache } of this.#of(request.volume)) cache.wasReset();
    await held.lun.lunReset(request.timeoutMs);
    // Commands and reset went down one connection in this order, so these cannot come after it.
    held.lun.abandon();
  }

  /**
   * The unit was reset through another slot. A command of this one may have been ended without an answer, or may still be
   * in a socket and execute later: nobody can tell from here, so its outcome is unknown and the slot needs its own fence.
   */
  afterReset(request: AfterResetRequest): void {
    const { session, cache } = this.#require(request);
    cache.wasReset();
    if (session.stats.inflight === 0) return;
    const { volume, slot } = request;
    session.destroy(workerErrors.make('WORKER_RESET_ELSEWHERE', { fields: { volume, slot } }));
  }

  async release(request: ReleaseRequest): Promise<void> {
    const key = slotKey(request.volume, request.slot);
    const held = this.#held.get(key);
    if (held === undefined || held.incarnation !== request.incarnation) return;
    this.#forget(key, held);
    await held.session.logout({ timeoutMs: LOGOUT_TIMEOUT_MS });
  }

  /** Refuses older epochs from now on, and answers when nothing of them is in flight. */
  async seal(request: SealRequest): Promise<SealReply> {
    const { clock } = this.#options;
    this.#seeEpoch(request.volume, request.epoch);
    const deadlineMs = clock.nowMs() + request.timeoutMs;
    const mine = (): HeldSlot[] => this.#of(request.volume);
    // Commands of the older epoch are not taken to another connection any more: the session ends, and is fenced.
    for (const held of mine()) {
      if (!held.session.recovering) continue;
      const { volume, epoch } = request;
      held.session.destroy(linkErrors.make('LINK_EPOCH_STALE', { fields: { volume, epoch } }));
    }
    const inflight = (): number =>
      mine().reduce((sum, held) => sum + held.session.stats.inflight, 0);
    while (inflight() > 0) {
      if (clock.nowMs() >= deadlineMs) {
        const fields = { volume: request.volume, inflight: inflight() };
        throw workerErrors.make('WORKER_NOT_DRAINED', { fields });
      }
      await sleep(clock, DRAIN_POLL_MS);
    }
    const served = [...this.#claims.keys()].some((key) =>
      key.startsWith(slotKey(request.volume, '')),
    );
    const slots = await Promise.all(mine().map((held) => this.#sealed(held)));
    return { slots, inflight: 0, served };
  }

  /** What the older epoch had acknowledged is made durable while its session, which knows of a restart, still lives. */
  async #sealed(held: HeldSlot): Promise<SealReply['slots'][number]> {
    const { clock } = this.#options;
    const deadlineMs = clock.nowMs() + SEAL_FLUSH_MS;
    // The new owner counts what was not flushed as lost, and says so.
    const flushing = held.cache.flush({ deadlineMs, client: 'seal' }).catch(() => false);
    const flushed = await Promise.race([flushing, sleep(clock, SEAL_FLUSH_MS).then(() => false)]);
    return { slot: held.slot, incarnation: held.incarnation, flushed };
  }

  #of(volume: string): HeldSlot[] {
    return [...this.#held.values()].filter((held) => held.volume === volume);
  }

  sessions(nowMs: number): SessionStatus[] {
    return [...this.#held.values()].map((held) => ({
      volume: held.volume,
      slot: held.slot,
      incarnation: held.incarnation,
      target: held.target,
      portal: held.session.portal,
      worker: this.#options.worker,
      isid: held.session.isid.toString('hex'),
      tsih: held.session.tsih,
      state: String(held.session.state),
      ageMs: nowMs - held.session.openedAtMs,
      connections: held.session.connections().map((one) => ({ ...one })),
      ...held.session.stats,
    }));
  }

  async close(): Promise<void> {
    const all = [...this.#held.entries()];
    await Promise.allSettled(
      all.map(([key, held]) => {
        this.#forget(key, held);
        return held.session.logout({ timeoutMs: LOGOUT_TIMEOUT_MS });
      }),
    );
  }

  #require(request: {
    volume: string;
    epoch: number;
    slot: number;
    incarnation: number;
  }): HeldSlot {
    this.#seeEpoch(request.volume, request.epoch);
    const held = this.#held.get(slotKey(request.volume, request.slot));
    if (held === undefined || held.incarnation !== request.incarnation) {
      const { volume, slot, incarnation } = request;
      throw linkErrors.make('LINK_NO_SLOT', { fields: { volume, slot, incarnation } });
    }
    return held;
  }

  #seeEpoch(volume: string, epoch: number): void {
    const seen = this.#epochs.get(volume) ?? 0;
    if (epoch < seen) {
      throw linkErrors.make('LINK_EPOCH_STALE', { fields: { volume, epoch, seen } });
    }
    this.#epochs.set(volume, epoch);
    for (const held of this.#of(volume)) {
      if (held.epoch < epoch) held.lun.seal(endOfEpoch(held, epoch));
    }
  }

  #drop(key: string, cause: Error): void {
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#forget(key, held);
    held.session.destroy(cause);
  }

  #forget(key: string, held: HeldSlot): void {
    if (this.#held.get(key) === held) this.#held.delete(key);
    if (this.#byHandle[held.handle] === held) this.#byHandle[held.handle] = undefined;
  }

  #freeHandle(): number {
    // The table is far smaller than the space of handles, so an old frame cannot meet a new claim's handle soon.
    while (this.#byHandle[this.#nextHandle] !== undefined) {
      this.#nextHandle = (this.#nextHandle + 1) % HANDLES;
    }
    const handle = this.#nextHandle;
    this.#nextHandle = (handle + 1) % HANDLES;
    return handle;
  }
}

/** Opens the first portal that takes us; rejects with the error of the last. */
async function firstOf(
  portals: readonly string[],
  open: (portal: string) => Promise<IscsiSession>,
): Promise<{ readonly session: IscsiSession; readonly portal: string }> {
  let last: unknown;
  for (const portal of portals) {
    try {
      return { session: await open(portal), portal };
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

/** For a change of the older epoch that is not done: what was sent of it has ended, and no more is. */
function endOfEpoch({ volume }: HeldSlot, seen: number): OrionError {
  return linkErrors.make('LINK_EPOCH_STALE', { outcome: 'terminated', fields: { volume, seen } });
}

function slotKey(volume: string, slot: number | ''): string {
  return `${volume}\n${slot}`;
}
