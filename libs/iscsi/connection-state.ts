/**
 * States of one connection as the initiator sees it (RFC 7143 §8.1.3), with those of its cleanup after a failure (§8.2).
 * S3 is the target's only.
 */
export const ConnectionState = {
  /** S1, R3. */
  Free: 'FREE',
  /** S2. */
  XptWait: 'XPT_WAIT',
  /** S4. */
  InLogin: 'IN_LOGIN',
  /** S5. */
  LoggedIn: 'LOGGED_IN',
  /** S6. */
  InLogout: 'IN_LOGOUT',
  /** S7. */
  LogoutRequested: 'LOGOUT_REQUESTED',
  /** S8, R1: it failed, and the target may still have tasks of it. */
  CleanupWait: 'CLEANUP_WAIT',
  /** R2: it is being logged out over another connection, or by a login in its place. */
  InCleanup: 'IN_CLEANUP',
} as const;
export type ConnectionState = (typeof ConnectionState)[keyof typeof ConnectionState];

/** Of the session (§8.3.1). */
export const SessionPhase = {
  /** Q1. */
  Free: 'FREE',
  /** Q3: at least one connection is in full feature phase. Q2 is that of a login which has not ended. */
  LoggedIn: 'LOGGED_IN',
  /** Q4: all connections are lost, and their tasks wait for a new one. */
  Failed: 'FAILED',
} as const;
export type SessionPhase = (typeof SessionPhase)[keyof typeof SessionPhase];

export type ConnectionEvent =
  | 'connect'
  | 'connected'
  | 'loggedIn'
  | 'failed'
  | 'logout'
  | 'logoutRequested'
  | 'loggedOut'
  | 'lost'
  | 'cleanUp'
  | 'cleaned'
  | 'sessionClosed';

const table: Readonly<
  Record<ConnectionState, Readonly<Partial<Record<ConnectionEvent, ConnectionState>>>>
> = {
  FREE: { connect: 'XPT_WAIT' }, // T1
  XPT_WAIT: { failed: 'FREE', connected: 'IN_LOGIN' }, // T2, T4
  IN_LOGIN: { loggedIn: 'LOGGED_IN', failed: 'FREE' }, // T5, T7
  LOGGED_IN: {
    sessionClosed: 'FREE', // T8
    logout: 'IN_LOGOUT', // T9
    logoutRequested: 'LOGOUT_REQUESTED', // T11
    lost: 'CLEANUP_WAIT', // T15
  },
  IN_LOGOUT: {
    loggedOut: 'FREE', // T13
    sessionClosed: 'FREE', // T13
    logoutRequested: 'IN_LOGOUT', // T14
    lost: 'CLEANUP_WAIT', // T17
  },
  LOGOUT_REQUESTED: {
    sessionClosed: 'FREE', // T18
    logout: 'IN_LOGOUT', // T10
    logoutRequested: 'LOGOUT_REQUESTED', // T12
    lost: 'CLEANUP_WAIT', // T16
  },
  CLEANUP_WAIT: { cleanUp: 'IN_CLEANUP', sessionClosed: 'FREE' }, // M2, M1
  IN_CLEANUP: { cleaned: 'FREE', failed: 'CLEANUP_WAIT', sessionClosed: 'FREE' }, // M3, M4
};

/** The state after `event`; null when the RFC has no such transition. */
export function nextState(state: ConnectionState, event: ConnectionEvent): ConnectionState | null {
  return table[state][event] ?? null;
}
