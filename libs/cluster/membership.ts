import { Value } from 'typebox/value';
import type { Bus, BusMessage, Subscription } from '../bus/bus.ts';
import { Heartbeat, type Role } from '../contracts/messages.ts';
import type { Subjects } from '../contracts/subjects.ts';
import { type Clock, every, type Timer } from '../core/clock.ts';

const PERIOD_MS = 1000;
const SUSPECT_MS = 3000;
/** Silent for this many times `suspectMs`: gone. */
const GONE_FACTOR = 4;
/** Members that are remembered; heartbeats of more are counted as bad. */
const MEMBERS_MAX = 1024;

/** A process that is heard. One that is gone is no member any more. */
export interface Member extends Heartbeat {
  readonly state: 'alive' | 'suspect';
  /** When it was last heard, by our own clock. */
  readonly heardMs: number;
}

export interface MemberChange {
  /** `left`: said farewell, drains, was silent too long, or another process took its place. */
  readonly what: 'joined' | 'suspect' | 'recovered' | 'moved' | 'left';
  readonly member: Member;
}

export interface MembershipOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  readonly clock: Clock;
  /** What we say of ourselves; left out by who only listens. */
  readonly self?: () => Heartbeat;
  readonly periodMs?: number;
  readonly suspectMs?: number;
  readonly goneMs?: number;
  readonly onChange?: (change: MemberChange) => void;
}

/**
 * Who is there, from heartbeats. An opinion, timed by our own clock: good enough to place by, never a proof that
 * somebody is dead.
 */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #clock: Clock;
  readonly #periodMs: number;
  readonly #suspectMs: number;
  readonly #goneMs: number;
  readonly #members = new Map<string, Member>();
  #subscription: Subscription | null = null;
  #timer: Timer | null = null;
  #tickMs = 0;
  #wasConnected = true;
  #badMessages = 0;

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#periodMs = options.periodMs ?? PERIOD_MS;
    this.#suspectMs = options.suspectMs ?? SUSPECT_MS;
    this.#goneMs = options.goneMs ?? this.#suspectMs * GONE_FACTOR;
  }

  /** Messages that were not heartbeats, or not of their subject, and were ignored. */
  get badMessages(): number {
    return this.#badMessages;
  }

  start(): void {
    if (this.#timer !== null) return;
    const { bus, subjects } = this.#options;
    this.#tickMs = this.#clock.nowMs();
    this.#subscription = bus.subscribe(subjects.heartbeats, (message) => this.#hear(message));
    this.#timer = every(this.#clock, this.#periodMs, () => this.#tick());
    this.announce();
  }

  /** Says farewell, so that others need not wait for silence. */
  stop(): void {
    if (this.#timer === null) return;
    this.#timer.cancel();
    this.#timer = null;
    this.#subscription?.unsubscribe();
    const { self } = this.#options;
    if (self !== undefined) this.#publish({ ...self(), draining: true });
    this.#members.clear();
  }

  /** A heartbeat now: something that others should know has changed. */
  announce(): void {
    const { self } = this.#options;
    if (self === undefined || this.#timer === null) return;
    const heartbeat = self();
    this.#publish(heartbeat);
    // We know of ourselves whatever the bus does.
    this.#take(heartbeat);
  }

  /** Sorted by role and id. Includes ourselves, unless we drain. */
  members(role?: Role): Member[] {
    return [...this.#members.values()]
      .filter((member) => role === undefined || member.role === role)
      .sort((a, b) => compare(a.role, b.role) || compare(a.id, b.id));
  }

  member(role: Role, id: string): Member | null {
    return this.#members.get(keyOf(role, id)) ?? null;
  }

  /** Somebody saw a sign that it is dead (its stream closed): suspect until it is heard again. */
  doubt(role: Role, id: string): void {
    const member = this.#members.get(keyOf(role, id));
    if (member !== undefined) this.#suspect(member);
  }

  #publish(heartbeat: Heartbeat): void {
    const { bus, subjects } = this.#options;
    bus.publish(subjects.heartbeat(heartbeat.role, heartbeat.id), heartbeat);
  }

  #hear({ subject, data }: BusMessage): void {
    const { subjects } = this.#options;
    if (!Value.Check(Heartbeat, data) || subject !== subjects.heartbeat(data.role, data.id)) {
      this.#badMessages += 1;
      return;
    }
    this.#take(data);
  }

  #take(heartbeat: Heartbeat): void {
    const known = this.#members.get(keyOf(heartbeat.role, heartbeat.id));
    if (known === undefined) return this.#join(heartbeat);
    if (known.incarnation !== heartbeat.incarnation) {
      // Of two processes with one name the one that started later is the real one.
      if (this.#isOlder(heartbeat, known)) return;
      this.#leave(known);
      return this.#join(heartbeat);
    }
    if (heartbeat.draining) return this.#leave(known);
    const member = this.#keep(heartbeat, 'alive');
    if (known.state === 'suspect') this.#tell('recovered', member);
    if (known.link !== member.link || known.node !== member.node) this.#tell('moved', member);
  }

  #isOlder(heartbeat: Heartbeat, known: Member): boolean {
    const startedMs = this.#clock.nowMs() - heartbeat.uptimeMs;
    return startedMs < known.heardMs - known.uptimeMs;
  }

  #join(heartbeat: Heartbeat): void {
    if (heartbeat.draining) return;
    if (this.#members.size >= MEMBERS_MAX) {
      this.#badMessages += 1;
      return;
    }
    this.#tell('joined', this.#keep(heartbeat, 'alive'));
  }

  #suspect(member: Member): void {
    if (member.state === 'suspect') return;
    const suspect: Member = { ...member, state: 'suspect' };
    this.#members.set(keyOf(member.role, member.id), suspect);
    this.#tell('suspect', suspect);
  }

  #leave(member: Member): void {
    this.#members.delete(keyOf(member.role, member.id));
    this.#tell('left', member);
  }

  #keep(heartbeat: Heartbeat, state: Member['state']): Member {
    const member = { ...heartbeat, state, heardMs: this.#clock.nowMs() };
    this.#members.set(keyOf(heartbeat.role, heartbeat.id), member);
    return member;
  }

  #tell(what: MemberChange['what'], member: Member): void {
    this.#options.onChange?.({ what, member });
  }

  #tick(): void {
    this.#forgiveDeafness();
    this.announce();
    const nowMs = this.#clock.nowMs();
    for (const member of [...this.#members.values()]) {
      const silentMs = nowMs - member.heardMs;
      if (silentMs >= this.#goneMs) this.#leave(member);
      else if (silentMs >= this.#suspectMs) this.#suspect(member);
    }
  }

  /** Time in which we could hear nobody (no connection, a blocked event loop) says nothing about the others. */
  #forgiveDeafness(): void {
    const nowMs = this.#clock.nowMs();
    const sinceTickMs = nowMs - this.#tickMs;
    this.#tickMs = nowMs;
    const isConnected = this.#options.bus.status === 'connected';
    const wasDeaf = !isConnected || !this.#wasConnected;
    this.#wasConnected = isConnected;
    const deafMs = wasDeaf ? sinceTickMs : Math.max(0, sinceTickMs - 2 * this.#periodMs);
    if (deafMs === 0) return;
    for (const [key, member] of this.#members) {
      const heardMs = Math.min(nowMs, member.heardMs + deafMs);
      this.#members.set(key, { ...member, heardMs });
    }
  }
}

function keyOf(role: Role, id: string): string {
  return `${role}.${id}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
