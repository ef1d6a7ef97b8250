import type { BlockCapabilities, BlockDevice, Extent, IoContext } from '../block/device.ts';
import { assert } from '../core/assert.ts';
import { type Clock, every, type Timer } from '../core/clock.ts';
import { isOrionError } from '../core/errors.ts';
import type { Lent } from '../wire/lent.ts';
import { ACKNOWLEDGED_LATE, CacheWatch, NO_WITNESS } from './cache-watch.ts';
import { COMPARED_EQUAL, resolveCompareAndWrite } from './compare-outcome.ts';
import { Failures } from './failures.ts';
import type { MultipathCounters, MultipathOptions, PathEventKind } from './options.ts';
import { type PathDevice, PathState, type UnitAttention } from './path.ts';
import { NO_RESET, PathEntry, type PathMeta } from './path-entry.ts';
import { PathMap } from './path-map.ts';
import { RangeLock } from './range-lock.ts';
import { IoRequest, RequestKind, type RequestOwner, type RequestResult } from './request.ts';
import { makeSelector, type Selector } from './selectors.ts';
import { WaitingRoom } from './waiting-room.ts';

/** A lost path answers all that was outstanding on it at once; this long is only ever used up by a bug. */
const LOST_DRAIN_MS = 30_000;

/** How often time limits of waiting requests and idle paths are looked at. */
const TICK_MS = 250;

/**
 * A volume over several paths. Every I/O goes to one usable path; when that path fails, what is certain is retried
 * at once, and a change of unknown outcome is kept back, with its range locked, until its old attempt is fenced.
 * Implements I2, I3, I5 and I7 of failover.md; it decides nothing about who may log in where.
 */
export class MultipathDevice implements BlockDevice, RequestOwner {
  readonly name: string;
  caps: BlockCapabilities;
  readonly counters: MultipathCounters = { failovers: 0, retries: 0, unknownWrites: 0 };
  readonly #options: MultipathOptions;
  readonly #failures: Failures;
  readonly #clock: Clock;
  readonly #paths: PathMap;
  readonly #select: Selector;
  readonly #lock = new RangeLock<IoRequest>();
  readonly #room: WaitingRoom;
  readonly #cache: CacheWatch;
  readonly #tick: Timer;
  /** Reasons for which I/O is held back now. */
  #holds = 0;
  #closed = false;
  /** Resolves when the owner has noted that there is a cache; null: nothing is to be noted. */
  #noted: Promise<void> | null = null;

  constructor(options: MultipathOptions) {
    this.name = options.name;
    this.caps = options.caps;
    this.#options = options;
    this.#failures = new Failures(options.name);
    this.#clock = options.clock;
    this.#select = makeSelector(options.policy, options.rng);
    this.#paths = new PathMap(options.clock, options.probeIdleMs);
    this.#room = new WaitingRoom(options.noPathQueueBytes);
    this.#cache = new CacheWatch(options.caps.volatileCache, options.cacheMayBeLost ?? false);
    this.#paths.onProbed = (entry, sentMs) => {
      this.#cache.answered(entry, sentMs);
      this.#release();
    };
    this.#tick = every(options.clock, TICK_MS, () => this.#onTick());
  }

  // ---- BlockDevice

  read(offset: number, into: Buffer, io: IoContext): Promise<void> {
    const request = new IoRequest(this, RequestKind.Read, offset, into.length, 0, io);
    request.buffer = into;
    this.dispatch(request);
    return request.promise as Promise<void>;
  }

  lend(offset: number, length: number, io: IoContext): Promise<Lent> | null {
    if (!this.#paths.usable.some(({ device }) => device.lends?.(length) === true)) return null;
    const request = new IoRequest(this, RequestKind.Lend, offset, length, 0, io);
    this.dispatch(request);
    return request.promise as Promise<Lent>;
  }

  write(offset: number, from: Buffer, flags: number, io: IoContext): Promise<void> {
    const request = new IoRequest(this, RequestKind.Write, offset, from.length, flags, io);
    request.buffer = from;
    return this.#change(request) as Promise<void>;
  }

  trim(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    const request = new IoRequest(this, RequestKind.Trim, offset, length, flags, io);
    return this.#change(request) as Promise<void>;
  }

  writeZeroes(offset: number, length: number, flags: number, io: IoContext): Promise<void> {
    const request = new IoRequest(this, RequestKind.Zeroes, offset, length, flags, io);
    return this.#change(request) as Promise<void>;
  }

  compareAndWrite(
    offset: number,
    expected: Buffer,
    replacement: Buffer,
    io: IoContext,
  ): Promise<number> {
    const kind = RequestKind.CompareAndWrite;
    const request = new IoRequest(this, kind, offset, replacement.length, 0, io);
    request.expected = expected;
    request.buffer = replacement;
    return this.#change(request) as Promise<number>;
  }

  async flush(io: IoContext): Promise<void> {
    const mark = this.#cache.begin();
    const request = new IoRequest(this, RequestKind.Flush, 0, 0, 0, io);
    this.dispatch(request);
    try {
      await request.promise;
    } catch (error) {
      if (this.#cache.isNews(error, request.path, mark)) throw error;
      return this.flush(io); // that one was told by a flush over another path
    }
    if (!this.#cache.complete(mark)) throw this.#failures.cacheLost();
  }

  extents(offset: number, length: number, io: IoContext): Promise<Extent[]> {
    const request = new IoRequest(this, RequestKind.Extents, offset, length, 0, io);
    this.dispatch(request);
    return request.promise as Promise<Extent[]>;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#tick.cancel();
    for (const request of this.#lock.drain()) request.reject(this.#failures.closed());
    for (const request of this.#room.drain()) this.#finish(request, this.#failures.closed());
    for (const entry of this.#paths.all()) {
      for (const request of this.#paths.takeUnknown(entry)) this.#closeUnknown(request);
    }
    await Promise.all(this.#paths.all().map((entry) => entry.device.close()));
  }

  get paths(): readonly PathEntry[] {
    return this.#paths.all();
  }

  get readyCount(): number {
    return this.#paths.ready.length;
  }

  /** Changes whose outcome is unknown and that wait for a fence. */
  get heldWrites(): number {
    return this.#paths.unknownCount;
  }

  /** Acknowledged writes may be gone, and no flush has said so yet. */
  get cacheLossPending(): boolean {
    return this.#cache.lossPending;
  }

  /** Before any I/O: what a former owner had acknowledged is durable after all. */
  cacheIsWhole(): void {
    this.#cache.isWhole();
  }

  /** `wasReset`: the unit was reset by us after this path had logged in, and may report that on it. */
  addPath(slot: number, device: PathDevice, meta: PathMeta, wasReset = false): void {
    assert(!this.#closed, 'paths are added to an open volume');
    const entry = new PathEntry(slot, device, meta, this.#clock.nowMs());
    if (wasReset) entry.resetAtMs = entry.lastGoodMs;
    this.#paths.add(entry);
    if (device.caps.volatileCache) this.#foundCache();
    this.#cache.add(entry);
    this.#event('path-added', entry, `${meta.portal} through ${meta.worker}`);
    device.onLost((cause) => this.#lose(entry, cause));
    device.onUnitAttention((attention) => this.#attention(entry, attention));
    this.#grow(entry);
    this.#release();
  }

  /**
   * True while something that was sent over the lost path of this slot may still execute on the target: the LU must
   * be fenced before `fenced` is called.
   */
  needsFence(slot: number): boolean {
    return this.#paths.needsFence(slot);
  }

  /**
   * Nothing that was sent over the lost path can execute any more: what it left behind is sent again, once the path
   * has answered (with errors) all that was outstanding on it.
   */
  async fenced(slot: number): Promise<void> {
    const lost = this.#paths.lost(slot);
    if (lost !== undefined) await this.#paths.drained(lost, LOST_DRAIN_MS);
    const entry = this.#paths.removeLost(slot);
    if (entry === null) return;
    for (const request of this.#paths.takeUnknown(entry)) this.#afterFence(request);
  }

  /** Holds new I/O back until `unquiesce`. Counted. */
  hold(): void {
    this.#holds += 1;
  }

  /** Holds new I/O back and waits, at most `timeoutMs`, until nothing is in flight on usable paths. */
  async quiesce(timeoutMs: number): Promise<void> {
    this.hold();
    await this.#paths.drained(null, timeoutMs);
  }

  /** Ends one `quiesce` or `hold`. `reset`: the LU was reset meanwhile, so each path will report a unit attention for it. */
  unquiesce(reset: boolean): void {
    this.#holds -= 1;
    assert(this.#holds >= 0, 'every unquiesce ends one hold');
    if (reset) this.wasReset();
    this.#release();
  }

  wasReset = (): void => this.#paths.wasReset();

  /** While I/O is held back: has the target make durable what was acknowledged. False when that is not certain. */
  emptyCache(): Promise<boolean> {
    return this.#cache.empty(this.#paths.usable, this.#paths.ready);
  }

  /** Takes a path out in good order: no new I/O, waits for what is in flight. False when the time was up. */
  async retire(slot: number, timeoutMs: number): Promise<boolean> {
    const entry = this.#paths.get(slot);
    if (entry === undefined) return true;
    this.#paths.setState(entry, PathState.Disabled);
    const drained = await this.#paths.drained(entry, timeoutMs);
    // It may have been lost while it drained; then it is the fence's business.
    if (this.#paths.get(slot) !== entry) return false;
    if (!drained) {
      this.#paths.setState(entry, entry.servingState);
      return false;
    }
    await this.#cache.handOver(entry, this.#clock.nowMs()).catch(() => {}); // then it counts as lost
    if (this.#paths.get(slot) !== entry) return false;
    this.#paths.remove(entry);
    if (this.#cache.remove(entry)) this.#tellOfCache(NO_WITNESS);
    this.#event('path-removed', entry, 'moved in good order');
    return true;
  }

  // ---- requests

  #change(request: IoRequest): Promise<RequestResult> {
    if (this.#closed) request.reject(this.#failures.closed());
    else if (this.#lock.acquire(request)) this.dispatch(request);
    else request.giveUpMs = this.#giveUpMs(request);
    return request.promise;
  }

  /** Sends a request over a usable path, or lets it wait for one. */
  dispatch(request: IoRequest): void {
    if (this.#closed) return this.#finish(request, this.#failures.closed());
    const { usable: best, ready } = this.#paths;
    const usable = request.kind === RequestKind.Flush ? this.#cache.forFlush(best, ready) : best;
    if (usable.length === 0 || this.#holds > 0) return this.#wait(request);
    const path = this.#select(usable, request.changes, request.length);
    request.path = path;
    request.attempts += 1;
    request.sentMs = this.#clock.nowMs();
    request.doubts = this.#cache.doubts;
    path.begin(request.length);
    if (request.io.trace !== undefined) request.openSpan();
    request.sendTo(path.device).then(request.ok, request.fail);
  }

  succeeded(request: IoRequest, result: RequestResult): void {
    const path = request.path!;
    const now = this.#clock.nowMs();
    path.end(request.length);
    request.span?.end(now, request.place);
    path.lastGoodMs = now;
    if (this.#cache.unproven) this.#cache.answered(path, request.sentMs);
    if (request.sentMs >= path.resetAtMs) path.resetAtMs = NO_RESET;
    path.sample(request.changes, request.length, now - request.sentMs);
    if (request.changes) {
      path.writes += 1;
      this.#lock.release(request);
      this.#acknowledge(request, result, request.doubts);
    } else {
      path.reads += 1;
      request.resolve(result);
    }
    this.#paths.ended(path);
  }

  /** A change is done. It stands in the target's cache, if that has lived since `doubts` was read. */
  #acknowledge(request: IoRequest, result: RequestResult, doubts: number): void {
    if (this.#cache.wrote(request.path!, doubts)) this.#tellOfCache(ACKNOWLEDGED_LATE);
    if (this.#noted === null) request.resolve(result);
    else void this.#noted.then(() => request.resolve(result));
  }

  failed(request: IoRequest, error: unknown): void {
    const path = request.path!;
    path.end(request.length);
    path.errors += 1;
    path.lastError = error instanceof Error ? error.message : String(error);
    request.span?.end(this.#clock.nowMs(), request.place, path.lastError);
    this.#paths.ended(path);
    const outcome = isOrionError(error) ? error.outcome : 'unknown';
    switch (outcome) {
      case 'final':
        return this.#finish(request, error);
      case 'not-executed':
      case 'terminated':
        return this.#retry(request, path, outcome === 'terminated' ? error : undefined);
      case 'unknown':
        this.#lose(path, error instanceof Error ? error : new Error(String(error)));
        if (!request.changes) return this.#retry(request, path);
        this.counters.unknownWrites += 1;
        if (this.#closed) return this.#closeUnknown(request);
        request.giveUpMs = this.#giveUpMs(request);
        return this.#paths.addUnknown(path, request);
    }
  }

  /**
   * The attempt certainly has no effect any more, or none that matters: try again. `ended`: it may have had one; that is
   * then the answer when the time is up, since nothing of it can execute any more.
   */
  #retry(request: IoRequest, path: PathEntry, ended?: unknown): void {
    this.counters.retries += 1;
    if (request.giveUpMs === 0) request.giveUpMs = this.#giveUpMs(request);
    if (this.#clock.nowMs() >= request.giveUpMs) {
      return this.#finish(request, ended ?? this.#failures.noPath(request));
    }
    const again = (): void =>
      ended === undefined ? this.dispatch(request) : this.#afterFence(request);
    const elsewhere = this.#paths.usable.some((other) => other !== path);
    if (elsewhere && request.attempts === 1) return again();
    if (path.state !== PathState.Ready && request.hurries) return again();
    this.#clock.after(request.pauseMs, again);
  }

  /** The old attempt cannot execute any more, but it may have: only what is idempotent is simply sent again. */
  #afterFence(request: IoRequest): void {
    if (request.settled) return this.#unlock(request);
    if (request.kind !== RequestKind.CompareAndWrite) return this.dispatch(request);
    const scratch = Buffer.allocUnsafe(request.length);
    const { doubts } = this.#cache;
    this.read(request.offset, scratch, request.io).then(
      () => {
        const outcome = resolveCompareAndWrite(scratch, request.expected, request.buffer);
        if (outcome.kind === 'retry') return this.dispatch(request);
        this.#unlock(request);
        if (outcome.result !== COMPARED_EQUAL) return request.resolve(outcome.result);
        this.#acknowledge(request, outcome.result, doubts);
      },
      (error) => this.#finish(request, error),
    );
  }

  #wait(request: IoRequest): void {
    request.giveUpMs = this.#giveUpMs(request);
    const entered = this.#room.enter(request);
    if (!entered) this.#finish(request, this.#failures.queueFull(this.#room.bytes));
  }

  /** Answers with an error; nothing of the request can happen any more. */
  #finish(request: IoRequest, error: unknown): void {
    this.#unlock(request);
    request.reject(error);
  }

  #unlock(request: IoRequest): void {
    if (request.changes && request.lockIndex >= 0) this.#lock.release(request);
  }

  #giveUpMs(request: IoRequest): number {
    if (request.giveUpMs !== 0) return request.giveUpMs;
    return Math.min(request.io.deadlineMs, this.#clock.nowMs() + this.#options.noPathRetryMs);
  }

  // ---- paths

  #lose(entry: PathEntry, cause: Error): void {
    if (!this.#paths.lose(entry)) return;
    entry.lastError = cause.message;
    this.counters.failovers += 1;
    if (this.#cache.remove(entry)) this.#tellOfCache(NO_WITNESS);
    this.#event('path-lost', entry, cause.message);
    if (!this.#closed) this.#options.onPathLost(entry.slot, cause);
  }

  #attention(entry: PathEntry, attention: UnitAttention): void {
    this.#paths.heard(entry, attention);
    this.#grow(entry);
    this.#release();
    this.#event('attention', entry, attention.text);
    if (attention.volatileCache === true) this.#foundCache();
    const loss = this.#cache.heard(entry, attention);
    if (loss !== null) this.#tellOfCache(loss);
  }

  /** It was not there, or not seen, when the volume came into service: a next owner does not know of it yet. */
  #foundCache(): void {
    if (this.caps.volatileCache) return;
    this.caps = { ...this.caps, volatileCache: true };
    this.#cache.switchOn();
    const noted = this.#options.onCacheFound?.() ?? Promise.resolve();
    this.#noted = noted.then(() => {
      this.#noted = null;
    });
  }

  /** Grows when every path shows the new size; never shrinks: what clients were promised cannot be taken back. */
  #grow(entry: PathEntry): void {
    const agreed = this.#paths.sizeBytes;
    if (agreed <= this.caps.sizeBytes) return;
    this.caps = { ...this.caps, sizeBytes: agreed };
    this.#event('resized', entry, `${agreed} bytes on all paths`);
  }

  #tellOfCache(text: string): void {
    this.#options.onEvent?.({ kind: 'cache-may-be-lost', text });
  }

  #release(): void {
    if (this.#holds > 0 || this.#paths.usable.length === 0) return;
    for (const request of this.#room.drain()) this.dispatch(request);
  }

  #onTick(): void {
    const now = this.#clock.nowMs();
    this.#release(); // a flush may have waited for a witness that is lost
    for (const request of this.#room.expired(now)) {
      this.#finish(request, this.#failures.noPath(request));
    }
    for (const request of this.#lock.expired(now)) request.reject(this.#failures.noPath(request));
    // The client gets its answer; the range stays locked until the attempt is fenced.
    for (const request of this.#paths.unknownExpired(now)) {
      request.reject(this.#failures.notFenced(request));
    }
    this.#paths.probeIdle(now);
  }

  #event(kind: PathEventKind, entry: PathEntry, text: string): void {
    this.#options.onEvent?.({ kind, slot: entry.slot, text });
  }

  /** Nobody is left to fence it: its range stays locked. */
  #closeUnknown(request: IoRequest): void {
    request.reject(this.#failures.closed('unknown'));
  }
}
