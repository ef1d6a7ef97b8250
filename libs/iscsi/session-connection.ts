import { assert } from '../core/assert.ts';
import { type Address, formatAddress } from '../wire/network.ts';
import type { Connection } from './connection.ts';
import { type ConnectionEvent, ConnectionState, nextState } from './connection-state.ts';
import type { Keepalive } from './keepalive.ts';

/** What `session.connections()` says of one. */
export interface ConnectionStatus {
  readonly cid: number;
  readonly state: ConnectionState;
  readonly portal: string;
}

/** A place for a connection in a session: its CID stays, the connection may be lost and come back. */
export class SessionConnection {
  readonly cid: number;
  /** Where it is, or is to be opened. */
  address: Address;
  connection: Connection | null = null;
  keepalive: Keepalive | null = null;
  /** Logins in a row that failed. */
  failures = 0;
  /** It was in full feature phase once: the target takes it. */
  wasUp = false;
  #state: ConnectionState = ConnectionState.Free;

  constructor(cid: number, address: Address) {
    this.cid = cid;
    this.address = address;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** One transition of §8.1.3. */
  step(event: ConnectionEvent): void {
    const next = nextState(this.#state, event);
    assert(next !== null, `a connection in ${this.#state} has no transition for ${event}`);
    this.#state = next;
  }

  status(): ConnectionStatus {
    const portal = this.connection?.remote ?? formatAddress(this.address);
    return { cid: this.cid, state: this.#state, portal };
  }
}
