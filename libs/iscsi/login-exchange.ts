import { isOrionError, type OrionError } from '../core/errors.ts';
import type { Connection, ConnectionHandler } from './connection.ts';
import { iscsiErrors } from './errors.ts';
import type { LoginMachine, LoginResult, LoginStep } from './login.ts';
import { At, Bit } from './pdu/bhs.ts';
import { loginResponse } from './pdu/login-response.ts';
import { nameOf, Opcode } from './pdu/opcodes.ts';
import type { Task } from './task-table.ts';

const HINT_CLOSED =
  'Check that the portal is one of this target, and look at the log of the target.';
const HINT_NO_TARGET = 'Check that what listens on the portal is an iSCSI target.';

export type LoginOutcome =
  | { readonly kind: 'done' }
  | {
      readonly kind: 'redirect';
      readonly addresses: readonly string[];
      readonly permanent: boolean;
    };

/** Drives a login machine over a connection. Rejects with the reason when it fails or the connection ends. */
export class LoginExchange implements ConnectionHandler {
  readonly promise: Promise<LoginOutcome>;
  readonly #machine: LoginMachine;
  readonly #onDone: (result: LoginResult) => void;
  /** It has ended: whatever else comes in the same read is not looked at, and cannot bring it back. */
  #over = false;
  #resolve!: (outcome: LoginOutcome) => void;
  #reject!: (error: OrionError) => void;

  /** `onDone` runs before anything else of the connection is looked at: it puts the session in charge. */
  constructor(machine: LoginMachine, onDone: (result: LoginResult) => void) {
    this.#machine = machine;
    this.#onDone = onDone;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  start(connection: Connection): void {
    this.#follow(connection, this.#machine.start());
  }

  fail(error: OrionError): void {
    this.#over = true;
    this.#reject(error);
  }

  #follow(connection: Connection, step: LoginStep): void {
    switch (step.kind) {
      case 'send':
        connection.send(step.pdu, step.text);
        return;
      case 'done':
        this.#onDone(step.result);
        this.#resolve({ kind: 'done' });
        return;
      case 'redirect':
        this.#over = true;
        this.#resolve(step);
        return;
      case 'failed':
        this.fail(step.error);
    }
  }

  pdu(connection: Connection, header: Buffer, at: number, data: Buffer): void {
    if (this.#over) return;
    const opcode = header[at + At.opcode]! & Bit.opcodeMask;
    if (opcode !== Opcode.LoginResponse) {
      const what = nameOf(Opcode, opcode);
      throw this.#failure(`the target answers the login with ${what} (§6.3)`);
    }
    this.#follow(connection, this.#machine.step(loginResponse.decode(header, at), data));
  }

  dataInHeader(): Task | null {
    throw this.#failure('the target answers the login with Data-In (§6.3)');
  }

  dataIn(): void {
    // Never: the header was refused.
  }

  lost(connection: Connection, error: Error | null): void {
    const where = connection.partial ? ' in the middle of a PDU' : '';
    if (isOrionError(error)) return this.fail(this.#failure(error.message, error.hint));
    const what = error === null ? 'the target closed the connection' : 'the connection broke';
    const reason = error === null ? '' : `: ${error.message}`;
    this.fail(this.#failure(`${what}${where}${reason}`, HINT_CLOSED));
  }

  #failure(what: string, hint = HINT_NO_TARGET): OrionError {
    return iscsiErrors.make('ISCSI_LOGIN_FAILED', { message: `${what}, during the login`, hint });
  }
}
