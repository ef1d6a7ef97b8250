import type { Clock } from '../core/clock.ts';
import type { Rng } from '../core/rng.ts';
import type { Address } from '../wire/network.ts';
import { type CommandMatch, matches } from './command-match.ts';
import type { Fault } from './fault.ts';
import { HeldWrites, type HoldMatch } from './held-writes.ts';
import type { BitFlip } from './pdu-sender.ts';
import { fixedSense, type SenseCode, Status } from './scsi-codes.ts';
import type { Task } from './task.ts';

export type { CommandMatch } from './command-match.ts';
export type { Fault } from './fault.ts';

/** Which PDUs a fault strikes. */
export interface PduMatch {
  readonly direction: 'received' | 'sent';
  readonly opcode?: number;
  /** The how many-th matching PDU from now on, over all connections; 1 is the next. Default 1. */
  readonly nth?: number;
  /** Index in the target's portals. */
  readonly portal?: number;
  /** Strikes so many PDUs from the nth on. Default 1. */
  readonly count?: number;
}

export interface LoginMatch {
  readonly portal?: number;
  readonly initiatorName?: string;
  readonly count?: number;
}

/** What is sent instead of a PDU; the connection ends after it. */
export type Nonsense = 'garbage' | 'oversized' | 'truncated' | 'unknown-opcode';

/** Nonsense, or a PDU with one bit of its header or data changed after its digests were made; the connection goes on. */
export type Corruption = Nonsense | BitFlip;

export type PduVerdict = 'go' | 'cut' | 'drop' | Corruption;

export interface LoginRefusal {
  readonly statusClass: number;
  readonly statusDetail: number;
  /** For a redirection (status class 1). */
  readonly targetAddress?: Address;
}

interface ConnectionInfo {
  readonly portalIndex: number;
}

/** A connection that can be silenced. */
interface Silenceable extends ConnectionInfo {
  freeze(frozen: boolean): void;
  mute(muted: boolean): void;
}

abstract class Armed implements Fault {
  readonly name: string;
  hits = 0;
  readonly #count: number;
  readonly #list: Armed[];

  constructor(name: string, count: number | undefined, list: Armed[]) {
    this.name = name;
    this.#count = count ?? Number.POSITIVE_INFINITY;
    this.#list = list;
    list.push(this);
  }

  strike(): void {
    this.hits += 1;
    if (this.hits >= this.#count) this.remove();
  }

  remove(): void {
    const index = this.#list.indexOf(this);
    if (index >= 0) this.#list.splice(index, 1);
  }
}

class Rule<M, E> extends Armed {
  readonly match: M;
  readonly effect: E;
  /** Matching PDUs to let pass. */
  skip = 0;

  constructor(name: string, match: M & { count?: number }, effect: E, list: Rule<M, E>[]) {
    super(name, match.count, list as Armed[]);
    this.match = match;
    this.effect = effect;
  }
}

interface StatusEffect {
  readonly status: number;
  readonly sense: Buffer | null;
}

/** The scripted faults of one target. They compose: each is armed on its own and has its own `remove`. */
export class Faults {
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #statuses: Rule<CommandMatch, StatusEffect>[] = [];
  readonly #delays: Rule<CommandMatch, { ms: number; jitterMs: number }>[] = [];
  readonly #pdus: Rule<PduMatch, PduVerdict>[] = [];
  readonly #logins: Rule<LoginMatch, LoginRefusal | 'close'>[] = [];
  readonly #silences: Silence[] = [];
  readonly #holds: HeldWrites[] = [];
  readonly #connections: () => Iterable<Silenceable>;
  readonly #resume: (task: Task) => void;
  readonly #changeCapacity: (lun: number, sizeBytes: number) => void;

  constructor(init: {
    clock: Clock;
    rng: Rng;
    connections: () => Iterable<Silenceable>;
    resume: (task: Task) => void;
    changeCapacity: (lun: number, sizeBytes: number) => void;
  }) {
    this.#clock = init.clock;
    this.#rng = init.rng;
    this.#connections = init.connections;
    this.#resume = init.resume;
    this.#changeCapacity = init.changeCapacity;
  }

  /** What is armed. */
  get armed(): readonly Fault[] {
    return [
      ...this.#statuses,
      ...this.#delays,
      ...this.#pdus,
      ...this.#logins,
      ...this.#silences,
      ...this.#holds,
    ];
  }

  /** Removes every fault; what was held is executed. */
  clear(): void {
    for (const fault of this.armed) fault.remove();
  }

  /** Matching commands are executed `ms` later (plus up to `jitterMs`). They survive their connection. */
  delay(match: CommandMatch & { readonly ms: number; readonly jitterMs?: number }): Fault {
    const effect = { ms: match.ms, jitterMs: match.jitterMs ?? 0 };
    return new Rule('delay', match, effect, this.#delays);
  }

  busy(match: CommandMatch = {}): Fault {
    return new Rule('busy', match, { status: Status.Busy, sense: null }, this.#statuses);
  }

  taskSetFull(match: CommandMatch = {}): Fault {
    const effect = { status: Status.TaskSetFull, sense: null };
    return new Rule('task set full', match, effect, this.#statuses);
  }

  /** Matching commands end with this sense data, and are not executed. */
  checkCondition(sense: SenseCode, match: CommandMatch & { information?: number } = {}): Fault {
    const effect = {
      status: Status.CheckCondition,
      sense: fixedSense(sense, match.information),
    };
    return new Rule('check condition', match, effect, this.#statuses);
  }

  /** Any other status, for instance 0x18 RESERVATION CONFLICT. */
  status(status: number, match: CommandMatch = {}): Fault {
    return new Rule('status', match, { status, sense: null }, this.#statuses);
  }

  /** Drops the connection when it comes to the nth PDU, which is neither processed nor sent. */
  cut(match: PduMatch): Fault {
    return this.#armPdu('cut', match, 'cut');
  }

  /** The PDU is lost, the connection goes on: a gap in StatSN, DataSN or CmdSN. */
  drop(match: PduMatch): Fault {
    return this.#armPdu('drop', match, 'drop');
  }

  /** Sends nonsense instead of the nth PDU, then ends the connection; or sends the PDU with one bit changed. */
  corrupt(kind: Corruption, match: Omit<PduMatch, 'direction'> = {}): Fault {
    return this.#armPdu(kind, { ...match, direction: 'sent' }, kind);
  }

  #armPdu(name: string, match: PduMatch, verdict: PduVerdict): Fault {
    const rule = new Rule(name, { count: 1, ...match }, verdict, this.#pdus);
    rule.skip = (match.nth ?? 1) - 1;
    return rule;
  }

  /**
   * Connections stay open and nothing is answered. By default nothing is read either, and all of it is served after
   * `remove` (a stopped process). With `execute` commands are executed and their answers are lost for good; `remove`
   * then drops those connections.
   */
  silent(options: { readonly portal?: number; readonly execute?: boolean } = {}): Fault {
    const silence = new Silence(options, this.#silences, () => this.#applySilence());
    this.#applySilence();
    return silence;
  }

  #applySilence(): void {
    for (const connection of [...this.#connections()]) this.silence(connection);
  }

  /** Brings a connection into the state that the armed silences ask for. */
  silence(connection: Silenceable): void {
    const about = this.#silences.filter((silence) => silence.isAbout(connection));
    connection.mute(about.some((silence) => silence.execute));
    connection.freeze(about.some((silence) => !silence.execute));
  }

  /** Logins are answered with this status (RFC 7143 §11.13.5). */
  refuseLogin(refusal: LoginRefusal, match: LoginMatch = {}): Fault {
    return new Rule('refuse login', match, refusal, this.#logins);
  }

  /** Connections are closed when their login should be answered. */
  closeMidLogin(match: LoginMatch = {}): Fault {
    return new Rule('close mid-login', match, 'close', this.#logins);
  }

  /** The unit has another size from now on, and every initiator is told (unit attention 2A/09). */
  changeCapacity(lun: number, sizeBytes: number): void {
    this.#changeCapacity(lun, sizeBytes);
  }

  /**
   * Takes matching writes with their data, and neither executes nor answers them until `release`. They outlive their
   * connection, as commands in the backing store of a real target do: the ghost writes that fencing is about.
   */
  holdWrites(match: HoldMatch = {}): HeldWrites {
    const hold: HeldWrites = new HeldWrites(match, this.#resume, () => {
      const index = this.#holds.indexOf(hold);
      if (index >= 0) this.#holds.splice(index, 1);
    });
    this.#holds.push(hold);
    return hold;
  }

  // What the target asks.

  /** A command arrived: true when a fault has failed it. */
  strikesCommand(task: Task): boolean {
    for (const rule of this.#statuses) {
      if (!matches(rule.match, task)) continue;
      rule.strike();
      task.failWith(rule.effect.status, rule.effect.sense);
      return true;
    }
    return false;
  }

  /** A command is about to be executed: false when that will happen later, by `resume`. */
  mayExecute(task: Task): boolean {
    for (const hold of this.#holds) if (hold.take(task)) return false;
    for (const rule of this.#delays) {
      if (!matches(rule.match, task)) continue;
      rule.strike();
      const { ms, jitterMs } = rule.effect;
      const delayMs = ms + (jitterMs > 0 ? this.#rng.float() * jitterMs : 0);
      task.timer = this.#clock.after(delayMs, () => this.#resume(task));
      return false;
    }
    return true;
  }

  onPdu(connection: ConnectionInfo, direction: PduMatch['direction'], opcode: number): PduVerdict {
    if (this.#pdus.length === 0) return 'go';
    for (const rule of [...this.#pdus]) {
      const { match } = rule;
      if (match.direction !== direction) continue;
      if (match.opcode !== undefined && match.opcode !== opcode) continue;
      if (match.portal !== undefined && match.portal !== connection.portalIndex) continue;
      rule.skip -= 1;
      if (rule.skip >= 0) continue;
      rule.strike();
      return rule.effect;
    }
    return 'go';
  }

  onLogin(connection: ConnectionInfo, initiatorName: string): LoginRefusal | 'close' | null {
    for (const rule of this.#logins) {
      const { match } = rule;
      if (match.portal !== undefined && match.portal !== connection.portalIndex) continue;
      if (match.initiatorName !== undefined && match.initiatorName !== initiatorName) continue;
      rule.strike();
      return rule.effect;
    }
    return null;
  }

  /** An aborted task is held no more. */
  forget(task: Task): void {
    for (const hold of this.#holds) hold.forget(task);
  }
}

class Silence extends Armed {
  readonly execute: boolean;
  readonly #portal: number | undefined;
  readonly #apply: () => void;

  constructor(
    options: { readonly portal?: number; readonly execute?: boolean },
    list: Silence[],
    apply: () => void,
  ) {
    super('silent', undefined, list as Armed[]);
    this.execute = options.execute ?? false;
    this.#portal = options.portal;
    this.#apply = apply;
  }

  isAbout(connection: ConnectionInfo): boolean {
    return this.#portal === undefined || this.#portal === connection.portalIndex;
  }

  override remove(): void {
    super.remove();
    this.#apply();
  }
}
