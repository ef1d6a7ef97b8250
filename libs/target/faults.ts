import type { Clock } from '../core/clock.ts';
import type { Rng } from '../core/rng.ts';
import type { AsyncEventScript } from './async-message.ts';
import { type CommandMatch, matches } from './command-match.ts';
import { Armed, type Fault, Rule, strikeFirst } from './fault.ts';
import {
  type ConnectionInfo,
  type ConnectionMatch,
  type Corruption,
  isAbout,
  isAboutLogin,
  type LoginInfo,
  type LoginMatch,
  type LoginRefusal,
  type LogoutMatch,
  type LogoutScript,
  type PduMatch,
  type PduVerdict,
  type Scriptable,
  type TaskFunctionMatch,
} from './fault-matches.ts';
import { HeldWrites, type HoldMatch } from './held-writes.ts';
import { fixedSense, type SenseCode, Status } from './scsi-codes.ts';
import type { Task } from './task.ts';

export type { CommandMatch } from './command-match.ts';
export type { Fault } from './fault.ts';
export type { LoginMatch, LoginRefusal, PduMatch } from './fault-matches.ts';

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
  readonly #logouts: Rule<LogoutMatch, LogoutScript>[] = [];
  readonly #functions: Rule<TaskFunctionMatch, number | 'silence'>[] = [];
  readonly #silences: Silence[] = [];
  readonly #holds: HeldWrites[] = [];
  readonly #connections: () => Iterable<Scriptable>;
  readonly #resume: (task: Task) => void;
  readonly #changeCapacity: (lun: number, sizeBytes: number) => void;

  constructor(init: {
    clock: Clock;
    rng: Rng;
    connections: () => Iterable<Scriptable>;
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
      ...this.#logouts,
      ...this.#functions,
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

  /** The PDU that comes is answered with a Reject (§11.17) and is as if it had never come; its CmdSN too (§7.3). */
  reject(reason: number, match: Omit<PduMatch, 'direction'> = {}): Fault {
    return this.#armPdu('reject', { ...match, direction: 'received' }, { reject: reason });
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
  silence(connection: Scriptable): void {
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

  /** Logouts are answered so (§11.15.1); with another response than 0 nothing else happens. */
  answerLogout(script: LogoutScript, match: LogoutMatch = {}): Fault {
    return new Rule('answer logout', match, script, this.#logouts);
  }

  /** Task management functions are answered so (§11.6.1), or never, and not carried out. */
  answerTaskFunction(response: number | 'silence', match: TaskFunctionMatch = {}): Fault {
    return new Rule('answer task function', match, response, this.#functions);
  }

  // What happens at once, on every logged in connection that matches: so many they are.

  /** Sends an asynchronous message (§11.9). What the target says, it does not do by itself. */
  asyncEvent(script: AsyncEventScript, where: ConnectionMatch = {}): number {
    return this.#each(where, (connection) => connection.sendAsync(script));
  }

  /** Sends a Reject about a header that may never have come. */
  sendReject(reason: number, header: Uint8Array, where: ConnectionMatch = {}): number {
    return this.#each(where, (connection) => connection.sendReject(reason, header));
  }

  /** Sends a NOP-In that asks for an answer (§11.19). */
  ping(where: ConnectionMatch = {}): number {
    return this.#each(where, (connection) => connection.ping());
  }

  /** Leaves out numbers of StatSN, as if that many statuses were lost that cannot be sent again. */
  skipStatSn(count = 1, where: ConnectionMatch = {}): number {
    return this.#each(where, (connection) => connection.skipStatSn(count));
  }

  /** Drops the connection when so many more bytes were received or sent, wherever in a PDU that is. */
  cutAfter(direction: 'received' | 'sent', bytes: number, where: ConnectionMatch = {}): number {
    return this.#each(where, (connection) => connection.cutAfter(direction, bytes));
  }

  #each(where: ConnectionMatch, act: (connection: Scriptable) => void): number {
    const about = [...this.#connections()].filter(
      (connection) => connection.isLoggedIn && isAbout(where, connection),
    );
    for (const connection of about) act(connection);
    return about.length;
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
    const verdict = strikeFirst(
      [...this.#pdus],
      (match) =>
        match.direction === direction &&
        (match.opcode === undefined || match.opcode === opcode) &&
        isAbout(match, connection),
    );
    return verdict ?? 'go';
  }

  onLogin(login: LoginInfo): LoginRefusal | 'close' | null {
    return strikeFirst(this.#logins, (match) => isAboutLogin(match, login));
  }

  onLogout(connection: ConnectionInfo, reason: number): LogoutScript | null {
    return strikeFirst(
      this.#logouts,
      (match) =>
        (match.reason === undefined || match.reason === reason) && isAbout(match, connection),
    );
  }

  onTaskFunction(connection: ConnectionInfo, fn: number): number | 'silence' | null {
    return strikeFirst(
      this.#functions,
      (match) =>
        (match.function === undefined || match.function === fn) && isAbout(match, connection),
    );
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

  isAbout(connection: { readonly portalIndex: number }): boolean {
    return this.#portal === undefined || this.#portal === connection.portalIndex;
  }

  override remove(): void {
    super.remove();
    this.#apply();
  }
}
