import type { ClaimReply } from '../contracts/messages.ts';
import type { SlotRecord } from '../contracts/records.ts';
import { type Clock, sleep } from '../core/clock.ts';
import { errorText, isOrionError } from '../core/errors.ts';
import type { Rng } from '../core/rng.ts';
import { clusterErrors } from './errors.ts';

const BACKOFF_MS_MIN = 100;
const BACKOFF_MS_MAX = 5_000;

/** Longest time to wait that a try is told of and that is kept. */
const WAIT_MS_MAX = 30_000;

/** I/O in flight on healthy paths gets this long to finish before the logical unit is reset under it. */
const QUIESCE_MS = 1_000;

/** What the failover of a slot needs done; the owner of the volume does it. Each rejects when it failed. */
export interface FailoverPorts {
  /** Workers that could hold the slot, best first. */
  candidates(slot: number): readonly string[];
  /** Writes "this worker may log in, as the next incarnation" before anybody does. */
  assign(slot: number, worker: string): Promise<SlotRecord>;
  /** P1: login with the slot's ISID, which ends the old session. `anyPortal`: also through other portals. */
  claim(record: SlotRecord, anyPortal: boolean): Promise<ClaimReply>;
  /** Refuses a path that shows another unit or another size. */
  verify(record: SlotRecord, reply: ClaimReply): Promise<void>;
  /** Something sent in this slot may still execute on the target. */
  needsFence(slot: number): boolean;
  /** Holds I/O back and drains, at most this long; `resume` goes on. */
  quiesce(timeoutMs: number): Promise<void>;
  resume(reset: boolean): void;
  /** P2: LOGICAL UNIT RESET through the slot, answered FUNCTION COMPLETE; then what is left elsewhere is void. */
  resetUnit(record: SlotRecord): Promise<void>;
  /** Nothing that was sent in this slot can execute any more. */
  fenced(slot: number): Promise<void>;
  /** Writes that the slot is clean and in service. */
  settle(slot: number, reply: ClaimReply): Promise<void>;
  /** Puts the path into service. */
  serve(record: SlotRecord, reply: ClaimReply): Promise<void>;
  release(record: SlotRecord): Promise<void>;
}

export interface FailoverOptions {
  readonly ports: FailoverPorts;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly signal: AbortSignal;
  /**
   * False: writes of unknown outcome are repeated without a fence. Acknowledged writes can then be overwritten by
   * older ones; it exists so that tests can show that the fence is what prevents it.
   */
  readonly fencing: boolean;
  /** Tries with the shortest pause before the pauses grow; none when left out. */
  readonly quickTries?: number;
  readonly onEvent: (slot: number, text: string) => void;
  /** A try failed; another one follows. */
  readonly onFailed: (slot: number, error: unknown) => void;
  /** Errors after which trying again is pointless: the volume belongs to somebody else. */
  readonly isFatal: (error: unknown) => boolean;
  readonly onFatal: (error: unknown) => void;
}

/**
 * Brings slots of one volume (back) into service: log in anew, fence what the old session may still execute, and only
 * then let go of what waits for it (failover.md §6.1-6.3). The fence is F3: close the door (session reinstatement with
 * the same ISID, in the same target portal group), then empty the room (LOGICAL UNIT RESET), in this order.
 */
export class Failover {
  readonly #options: FailoverOptions;
  readonly #running = new Map<number, { again: boolean }>();
  #resetTurn: Promise<unknown> = Promise.resolve();

  constructor(options: FailoverOptions) {
    this.#options = options;
  }

  get busy(): boolean {
    return this.#running.size > 0;
  }

  isRecovering(slot: number): boolean {
    return this.#running.has(slot);
  }

  /**
   * Works until the slot is in service, or the volume is given up. `mustFence`: an earlier owner may have left
   * something behind. Calls for a slot that is being recovered already join it.
   */
  async recover(slot: number, mustFence: boolean, onFenced?: () => void): Promise<void> {
    const running = this.#running.get(slot);
    if (running !== undefined) {
      running.again = true;
      return;
    }
    const mine = { again: false };
    this.#running.set(slot, mine);
    const { clock, rng, signal, onFailed, isFatal, onFatal } = this.#options;
    const state = { mustFence, attempt: 0, onFenced };
    try {
      while (!signal.aborted) {
        let waitMs = 0;
        try {
          mine.again = false;
          await this.#attempt(slot, state);
          // It may have been lost again before we came out of here.
          if (!mine.again) return;
          state.attempt = 0;
          continue;
        } catch (error) {
          if (signal.aborted) return;
          if (isFatal(error)) return onFatal(error);
          onFailed(slot, error);
          waitMs = namedWaitMs(error);
        }
        // One that comes too early is no reason to ask another worker.
        if (waitMs === 0) state.attempt += 1;
        const grown = Math.max(0, state.attempt - 1 - (this.#options.quickTries ?? 0));
        const pauseMs = Math.min(BACKOFF_MS_MIN * 2 ** grown, BACKOFF_MS_MAX);
        const pause = Math.max(waitMs, pauseMs * (0.5 + rng.float() / 2));
        await sleep(clock, pause, signal).catch(() => {});
      }
    } finally {
      this.#running.delete(slot);
    }
  }

  /** One try; resolves when the slot is in service. */
  async #attempt(
    slot: number,
    state: { mustFence: boolean; attempt: number; onFenced: (() => void) | undefined },
  ): Promise<void> {
    const { ports, onEvent } = this.#options;
    const candidates = ports.candidates(slot);
    const worker = candidates[state.attempt % Math.max(1, candidates.length)];
    if (worker === undefined) throw clusterErrors.make('CLUSTER_NO_WORKER', { fields: { slot } });
    const before = await ports.assign(slot, worker);
    const needsFence = (): boolean => state.mustFence || ports.needsFence(slot);
    let record = before;
    let reply: ClaimReply;
    try {
      reply = await ports.claim(record, false);
    } catch (error) {
      if (!needsFence() || !mayTryOtherPortal(error)) throw error;
      onEvent(slot, `its portal does not answer, fencing through another: ${errorText(error)}`);
      record = await ports.assign(slot, worker);
      reply = await ports.claim(record, true);
    }
    await ports.verify(record, reply);
    if (needsFence()) await this.#fence(record, reply, before.tpgt);
    state.mustFence = false;
    await ports.fenced(slot);
    await ports.settle(slot, reply);
    state.onFenced?.();
    state.onFenced = undefined;
    await ports.serve(record, reply);
  }

  async #fence(record: SlotRecord, reply: ClaimReply, oldTpgt: number): Promise<void> {
    const { ports, onEvent, fencing } = this.#options;
    if (!fencing) {
      onEvent(record.slot, 'fencing is switched off: going on without');
      return;
    }
    // A nexus is (initiator port, target portal group): in another group the login ended nothing (RFC 7143 §4.4).
    if (oldTpgt >= 0 && reply.tpgt !== oldTpgt) {
      await ports.release(record);
      throw clusterErrors.make('CLUSTER_FENCE_GROUP', {
        fields: { slot: record.slot, group: oldTpgt, reached: reply.tpgt },
      });
    }
    // One reset at a time: they hit each other's paths.
    const turn = this.#resetTurn.then(() => this.#reset(record));
    this.#resetTurn = turn.catch(() => {}); // its own caller hears of it
    await turn;
  }

  async #reset(record: SlotRecord): Promise<void> {
    const { ports, onEvent } = this.#options;
    await ports.quiesce(QUIESCE_MS);
    let done = false;
    try {
      await ports.resetUnit(record);
      done = true;
      onEvent(record.slot, 'fenced');
    } finally {
      ports.resume(done);
    }
  }
}

/** A refusal by a worker or the bus says nothing about the portal. */
function mayTryOtherPortal(error: unknown): boolean {
  return isOrionError(error) && (error.code.startsWith('ISCSI_') || error.code.startsWith('SCSI_'));
}

/** The target ended the session and wants to be left alone before the next login: by any worker (RFC 7143 §11.9.1). */
function namedWaitMs(error: unknown): number {
  const waitMs = isOrionError(error) ? error.fields.waitMs : undefined;
  return typeof waitMs === 'number' ? Math.min(waitMs, WAIT_MS_MAX) : 0;
}
