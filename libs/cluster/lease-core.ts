import { Value } from 'typebox/value';
import type { KvEntry } from '../bus/bus.ts';
import { LeaseRecord, RECORD_VERSION } from '../contracts/records.ts';

/**
 * The decisions of a lease (failover.md §3.2), as functions: who may take it, whether it is still held, whether the
 * store can be believed. lease.ts does the asking, the waiting and the telling.
 *
 * There is no time to live anywhere. Every observer times the record with its own monotonic clock: one that did not
 * change for its whole length plus a margin is dead. The holder counts from the moment at which it *sent* its last
 * successful renewal, so it stops first, whatever the network did to the answer.
 */

/** Written as `incarnation` when a holder lets go: the epoch stays (it may never go back), the wait falls away. */
export const RELEASED = 'released';

/** A record that claims to hold longer than this is not believed. */
const LEASE_MS_MAX = 10 * 60_000;

/** A difference of wall and monotonic clock above this, within one beat: the machine slept, or the date was set. */
export const CLOCK_JUMP_MS = 1000;

export interface LeaseSelf {
  readonly holder: string;
  readonly incarnation: string;
  readonly leaseMs: number;
  readonly marginMs: number;
}

/** What a look at the key gave, and when it came. */
export interface Reading {
  readonly entry: KvEntry | null;
  /** Of the bucket. */
  readonly bucket: string;
  readonly nowMs: number;
}

/** What an observer keeps in mind between two looks. */
export interface LeaseMemory {
  readonly bucket: string | null;
  readonly revisionMax: number;
  /** The highest epoch ever seen, also in a bucket that is gone. */
  readonly epochMax: number;
  /** Since when the record has been what it is. */
  readonly unchanged: { readonly revision: number; readonly sinceMs: number } | null;
  readonly quarantineUntilMs: number;
}

export const NO_MEMORY: LeaseMemory = {
  bucket: null,
  revisionMax: 0,
  epochMax: 0,
  unchanged: null,
  quarantineUntilMs: Number.NEGATIVE_INFINITY,
};

/** The store has forgotten something, or holds what we cannot read. */
export type LeaseAlarm = 'bucket-replaced' | 'revision-regress' | 'record-vanished' | 'bad-record';

/** Takes a reading to heart. History that was lost starts a quarantine: nobody takes over on such a basis. */
export function learn(
  memory: LeaseMemory,
  reading: Reading,
  self: LeaseSelf,
): { memory: LeaseMemory; alarm: LeaseAlarm | null } {
  const { entry, bucket, nowMs } = reading;
  const lost = lostHistory(memory, reading);
  const known = lost === null ? memory : forgetBucket(memory, nowMs + self.leaseMs + self.marginMs);
  const revision = entry?.revision ?? 0;
  const isSame = known.unchanged?.revision === revision;
  return {
    alarm: lost ?? (entry !== null && recordOf(entry) === null ? 'bad-record' : null),
    memory: {
      bucket,
      revisionMax: Math.max(known.revisionMax, revision),
      epochMax: Math.max(known.epochMax, entry === null ? 0 : epochOf(entry)),
      unchanged: isSame ? known.unchanged : { revision, sinceMs: nowMs },
      quarantineUntilMs: known.quarantineUntilMs,
    },
  };
}

function lostHistory(memory: LeaseMemory, reading: Reading): LeaseAlarm | null {
  if (memory.bucket === null) return null;
  if (memory.bucket !== reading.bucket) return 'bucket-replaced';
  // Nobody deletes a lease.
  if (reading.entry === null) return memory.revisionMax > 0 ? 'record-vanished' : null;
  return reading.entry.revision < memory.revisionMax ? 'revision-regress' : null;
}

function forgetBucket(memory: LeaseMemory, quarantineUntilMs: number): LeaseMemory {
  return { ...memory, revisionMax: 0, unchanged: null, quarantineUntilMs };
}

/** Null for what is no lease record that we understand. */
export function recordOf(entry: KvEntry): LeaseRecord | null {
  if (!Value.Check(LeaseRecord, entry.value)) return null;
  return entry.value.leaseMs <= LEASE_MS_MAX ? entry.value : null;
}

/** Even of a record that is otherwise bad: the epoch must not go back. */
function epochOf(entry: KvEntry): number {
  const epoch = (entry.value as { epoch?: unknown } | null)?.epoch;
  return Number.isSafeInteger(epoch) ? (epoch as number) : 0;
}

export type Decision =
  | { readonly do: 'wait'; readonly ms: number }
  /** Revision 0: create. */
  | { readonly do: 'take'; readonly record: LeaseRecord; readonly revision: number };

/** Whether to try to take the lease, by compare-and-set on what was just read. */
export function decide(memory: LeaseMemory, reading: Reading, self: LeaseSelf): Decision {
  const { entry, nowMs } = reading;
  if (nowMs < memory.quarantineUntilMs) return wait(memory.quarantineUntilMs - nowMs);
  if (entry === null) return take(memory, 0, self);
  const record = recordOf(entry);
  // Perhaps a newer version wrote it, and holds it: an operator has to look.
  if (record === null) return wait(self.leaseMs);
  if (record.incarnation === RELEASED) return take(memory, entry.revision, self);
  // Ours, and yet we do not hold it: lost by our own judgement, or taken without hearing of it.
  if (record.incarnation === self.incarnation) return take(memory, entry.revision, self);
  const sinceMs = memory.unchanged?.sinceMs ?? nowMs;
  const deadAtMs = sinceMs + record.leaseMs + self.marginMs;
  return nowMs >= deadAtMs ? take(memory, entry.revision, self) : wait(deadAtMs - nowMs);
}

function wait(ms: number): Decision {
  return { do: 'wait', ms };
}

function take(memory: LeaseMemory, revision: number, self: LeaseSelf): Decision {
  const { holder, incarnation, leaseMs } = self;
  const epoch = memory.epochMax + 1;
  return {
    do: 'take',
    revision,
    record: { v: RECORD_VERSION, holder, incarnation, epoch, leaseMs, renewSeq: 0 },
  };
}

/** The lease while it is held. */
export interface Tenure {
  readonly record: LeaseRecord;
  readonly revision: number;
  readonly validUntilMs: number;
  /** Renewals that were sent and whose outcome nobody has told yet, newest last. */
  readonly unsettled: readonly { readonly renewSeq: number; readonly sentMs: number }[];
}

export function begin(
  record: LeaseRecord,
  revision: number,
  sentMs: number,
  self: LeaseSelf,
): Tenure {
  return { record, revision, validUntilMs: validUntil(sentMs, self), unsettled: [] };
}

/** What we wrote ourselves is as much a reason to miss it later as what we read. */
export function wrote(memory: LeaseMemory, { record, revision }: Tenure): LeaseMemory {
  return {
    ...memory,
    revisionMax: Math.max(memory.revisionMax, revision),
    epochMax: Math.max(memory.epochMax, record.epoch),
  };
}

/** The next renewal. Each has its own number, so that a later look tells which of them arrived. */
export function renewal(tenure: Tenure): LeaseRecord {
  const last = tenure.unsettled.at(-1)?.renewSeq ?? tenure.record.renewSeq;
  return { ...tenure.record, renewSeq: last + 1 };
}

export function renewalSent(tenure: Tenure, record: LeaseRecord, sentMs: number): Tenure {
  const attempt = { renewSeq: record.renewSeq, sentMs };
  return { ...tenure, unsettled: [...tenure.unsettled, attempt] };
}

/** It certainly did not leave. */
export function renewalNotSent(tenure: Tenure, record: LeaseRecord): Tenure {
  const unsettled = tenure.unsettled.filter((one) => one.renewSeq !== record.renewSeq);
  return { ...tenure, unsettled };
}

export function renewed(
  tenure: Tenure,
  record: LeaseRecord,
  revision: number,
  self: LeaseSelf,
): Tenure {
  const attempt = tenure.unsettled.find((one) => one.renewSeq === record.renewSeq)!;
  // One sent before it can no longer arrive: its revision is stale.
  const unsettled = tenure.unsettled.filter((one) => one.renewSeq > record.renewSeq);
  const validUntilMs = Math.max(tenure.validUntilMs, validUntil(attempt.sentMs, self));
  return { record, revision, validUntilMs, unsettled };
}

/** After a renewal of unknown outcome: what the key says of it. Null: it is somebody else's now. */
export function judge(tenure: Tenure, entry: KvEntry | null, self: LeaseSelf): Tenure | null {
  const record = entry === null ? null : recordOf(entry);
  if (entry === null || record === null || record.incarnation !== self.incarnation) return null;
  if (record.epoch !== tenure.record.epoch) return null;
  // None has arrived, or not yet.
  if (entry.revision === tenure.revision) return tenure;
  const arrived = tenure.unsettled.some((one) => one.renewSeq === record.renewSeq);
  return arrived ? renewed(tenure, record, entry.revision, self) : null;
}

function validUntil(sentMs: number, self: LeaseSelf): number {
  return sentMs + self.leaseMs - self.marginMs;
}

/** One beat of the holder's watch over its own clocks. */
export interface Beat {
  readonly nowMs: number;
  readonly wallMs: number;
  /** When the next one is due. */
  readonly dueMs: number;
}

/**
 * A process that was stopped, or a machine that slept, cannot know what happened meanwhile: it does not trust what
 * it had. The monotonic clock does not tick while a machine sleeps, so the date is compared as well.
 */
export function clockTrouble(
  last: Beat,
  now: { readonly nowMs: number; readonly wallMs: number },
  stallMsMax: number,
): 'stalled' | 'clock-jump' | null {
  if (now.nowMs > last.dueMs + stallMsMax) return 'stalled';
  const drift = now.wallMs - last.wallMs - (now.nowMs - last.nowMs);
  return Math.abs(drift) > CLOCK_JUMP_MS ? 'clock-jump' : null;
}
