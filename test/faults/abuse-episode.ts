import { NO_DEADLINE, WriteFlag } from '#block/device.ts';
import { errorText, isOrionError } from '#core/errors.ts';
import { intBetween, pick, type Rng, seededRng } from '#core/rng.ts';
import { makeIsid } from '#iscsi/isid.ts';
import type { IscsiLun } from '#iscsi/lun.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import type { Target } from '#target/target.ts';
import type { MemoryNetwork } from '#testkit/memory-network.ts';
import { TARGET_NAME, targetFixture } from '#testkit/target-fixture.ts';
import type { VirtualClock } from '#testkit/virtual-clock.ts';
import { BufferPool } from '#wire/buffer-pool.ts';
import { armFault, drawParams, drawPlan, type Plan } from './abuse-plan.ts';
import { harming } from './abuse-tamper.ts';
import { GuardedBuffer, internalFault, Ledger } from './hostile-ledger.ts';
import { TamperingNetwork } from './tampering-network.ts';

/** A few sessions with one target, all of whose streams are harmed at random, from one seed. */

const BLOCK_BYTES = 512;
/** Blocks whose content is followed; behind them is room for what makes content unsure. */
const BLOCKS = 256;
const SIZE_BYTES = 1024 * 1024;
const SESSIONS_MAX = 4;
const ROUNDS_MAX = 12;
const COMMANDS_MAX = 6;
const BLOCKS_MAX = 24;
const PATIENCE_MS = 600_000;

export interface EpisodeResult {
  readonly faults: string[];
  readonly sessions: number;
  readonly done: number;
  readonly failed: number;
  readonly checkedBlocks: number;
  readonly harms: Readonly<Record<string, number>>;
  /** How sessions and logins ended, by code. */
  readonly ends: Readonly<Record<string, number>>;
  /** What sessions had agreed on, and connections that came back. */
  readonly kinds: Readonly<Record<string, number>>;
}

/** What each block may hold: what was acknowledged, and what was tried since. */
class Model {
  readonly #values = Array.from({ length: BLOCKS }, () => [0]);
  readonly #busy = new Set<number>();
  readonly #unsure = new Set<number>();
  #next = 1;

  /** Nobody writes these at present, and what they hold is sure or may stay unsure. */
  isFree(first: number, count: number): boolean {
    for (let i = first; i < first + count; i++) {
      if (this.#busy.has(i) || this.#unsure.has(i)) return false;
    }
    return true;
  }

  /** A new value for blocks that are free, to be written now. */
  begin(first: number, count: number): number {
    const value = this.#next++;
    for (let i = first; i < first + count; i++) {
      this.#busy.add(i);
      this.#values[i]!.push(value);
    }
    return value;
  }

  end(
    first: number,
    count: number,
    value: number,
    outcome: 'done' | 'not-executed' | 'unsure',
  ): void {
    for (let i = first; i < first + count; i++) {
      this.#busy.delete(i);
      if (outcome === 'done') this.#values[i] = [value];
      else if (outcome === 'not-executed')
        this.#values[i] = this.#values[i]!.filter((v) => v !== value);
      else this.#unsure.add(i);
    }
  }

  allowed(block: number): readonly number[] {
    return [...this.#values[block]!];
  }
}

/** How it is counted that a session recovered a connection. */
export const BACK = 'a connection was lost and came back';

/** What a session has agreed on. */
function kindOf({ login }: IscsiSession): string {
  const { ErrorRecoveryLevel, MaxConnections, TaskReporting } = login.params;
  return `level ${ErrorRecoveryLevel}, ${MaxConnections} connections, ${TaskReporting}`;
}

/** A block that says which it is, and which write it is of; 0 was never written. */
function fill(into: Buffer, block: number, value: number): void {
  if (value === 0) into.fill(0);
  else
    for (let at = 0; at < into.length; at += 8) {
      into.writeUInt32BE(block, at);
      into.writeUInt32BE(value, at + 4);
    }
}

export async function abuseEpisode(seed: number): Promise<EpisodeResult> {
  const rng = seededRng(seed);
  const plan = drawPlan(rng);
  const fixture = await targetFixture({
    seed,
    params: drawParams(rng, plan),
    luns: [{ lun: 0, sizeBytes: SIZE_BYTES, blockBytes: BLOCK_BYTES }],
    link: {
      fragmentBytesMax: pick(rng, [0, 0, 7, 100, 4000]),
      latencyMaxMs: pick(rng, [0, 0, 5]),
      onDestroy: pick(rng, ['drop', 'deliver', 'part'] as const),
    },
  });
  const episode = new Episode(rng, fixture.clock, fixture.target, plan);
  await episode.run(fixture.network);
  return episode.result();
}

class Episode {
  readonly #rng: Rng;
  readonly #clock: VirtualClock;
  readonly #target: Target;
  readonly #plan: Plan;
  readonly #digests: boolean;
  readonly #model = new Model();
  readonly #faults: string[] = [];
  readonly #harms: Record<string, number> = {};
  readonly #ends: Record<string, number> = {};
  readonly #kinds: Record<string, number> = {};
  readonly #pool = new BufferPool({ checkOwnership: true });
  #sessions = 0;
  #done = 0;
  #failed = 0;
  #checked = 0;

  constructor(rng: Rng, clock: VirtualClock, target: Target, plan: Plan) {
    this.#rng = rng;
    this.#clock = clock;
    this.#target = target;
    this.#plan = plan;
    this.#digests = plan.digests;
  }

  async run(memory: MemoryNetwork): Promise<void> {
    const tamper = harming(this.#rng, (harm) => {
      this.#harms[harm] = (this.#harms[harm] ?? 0) + 1;
    });
    const network = new TamperingNetwork(memory.host('initiator'), tamper);
    for (let i = 0; i < SESSIONS_MAX; i++) await this.#session(network);
    this.#target.faults.clear();
    await this.#driven(this.#target.close()).catch((error: unknown) => this.#ended(error));
    // Delays that were armed go by; what an honest end leaves behind is seen elsewhere.
    await this.#clock.advance(60_000);
    if (this.#clock.pending > 0) this.#faults.push(`${this.#clock.pending} timers are left`);
    if (this.#pool.takenBytes > 0) this.#faults.push(`${this.#pool.takenBytes} pooled bytes left`);
    if (this.#target.bufferBytes > 0) this.#faults.push('the target has buffers left');
  }

  async #driven<T>(promise: Promise<T>): Promise<T> {
    let over = false;
    const seen = promise.finally(() => {
      over = true;
    });
    seen.catch(() => {});
    await this.#clock.runUntil(() => over, PATIENCE_MS);
    return seen;
  }

  #count(kind: string): void {
    this.#kinds[kind] = (this.#kinds[kind] ?? 0) + 1;
  }

  /** Counts the connections that a session lost and has again. */
  #follow(session: IscsiSession): void {
    const lost = new Set<number>();
    session.onEvent((event) => {
      if (event.kind !== 'connection') return;
      if (event.reason !== null) lost.add(event.cid);
      else if (lost.delete(event.cid)) this.#count(BACK);
    });
  }

  #ended(error: unknown): void {
    const code = isOrionError(error) ? error.code : errorText(error);
    this.#ends[code] = (this.#ends[code] ?? 0) + 1;
    const reason = internalFault(error);
    if (reason !== null) this.#faults.push(reason);
    if (/not reached within/.test(errorText(error))) this.#faults.push('something never ended');
  }

  async #session(network: TamperingNetwork): Promise<void> {
    const digest = this.#digests ? 'CRC32C' : 'None';
    const { connections, errorRecoveryLevel, params } = this.#plan;
    const ledger = new Ledger();
    let session: IscsiSession | null = null;
    try {
      session = await this.#driven(
        openSession({
          ...{ network, clock: this.#clock, rng: this.#rng, pool: this.#pool },
          portals: [this.#target.addresses[0]!],
          targetName: TARGET_NAME,
          initiatorName: 'iqn.2026-11.test:initiator',
          isid: makeIsid('test', TARGET_NAME, 0),
          ...{ connections, errorRecoveryLevel },
          params: { ...params, HeaderDigest: digest, DataDigest: digest },
          timeouts: { commandMs: 10_000 },
        }),
      );
      this.#sessions += 1;
      this.#count(kindOf(session));
      this.#follow(session);
      const lun = await this.#driven(attachLun(session, lunFromNumber(0)));
      const { caps } = lun;
      if (caps.sizeBytes === SIZE_BYTES && caps.blockBytes === BLOCK_BYTES && !caps.readOnly) {
        ledger.watch(lun);
        await this.#work(session, lun, ledger);
      }
    } catch (error) {
      this.#ended(error);
    }
    if (session !== null) await this.#end(session);
    this.#faults.push(...ledger.judge());
    this.#done += ledger.entries.filter(({ state }) => state === 'done').length;
    this.#failed += ledger.entries.filter(({ state }) => state === 'failed').length;
  }

  async #end(session: IscsiSession): Promise<void> {
    if (session.state === 'open') {
      await this.#driven(session.logout({ timeoutMs: 3000 })).catch((error: unknown) =>
        this.#ended(error),
      );
    }
    await this.#clock
      .runUntil(() => session.state === 'closed', PATIENCE_MS)
      .catch(() => {
        this.#faults.push('a session never ended');
        session.destroy(new Error('given up'));
      });
    await this.#clock.settle();
    this.#ended(session.cause);
    if (session.stats.inflight !== 0) this.#faults.push('commands in flight after the end');
  }

  async #work(session: IscsiSession, lun: IscsiLun, ledger: Ledger): Promise<void> {
    const rounds = intBetween(this.#rng, 1, ROUNDS_MAX);
    for (let round = 0; round < rounds && session.state === 'open'; round++) {
      if (this.#rng.float() < 0.3) armFault(this.#rng, this.#target.faults, this.#clock);
      const commands = intBetween(this.#rng, 1, COMMANDS_MAX);
      for (let i = 0; i < commands; i++) this.#command(lun, ledger);
      if (this.#rng.float() < 0.1) this.#add(ledger, 'a reset', lun.lunReset(2000));
      if (this.#rng.float() < 0.1) lun.abandon();
      await this.#clock.runUntil(() => ledger.isSettled, PATIENCE_MS).catch(() => {});
      if (this.#rng.float() < 0.2) await this.#clock.advance(intBetween(this.#rng, 1, 6000));
      this.#target.faults.clear();
    }
  }

  #add(ledger: Ledger, what: string, promise: Promise<unknown>): void {
    ledger.add(what, new GuardedBuffer(0), promise);
  }

  #command(lun: IscsiLun, ledger: Ledger): void {
    const count = intBetween(this.#rng, 1, BLOCKS_MAX);
    const first = intBetween(this.#rng, 0, BLOCKS - count);
    const kind = this.#rng.float();
    if (kind < 0.45) this.#read(lun, ledger, first, count);
    else if (kind < 0.85) this.#write(lun, ledger, first, count);
    else this.#other(lun, ledger);
  }

  #read(lun: IscsiLun, ledger: Ledger, first: number, count: number): void {
    const before = Array.from({ length: count }, (_, i) => this.#model.allowed(first + i));
    const buffer = new GuardedBuffer(count * BLOCK_BYTES);
    const reading = lun.read(first * BLOCK_BYTES, buffer.data, NO_DEADLINE).then(() => {
      // Without digests what arrives is what arrives.
      if (this.#digests) this.#check(buffer.data, first, before);
    });
    ledger.add(`a read of ${count} blocks`, buffer, reading);
  }

  #check(data: Buffer, first: number, before: readonly (readonly number[])[]): void {
    const wanted = Buffer.alloc(BLOCK_BYTES);
    for (const [i, values] of before.entries()) {
      const block = first + i;
      const got = data.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
      const isOne = [...values, ...this.#model.allowed(block)].some((value) => {
        fill(wanted, block, value);
        return wanted.equals(got);
      });
      this.#checked += 1;
      if (!isOne) this.#faults.push(`block ${block} read as ${got.subarray(0, 8).toString('hex')}`);
    }
  }

  #write(lun: IscsiLun, ledger: Ledger, first: number, count: number): void {
    if (!this.#model.isFree(first, count)) return;
    const value = this.#model.begin(first, count);
    const data = Buffer.alloc(count * BLOCK_BYTES);
    for (let i = 0; i < count; i++) {
      fill(data.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES), first + i, value);
    }
    const buffer = new GuardedBuffer(data);
    const flags = this.#rng.float() < 0.2 ? WriteFlag.Fua : 0;
    const writing = lun.write(first * BLOCK_BYTES, buffer.data, flags, NO_DEADLINE);
    writing.then(
      () => this.#model.end(first, count, value, 'done'),
      (error: unknown) => {
        const isSure = this.#digests && isOrionError(error) && error.outcome === 'not-executed';
        this.#model.end(first, count, value, isSure ? 'not-executed' : 'unsure');
      },
    );
    ledger.add(`a write of ${count} blocks`, buffer, writing);
  }

  /** Commands behind the blocks that are followed. */
  #other(lun: IscsiLun, ledger: Ledger): void {
    const at = BLOCKS * BLOCK_BYTES + intBetween(this.#rng, 0, 64) * 4096;
    const kind = intBetween(this.#rng, 0, 4);
    if (kind === 0) this.#add(ledger, 'a flush', lun.flush(NO_DEADLINE));
    if (kind === 1) this.#add(ledger, 'a trim', lun.trim(at, 4096, 0, NO_DEADLINE));
    if (kind === 2) this.#add(ledger, 'zeroes', lun.writeZeroes(at, 8192, 0, NO_DEADLINE));
    if (kind === 3) this.#add(ledger, 'a probe', lun.probe(NO_DEADLINE));
    if (kind !== 4 || lun.caps.compareAndWriteBytes < BLOCK_BYTES) return;
    const [old, next] = [Buffer.alloc(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES, 1)];
    this.#add(ledger, 'a compare', lun.compareAndWrite(at, old, next, NO_DEADLINE));
  }

  result(): EpisodeResult {
    return {
      ...{ faults: this.#faults, sessions: this.#sessions, done: this.#done, failed: this.#failed },
      ...{ checkedBlocks: this.#checked, harms: this.#harms, ends: this.#ends },
      kinds: this.#kinds,
    };
  }
}
