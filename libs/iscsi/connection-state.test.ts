import { describe, expect, test } from 'vitest';
import { type ConnectionEvent, ConnectionState, nextState } from './connection-state.ts';

/** The table of RFC 7143 §8.1.3 for an initiator, row by row, and the cleanup of §8.2. */
const TRANSITIONS: [label: string, ConnectionState, ConnectionEvent, ConnectionState][] = [
  ['T1', 'FREE', 'connect', 'XPT_WAIT'],
  ['T2', 'XPT_WAIT', 'failed', 'FREE'],
  ['T4', 'XPT_WAIT', 'connected', 'IN_LOGIN'],
  ['T5', 'IN_LOGIN', 'loggedIn', 'LOGGED_IN'],
  ['T7', 'IN_LOGIN', 'failed', 'FREE'],
  ['T8', 'LOGGED_IN', 'sessionClosed', 'FREE'],
  ['T9', 'LOGGED_IN', 'logout', 'IN_LOGOUT'],
  ['T10', 'LOGOUT_REQUESTED', 'logout', 'IN_LOGOUT'],
  ['T11', 'LOGGED_IN', 'logoutRequested', 'LOGOUT_REQUESTED'],
  ['T12', 'LOGOUT_REQUESTED', 'logoutRequested', 'LOGOUT_REQUESTED'],
  ['T13', 'IN_LOGOUT', 'loggedOut', 'FREE'],
  ['T13', 'IN_LOGOUT', 'sessionClosed', 'FREE'],
  ['T14', 'IN_LOGOUT', 'logoutRequested', 'IN_LOGOUT'],
  ['T15', 'LOGGED_IN', 'lost', 'CLEANUP_WAIT'],
  ['T16', 'LOGOUT_REQUESTED', 'lost', 'CLEANUP_WAIT'],
  ['T17', 'IN_LOGOUT', 'lost', 'CLEANUP_WAIT'],
  ['T18', 'LOGOUT_REQUESTED', 'sessionClosed', 'FREE'],
  ['M1', 'CLEANUP_WAIT', 'sessionClosed', 'FREE'],
  ['M2', 'CLEANUP_WAIT', 'cleanUp', 'IN_CLEANUP'],
  ['M3', 'IN_CLEANUP', 'cleaned', 'FREE'],
  ['M3', 'IN_CLEANUP', 'sessionClosed', 'FREE'],
  ['M4', 'IN_CLEANUP', 'failed', 'CLEANUP_WAIT'],
];

const EVENTS: ConnectionEvent[] = [...new Set(TRANSITIONS.map(([, , event]) => event))];

describe('the states of a connection', () => {
  test.each(TRANSITIONS)('%s: from %s by %s to %s', (_, from, event, to) => {
    expect(nextState(from, event)).toBe(to);
  });

  test('have no transition that the RFC does not have', () => {
    const known = new Set(TRANSITIONS.map(([, from, event]) => `${from} ${event}`));
    for (const state of Object.values(ConnectionState)) {
      for (const event of EVENTS) {
        expect(nextState(state, event) !== null, `${state} ${event}`).toBe(
          known.has(`${state} ${event}`),
        );
      }
    }
  });
});
