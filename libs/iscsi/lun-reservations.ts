import {
  type FullStatus,
  type MoveParameters,
  parseFullStatus,
  parseReadKeys,
  parseReadReservation,
  parseReserveCapabilities,
  putReserveIn,
  putReserveOut,
  type RegisteredKeys,
  type Reservation,
  type ReservationType,
  type ReserveCapabilities,
  ReserveIn,
  ReserveOut,
  registerAndMoveParameters,
  reserveOutParameters,
} from '../scsi/persistent-reserve.ts';
import { verdictError } from '../scsi/sense-table.ts';
import { badData, type RunOptions, run, runChecked } from './execute.ts';
import type { IscsiSession } from './session.ts';

/** Key lists are asked for this much first, and at most for the second: a 16-bit length. */
const LIST_BYTES = 1024;
const LIST_BYTES_MAX = 0xffff;

const SHORT_BYTES = 24;

/**
 * Persistent reservations of one logical unit over one path (SPC-4 §5.13). A registration belongs to the I_T nexus: each
 * path registers itself. A conflict is final here, and never tried again.
 */
export class LunReservations {
  readonly #session: IscsiSession;
  readonly #lun: Buffer;
  readonly #options: RunOptions;
  /** What this path registered, until it is withdrawn or taken away. */
  #registered: { readonly key: bigint; readonly aptpl: boolean } | null = null;

  constructor(session: IscsiSession, lun: Buffer, options: RunOptions) {
    this.#session = session;
    this.#lun = lun;
    this.#options = options;
  }

  /** The key of this path; null when it has none, or lost it to somebody else. */
  get key(): bigint | null {
    return this.#registered?.key ?? null;
  }

  async readKeys(): Promise<RegisteredKeys> {
    return this.#list(ReserveIn.ReadKeys, parseReadKeys);
  }

  async readReservation(): Promise<Reservation> {
    const data = await this.#in(ReserveIn.ReadReservation, SHORT_BYTES);
    return parseReadReservation(data) ?? this.#nonsense('READ RESERVATION');
  }

  async capabilities(): Promise<ReserveCapabilities> {
    const data = await this.#in(ReserveIn.ReportCapabilities, SHORT_BYTES);
    return parseReserveCapabilities(data) ?? this.#nonsense('REPORT CAPABILITIES');
  }

  async readFullStatus(): Promise<FullStatus> {
    return this.#list(ReserveIn.ReadFullStatus, parseFullStatus);
  }

  /** Registers `key` for this path, whatever it had before; `aptpl`: it survives a loss of power on the target. */
  async register(key: bigint, options: { readonly aptpl?: boolean } = {}): Promise<void> {
    const aptpl = options.aptpl ?? false;
    const action = ReserveOut.RegisterAndIgnoreExistingKey;
    await this.#out(action, 0, reserveOutParameters({ key: 0n, actionKey: key, aptpl }));
    this.#registered = { key, aptpl };
  }

  /** Exchanges the key, only if it still is the one that this path registered. */
  async replaceKey(key: bigint, options: { readonly aptpl?: boolean } = {}): Promise<void> {
    const aptpl = options.aptpl ?? false;
    const list = reserveOutParameters({ key: this.#own(), actionKey: key, aptpl });
    await this.#out(ReserveOut.Register, 0, list);
    this.#registered = { key, aptpl };
  }

  /** Withdraws the registration, and with it a reservation that this path holds. */
  async unregister(): Promise<void> {
    const list = reserveOutParameters({ key: this.#own(), actionKey: 0n });
    await this.#out(ReserveOut.Register, 0, list);
    this.#registered = null;
  }

  async reserve(type: ReservationType): Promise<void> {
    await this.#out(ReserveOut.Reserve, type, this.#plain());
  }

  async release(type: ReservationType): Promise<void> {
    await this.#out(ReserveOut.Release, type, this.#plain());
  }

  /** Takes every registration and the reservation away, our own too. */
  async clear(): Promise<void> {
    await this.#out(ReserveOut.Clear, 0, this.#plain());
    this.#registered = null;
  }

  /** Takes the registrations of `victim` away, and its reservation over; `abort` ends its commands too. */
  async preempt(
    victim: bigint,
    type: ReservationType,
    options: { readonly abort?: boolean } = {},
  ): Promise<void> {
    const action = options.abort === true ? ReserveOut.PreemptAndAbort : ReserveOut.Preempt;
    const list = reserveOutParameters({ key: this.#own(), actionKey: victim });
    await this.#out(action, type, list);
  }

  /** Hands the reservation, with a registration of `actionKey`, to another initiator port. */
  async registerAndMove(move: Omit<MoveParameters, 'key'>): Promise<void> {
    const list = registerAndMoveParameters({ ...move, key: this.#own() });
    await this.#out(ReserveOut.RegisterAndMove, 0, list);
    if (move.unregister === true) this.#registered = null;
  }

  /** After a nexus loss (29/07) or a reset that forgot it: the registration is made again (I17). */
  async registerAgain(): Promise<void> {
    const own = this.#registered;
    if (own !== null) await this.register(own.key, own);
  }

  /** Somebody took it away (2A/03, 2A/05): to register again would undo a fence. */
  forget(): void {
    this.#registered = null;
  }

  #own(): bigint {
    return this.#registered?.key ?? 0n;
  }

  #plain(): Buffer {
    return reserveOutParameters({ key: this.#own(), actionKey: 0n });
  }

  async #out(action: ReserveOut, type: ReservationType | 0, send: Buffer): Promise<void> {
    const cdb = (into: Buffer, at: number): void =>
      putReserveOut(into, at, action, type, send.length);
    // Not idempotent: what may have run is not sent again (H03).
    const options = { ...this.#options, onlyNotExecuted: true };
    const result = await run(this.#session, this.#lun, { cdb, send }, options);
    if (!result.good) {
      const fields = { target: this.#session.targetName, portal: this.#session.portal };
      throw verdictError(result.verdict, result.op, fields);
    }
  }

  #in(action: ReserveIn, bytes: number): Promise<Buffer> {
    const cdb = (into: Buffer, at: number): void => putReserveIn(into, at, action, bytes);
    return runChecked(this.#session, this.#lun, { cdb, receiveBytes: bytes }, this.#options);
  }

  /** Asked for again in full length when there is more. */
  async #list<T extends { readonly totalBytes: number }>(
    action: ReserveIn,
    parse: (data: Uint8Array) => T | null,
  ): Promise<T> {
    const first = parse(await this.#in(action, LIST_BYTES)) ?? this.#nonsense('a list of keys');
    if (first.totalBytes <= LIST_BYTES) return first;
    const bytes = Math.min(first.totalBytes, LIST_BYTES_MAX);
    return parse(await this.#in(action, bytes)) ?? this.#nonsense('a list of keys');
  }

  #nonsense(what: string): never {
    throw badData(`PERSISTENT RESERVE IN, ${what}`);
  }
}
