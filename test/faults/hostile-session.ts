import { NO_DEADLINE, WriteFlag } from '#block/device.ts';
import { seededRng } from '#core/rng.ts';
import { ConnectionState } from '#iscsi/connection-state.ts';
import { makeIsid } from '#iscsi/isid.ts';
import { IscsiLun } from '#iscsi/lun.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { facts } from '#iscsi/testing/fake-session.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import type { Target, TargetParams } from '#target/target.ts';
import { TARGET_NAME, targetFixture } from '#testkit/target-fixture.ts';
import type { VirtualClock } from '#testkit/virtual-clock.ts';
import { BufferPool } from '#wire/buffer-pool.ts';
import { GuardedBuffer, internalFault, Ledger } from './hostile-ledger.ts';
import { type Tamper, TamperingNetwork } from './tampering-network.ts';

/** One short session over a wire on which somebody tampers, and everything that has to hold whatever he does. */

const BLOCK_BYTES = 512;
const SIZE_BYTES = 1024 * 1024;
/** Longer than every timeout of a session together: what has not settled by then hangs. */
const PATIENCE_MS = 600_000;
/** Above what is sent with a command, so that the rest is asked for by R2T. */
const FIRST_BURST_BYTES = 1024;
const SEED = 1;
/** Further connections that somebody tampers with may never come; the work begins without them. */
const JOINING_MS_MAX = 1000;

const FACTS = { ...facts, caps: { ...facts.caps, sizeBytes: SIZE_BYTES } };

export interface HostileOptions {
  readonly digests: boolean;
  /** What follows the login: the questions of an attach, or reads, writes, a reset and a ping on a unit that is known. */
  readonly work: 'attach' | 'transfers';
  /** 0 when left out. */
  readonly level?: 0 | 1 | 2;
  /** 1 when left out. */
  readonly connections?: number;
  /** TaskReporting; RFC3720 when left out. */
  readonly fastAbort?: boolean;
}

export interface ReadCheck {
  readonly what: string;
  readonly expected: Buffer;
  readonly got: Buffer;
}

export interface HostileResult {
  /** What is wrong, whatever was done to the stream. */
  readonly faults: string[];
  /** How far it came. */
  readonly opened: boolean;
  readonly attached: boolean;
  /** Reads that succeeded with other data than are on the disk. */
  readonly wrongReads: ReadCheck[];
  /** Writes that succeeded and are not on the disk. */
  readonly lostWrites: string[];
  readonly succeeded: number;
  readonly failed: number;
}

/** What a block of the disk holds at the start. */
export function content(offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++)
    bytes[at] = ((offset + at) * 31 + ((offset + at) >> 9)) & 0xff;
  return bytes;
}

async function driven<T>(clock: VirtualClock, promise: Promise<T>): Promise<T> {
  let over = false;
  const seen = promise.finally(() => {
    over = true;
  });
  seen.catch(() => {});
  await clock.runUntil(() => over, PATIENCE_MS);
  return seen;
}

export async function hostileSession(
  tamper: Tamper,
  { digests, work, level = 0, connections = 1, fastAbort = false }: HostileOptions,
): Promise<HostileResult> {
  const digest = digests ? 'CRC32C' : 'None';
  const params: TargetParams = {
    ...{ headerDigest: digest, dataDigest: digest },
    firstBurstLength: FIRST_BURST_BYTES,
    maxBurstLength: 4096,
    ...{ maxConnections: connections, errorRecoveryLevel: level },
    taskReporting: fastAbort ? 'FastAbort,ResponseFence,RFC3720' : 'RFC3720',
  };
  const fixture = await targetFixture({
    ...{ seed: SEED, params },
    luns: [{ lun: 0, sizeBytes: SIZE_BYTES, blockBytes: BLOCK_BYTES }],
  });
  const { clock, target } = fixture;
  target.disk(0).write(0, content(0, 64 * 1024));
  const pool = new BufferPool({ checkOwnership: true });
  const ledger = new Ledger();
  const run = new Run(ledger, clock, target);
  const opening = openSession({
    network: new TamperingNetwork(fixture.network.host('initiator'), tamper),
    ...{ clock, pool, rng: seededRng(SEED) },
    portals: [target.addresses[0]!],
    targetName: TARGET_NAME,
    initiatorName: 'iqn.2026-11.test:initiator',
    isid: makeIsid('test', TARGET_NAME, 0),
    ...{ connections, errorRecoveryLevel: level },
    params: { HeaderDigest: digest, DataDigest: digest },
  });
  try {
    await run.session(await driven(clock, opening), work);
  } catch (error) {
    run.refused(error);
  }
  await driven(clock, target.close());
  // The wheel of command timeouts turns on until it finds itself empty.
  await clock.advance(1000);
  if (clock.pending > 0) run.faults.push(`${clock.pending} timers are left`);
  if (pool.takenBytes > 0) run.faults.push(`${pool.takenBytes} bytes of the pool are left`);
  return run.result();
}

/** All its connections are there, or it is over. */
function isWhole(session: IscsiSession): boolean {
  const isUp = session.connections().every(({ state }) => state === ConnectionState.LoggedIn);
  return isUp || session.state !== 'open';
}

class Run {
  readonly faults: string[] = [];
  readonly #ledger: Ledger;
  readonly #clock: VirtualClock;
  readonly #target: Target;
  readonly #reads: ReadCheck[] = [];
  readonly #writes: { what: string; offset: number; data: Buffer; done: () => boolean }[] = [];
  #opened = false;
  #attached = false;

  constructor(ledger: Ledger, clock: VirtualClock, target: Target) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#target = target;
  }

  /** The way in failed: fine, if the target is to blame. */
  refused(error: unknown): void {
    const reason = internalFault(error);
    if (reason !== null) this.faults.push(reason);
    if (error instanceof Error && /not reached within/.test(error.message)) {
      this.faults.push('the way in never ended');
    }
  }

  async session(session: IscsiSession, work: HostileOptions['work']): Promise<void> {
    this.#opened = true;
    try {
      if (work === 'attach') {
        await driven(this.#clock, attachLun(session, lunFromNumber(0)));
        this.#attached = true;
      } else {
        await this.#clock.runUntil(() => isWhole(session), JOINING_MS_MAX).catch(() => {});
        await this.#transfers(session, new IscsiLun(session, lunFromNumber(0), FACTS));
      }
    } finally {
      await this.#end(session);
    }
  }

  /** Reads and writes of all kinds at once, then a reset, silence with a ping in it, and one more read. */
  async #transfers(session: IscsiSession, lun: IscsiLun): Promise<void> {
    this.#ledger.watch(lun);
    this.#read(lun, 0, 512);
    this.#read(lun, 8192, 512);
    this.#write(lun, 131_072, 2560, 1);
    this.#write(lun, 262_144, 512, 2, WriteFlag.Fua);
    this.#add('a flush', new GuardedBuffer(0), lun.flush(NO_DEADLINE));
    await this.#settled();
    if (session.state !== 'open') return;
    this.#add('a reset', new GuardedBuffer(0), lun.lunReset(5000));
    await this.#settled();
    if (session.state !== 'open') return;
    await this.#clock.advance(session.timeouts.nopIntervalMs * 2 + 100);
    if (session.state !== 'open') return;
    this.#read(lun, 16_384, 512);
    await this.#settled();
  }

  #settled(): Promise<void> {
    return this.#clock.runUntil(() => this.#ledger.isSettled, PATIENCE_MS).catch(() => {});
  }

  #add(what: string, buffer: GuardedBuffer, promise: Promise<unknown>) {
    return this.#ledger.add(what, buffer, promise);
  }

  #read(lun: IscsiLun, offset: number, bytes: number): void {
    const buffer = new GuardedBuffer(bytes);
    const what = `the read at ${offset}`;
    const entry = this.#add(what, buffer, lun.read(offset, buffer.data, NO_DEADLINE));
    const check = { what, expected: content(offset, bytes), got: buffer.data, entry };
    this.#reads.push(check);
  }

  #write(lun: IscsiLun, offset: number, bytes: number, salt: number, flags = 0): void {
    const data = content(offset * 7 + salt, bytes);
    const buffer = new GuardedBuffer(data);
    const what = `the write at ${offset}`;
    const entry = this.#add(what, buffer, lun.write(offset, buffer.data, flags, NO_DEADLINE));
    this.#writes.push({ what, offset, data, done: () => entry.state === 'done' });
  }

  async #end(session: IscsiSession): Promise<void> {
    if (session.state === 'open') {
      await driven(this.#clock, session.logout({ timeoutMs: 3000 })).catch((error: unknown) =>
        this.refused(error),
      );
    }
    await this.#clock
      .runUntil(() => session.state === 'closed', PATIENCE_MS)
      .catch(() => {
        this.faults.push('the session never ended');
        session.destroy(new Error('the test gives up'));
      });
    const reason = internalFault(session.cause);
    if (reason !== null) this.faults.push(`the session ended with ${reason}`);
    if (session.stats.inflight !== 0) this.faults.push(`${session.stats.inflight} in flight`);
    await this.#clock.settle();
  }

  result(): HostileResult {
    const { entries } = this.#ledger;
    const isDone = ({ what }: { what: string }): boolean =>
      entries.some((entry) => entry.what === what && entry.state === 'done');
    const onDisk = (offset: number, bytes: number): Buffer => {
      const into = Buffer.alloc(bytes);
      this.#target.disk(0).read(offset, into);
      return into;
    };
    return {
      faults: [...this.faults, ...this.#ledger.judge()],
      opened: this.#opened,
      attached: this.#attached,
      wrongReads: this.#reads.filter((read) => isDone(read) && !read.got.equals(read.expected)),
      lostWrites: this.#writes
        .filter(({ offset, data, done }) => done() && !onDisk(offset, data.length).equals(data))
        .map(({ what }) => what),
      succeeded: entries.filter(({ state }) => state === 'done').length,
      failed: entries.filter(({ state }) => state === 'failed').length,
    };
  }
}
