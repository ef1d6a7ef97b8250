import type { BlockCapabilities } from '../block/device.ts';
import type { Timer } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import { AccessState, accessRank, type PathAccess } from '../multipath/access.ts';
import type { UnitAttention } from '../multipath/path.ts';
import { scsiErrors } from '../scsi/errors.ts';
import { SenseKey } from '../scsi/opcodes.ts';
import type { Sense } from '../scsi/sense.ts';
import { lookUpSense, SenseEffect } from '../scsi/sense-table.ts';
import { iscsiErrors } from './errors.ts';
import type { RunOptions } from './execute.ts';
import { readAccess } from './lun-access.ts';
import { type LunFacts, modeSense, readCapacity } from './lun-facts.ts';
import { identify } from './lun-identity.ts';
import type { LunReservations } from './lun-reservations.ts';
import { Recheck } from './recheck.ts';
import type { IscsiSession } from './session.ts';

/** How often a path in transition is looked at, and for how long when the device does not say (failover.md §8). */
const TRANSITION_POLL_MS = 500;
const TRANSITION_MS_MAX = 60_000;

/** Not ready for the access state of the port (ASC 04h): what the device says of the state by that. */
const TOLD: Readonly<Record<number, AccessState>> = {
  10: AccessState.Transitioning,
  11: AccessState.Standby,
  12: AccessState.Unavailable,
  18: AccessState.Offline,
};

const HELD_BACK = {
  message: 'the command was not sent: the logical unit is being looked at again',
};

const NOW_SERVES = {
  message: 'the logical unit can be used over this path from now on: it is attached anew',
};

export interface WatchOptions {
  readonly session: IscsiSession;
  readonly lun: Buffer;
  readonly facts: LunFacts;
  readonly reservations: LunReservations;
  /** What the device can, from now on. */
  readonly onChange: (caps: BlockCapabilities, dpoFua: boolean) => void;
  /** True: nobody knows whom I/O would reach, so none may be sent. */
  readonly onGate: (closed: boolean) => void;
}

/**
 * What a logical unit tells besides answers: unit attentions (I20), access states (I19), deferred errors. Each is told on,
 * and what it puts in doubt is asked for again: identity before any further I/O, the rest beside it.
 */
export class LunWatch {
  access: PathAccess;
  readonly #options: WatchOptions;
  readonly #runOptions: RunOptions;
  readonly #identity: Recheck;
  readonly #capacity: Recheck;
  readonly #mode: Recheck;
  readonly #access: Recheck;
  readonly #registration: Recheck;
  #caps: BlockCapabilities;
  #dpoFua: boolean;
  /** As last read; the capabilities never shrink. */
  #sizeBytes: number;
  #deferred: Sense | null = null;
  #listeners: ((attention: UnitAttention) => void)[] = [];
  #transitionBeganMs = 0;
  #transitionMs = TRANSITION_MS_MAX;
  #poll: Timer | null = null;

  constructor(options: WatchOptions) {
    const { facts, session } = options;
    this.#options = options;
    this.access = facts.access;
    this.#caps = facts.caps;
    this.#dpoFua = facts.dpoFua;
    this.#sizeBytes = facts.caps.sizeBytes;
    // A look of our own waits for no other: it would wait for itself.
    this.#runOptions = { onSense: (sense) => this.hear(sense) };
    this.#identity = this.#recheck('identity', () => this.#checkIdentity());
    this.#capacity = this.#recheck('capacity', () => this.#checkCapacity());
    this.#mode = this.#recheck('mode', () => this.#checkMode());
    this.#access = this.#recheck('access', () => this.refreshAccess());
    this.#registration = this.#recheck('registration', () => this.#checkRegistration());
    session.onClosed(() => this.#poll?.cancel());
    session.onEvent((event) => {
      const ours = event.kind === 'scsi' && event.lun.equals(options.lun);
      if (ours && event.sense !== null) this.hear(event.sense);
    });
    if (this.access.state === AccessState.Transitioning) this.#pollTransition();
  }

  onAttention(fn: (attention: UnitAttention) => void): void {
    this.#listeners.push(fn);
  }

  /** A deferred error, once. */
  takeDeferred(): Sense | null {
    const sense = this.#deferred;
    this.#deferred = null;
    return sense;
  }

  /** Hears of every sense. A promise: the command that brought it is not sent again before it resolves. */
  notice(sense: Sense): Promise<void> | null {
    const { text, effect } = lookUpSense(sense.key, sense.asc, sense.ascq);
    if (sense.deferred) {
      this.#deferred = sense;
      // The next flush may go over another path, or be another owner's.
      this.#tell({ asc: sense.asc, ascq: sense.ascq, text, deferred: true });
      return null;
    }
    const attention = sense.key === SenseKey.UnitAttention;
    if (attention) this.#tell({ asc: sense.asc, ascq: sense.ascq, text });
    switch (effect) {
      case SenseEffect.Medium: {
        const checked = this.#identity.run(); // first: what waits to be sent then comes back
        this.#begin(this.#capacity);
        return checked;
      }
      case SenseEffect.Identity:
        return this.#identity.run();
      case SenseEffect.Capacity:
        this.#begin(this.#capacity);
        return null;
      case SenseEffect.Mode:
        return this.#mode.run();
      case SenseEffect.Reset:
        return this.#options.reservations.key === null ? null : this.#registration.run();
      case SenseEffect.Preempted:
        this.#options.reservations.forget();
        return null;
      case SenseEffect.Access:
        return this.#onAccess(sense, attention);
      default:
        return null;
    }
  }

  /** `notice` for who waits for nothing. */
  hear(sense: Sense): null {
    void this.notice(sense);
    return null;
  }

  #onAccess(sense: Sense, attention: boolean): Promise<void> | null {
    if (this.#options.facts.tpgs === 0) return null;
    const told = attention ? undefined : TOLD[sense.ascq];
    if (told !== undefined) this.#setAccess({ ...this.access, state: told });
    const looked = this.#access.run();
    // After 2A/06 the state is read before the command goes out again; else the answer has told it.
    return attention ? looked : null;
  }

  /** Beside the I/O: nobody waits for it, and it handles its own failures. */
  #begin(recheck: Recheck): void {
    void recheck.run();
  }

  #recheck(what: string, look: () => Promise<void>): Recheck {
    return new Recheck(async () => {
      try {
        await look();
      } catch (error) {
        // A session that is lost says so itself.
        if (this.#options.session.cause !== null) return;
        this.#tell({ asc: 0, ascq: 0, text: `the ${what} could not be read: ${errorText(error)}` });
      }
    });
  }

  /** A LUN may be mapped to another logical unit: nothing may be sent to that (I05). */
  async #checkIdentity(): Promise<void> {
    const { session, lun, facts, onGate } = this.#options;
    this.#closeGate();
    try {
      const { identity } = await identify(session, lun, this.#runOptions);
      if (identity.wwid !== facts.identity.wwid) {
        throw scsiErrors.make('SCSI_UNIT_CHANGED', {
          fields: { expected: facts.identity.wwid, found: identity.wwid },
        });
      }
    } catch (error) {
      // Before the gate opens: what waits behind it is lost as not executed.
      session.destroy(error as Error);
    } finally {
      onGate(false);
    }
  }

  /** What waits for the target's command window would leave in the meantime: it comes back, not executed. */
  #closeGate(): void {
    const { session, lun, onGate } = this.#options;
    onGate(true);
    for (const task of session.commandsOf(lun)) {
      if (task.queued) session.abandon(task, iscsiErrors.make('ISCSI_SESSION_CLOSED', HELD_BACK));
    }
  }

  async #checkCapacity(): Promise<void> {
    const { session, lun, facts } = this.#options;
    if (facts.unsized === true) return; // when it serves all is learned anew
    const { blocks, blockBytes } = await readCapacity(session, lun, this.#runOptions);
    const sizeBytes = blocks * blockBytes;
    const old = this.#caps;
    if (blockBytes !== old.blockBytes) {
      const fields = { expectedBlock: old.blockBytes, foundBlock: blockBytes };
      session.destroy(scsiErrors.make('SCSI_UNIT_CHANGED', { fields }));
      return;
    }
    const before = this.#sizeBytes;
    if (sizeBytes === before) return;
    this.#sizeBytes = sizeBytes;
    // One that has shrunk: I/O beyond the end fails; what was promised to clients cannot be taken back.
    if (sizeBytes > old.sizeBytes) {
      this.#caps = { ...old, sizeBytes };
      this.#changed();
    }
    const text = `the unit has ${sizeBytes > before ? 'grown' : 'shrunk'} to ${sizeBytes} bytes`;
    this.#tell({ asc: 0x2a, ascq: 0x09, text, sizeBytes });
  }

  async #checkMode(): Promise<void> {
    const { session, lun, facts } = this.#options;
    if (facts.unsized === true) return;
    const mode = await modeSense(session, lun, this.#runOptions);
    if (mode === null) return;
    this.#dpoFua = mode.dpoFua;
    const volatileCache = mode.writeCache ?? true;
    const isNew = volatileCache && !this.#caps.volatileCache;
    this.#caps = { ...this.#caps, readOnly: mode.writeProtected, volatileCache };
    this.#changed();
    if (!isNew) return;
    const text = 'the unit has switched a volatile cache on';
    this.#tell({ asc: 0x2a, ascq: 0x01, text, volatileCache: true });
  }

  #changed(): void {
    this.#options.onChange(this.#caps, this.#dpoFua);
  }

  async #checkRegistration(): Promise<void> {
    const { reservations, onGate } = this.#options;
    this.#closeGate();
    try {
      await reservations.registerAgain();
    } finally {
      onGate(false);
    }
  }

  /** Asks for the access state, and rejects when there is no answer. */
  async refreshAccess(): Promise<void> {
    const { session, lun, facts } = this.#options;
    const report = await readAccess(session, lun, facts.port, this.#runOptions);
    const { access, transitionSeconds } = report;
    if (transitionSeconds !== null) this.#transitionMs = transitionSeconds * 1000;
    this.#setAccess(access);
  }

  /** False while the device says that nothing but questions goes over this path. */
  get serves(): boolean {
    return accessRank(this.access) > 0;
  }

  #setAccess(access: PathAccess): void {
    const old = this.access;
    if (old.state === access.state && old.preferred === access.preferred) return;
    if (this.#options.facts.unsized === true && accessRank(access) > 0) {
      // Before anybody hears that it serves. Nothing was in flight, and the next login learns what this one could not.
      this.#options.session.destroy(scsiErrors.make('SCSI_PATH_STANDBY', NOW_SERVES));
      return;
    }
    this.access = access;
    const text = `access state ${access.state}, was ${old.state}`;
    this.#tell({ asc: 0x2a, ascq: 0x06, text, access });
    if (access.state === AccessState.Transitioning) this.#pollTransition();
  }

  /** A transition ends without a word to us unless we ask; one that takes too long makes the path unavailable. */
  #pollTransition(): void {
    const { clock, cause } = this.#options.session;
    if (cause !== null || this.#poll !== null) return;
    this.#transitionBeganMs = clock.nowMs();
    const look = (): void => {
      this.#poll = null;
      if (this.access.state !== AccessState.Transitioning) return;
      if (clock.nowMs() - this.#transitionBeganMs >= this.#transitionMs) {
        this.#setAccess({ ...this.access, state: AccessState.Unavailable });
        return;
      }
      this.#poll = clock.after(TRANSITION_POLL_MS, look);
      this.#begin(this.#access);
    };
    this.#poll = clock.after(TRANSITION_POLL_MS, look);
  }

  #tell(attention: UnitAttention): void {
    for (const fn of this.#listeners) fn(attention);
  }
}
