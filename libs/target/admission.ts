import type { Engine } from './engine.ts';
import { LoginStatus } from './login-status.ts';
import type { Session } from './session.ts';

/** What a login says about where it belongs. */
export interface LoginIdentity {
  readonly initiatorName: string;
  /** Twelve hexadecimal digits. */
  readonly isid: string;
  readonly tpgt: number;
  readonly tsih: number;
  readonly cid: number;
}

/**
 * The session that a login adds a connection to, null when it begins a session of its own, or the status that it is
 * refused with: the table of RFC 7143 §6.3.1.
 */
export function sessionFor(engine: Engine, login: LoginIdentity): Session | null | LoginStatus {
  const { initiatorName, isid, tpgt, tsih, cid } = login;
  if (tsih === 0) return null;
  const session = engine.sessionOf(tsih, initiatorName, isid, tpgt);
  if (session === null) return LoginStatus.SessionDoesNotExist;
  if (session.isDiscovery) return LoginStatus.CannotIncludeInSession;
  const { connections, params } = session;
  // A CID that is in use is reinstated: it takes the place of the old connection.
  const isNew = !connections.has(cid);
  return isNew && connections.size >= params.maxConnections
    ? LoginStatus.TooManyConnections
    : session;
}
