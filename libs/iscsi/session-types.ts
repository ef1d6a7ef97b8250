import type { Clock } from '../core/clock.ts';
import type { Rng } from '../core/rng.ts';
import type { Address } from '../wire/network.ts';
import type { ConnectionOpener } from './connection-set.ts';
import type { SessionTimeouts } from './session-options.ts';

export const SessionState = {
  Open: 'open',
  /** No new commands: a logout is on its way. */
  Closing: 'closing',
  Closed: 'closed',
} as const;
export type SessionState = (typeof SessionState)[keyof typeof SessionState];

export interface SessionStats {
  commands: number;
  bytesRead: number;
  bytesWritten: number;
  /** Commands that were submitted and have not come back. */
  inflight: number;
}

export interface SessionInit {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly timeouts: SessionTimeouts;
  /** Empty: a discovery session. */
  readonly targetName: string;
  readonly isid: Buffer;
  readonly cmdSn: number;
  readonly stopDataOnAbort: boolean;
  /** Where the leading login was. */
  readonly address: Address;
  readonly opener: ConnectionOpener;
}
