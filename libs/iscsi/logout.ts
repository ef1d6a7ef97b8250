import type { OrionError } from '../core/errors.ts';
import type { ControlChannel } from './control-channel.ts';
import { ControlRequest } from './control-request.ts';
import { iscsiErrors } from './errors.ts';
import { logoutResponse } from './pdu/logout-response.ts';
import { LogoutAnswer, LogoutReason, nameOf, Opcode } from './pdu/opcodes.ts';

/** The level that has tasks change over to another connection (§7.1.4). */
const LEVEL_OF_RECOVERY = 2;

export interface LogoutRequestOptions {
  readonly reason: LogoutReason;
  /** The connection that ends; not looked at when the whole session does. */
  readonly cid: number;
  readonly timeoutMs: number;
  /** What is acknowledged of the connection that ends, where that is another than this one (§11.14.4). */
  readonly expStatSn?: number;
  /** What the session negotiated. */
  readonly errorRecoveryLevel: number;
}

/** How a logout went (§11.15). */
export interface LogoutOutcome {
  readonly response: LogoutAnswer;
  /**
   * After a removal for recovery that was carried out: when tasks may be reassigned, and until when. After one that was not: the
   * same for the next logout. Null where the target says nothing about it (§11.15.3, §11.15.4).
   */
  readonly waitMs: number | null;
  readonly retainMs: number | null;
}

/** Asks for the end of a connection or of the session. Rejects when the target does not answer in time. */
export async function requestLogout(
  channel: ControlChannel,
  options: LogoutRequestOptions,
): Promise<LogoutOutcome> {
  const { reason, timeoutMs, errorRecoveryLevel } = options;
  if (reason === LogoutReason.RemoveForRecovery && errorRecoveryLevel < LEVEL_OF_RECOVERY) {
    throw iscsiErrors.make('ISCSI_LOGOUT_FAILED', {
      message: `a connection is removed for recovery at ErrorRecoveryLevel ${LEVEL_OF_RECOVERY} only (§11.14.1)`,
    });
  }
  const cid = reason === LogoutReason.CloseSession ? 0 : options.cid;
  const send = (itt: number): void => {
    channel.connection.send({
      opcode: Opcode.LogoutRequest,
      dataSegmentLength: 0,
      immediate: true,
      reason,
      itt,
      cid,
      ...channel.numbers,
      ...(options.expStatSn === undefined ? {} : { expStatSn: options.expStatSn }),
    });
    if (reason === LogoutReason.CloseSession || cid === channel.connection.cid) channel.seal();
  };
  const late = (): OrionError => iscsiErrors.make('ISCSI_LOGOUT_TIMEOUT');
  const request = new ControlRequest(Opcode.LogoutResponse, send);
  const { header } = await channel.ask(request, { timeoutMs, late, urgent: true });
  const { response, time2Wait, time2Retain } = logoutResponse.decode(header, 0);
  const told =
    response === LogoutAnswer.Closed
      ? reason === LogoutReason.RemoveForRecovery
      : response !== LogoutAnswer.CidNotFound;
  return {
    response: response as LogoutAnswer,
    waitMs: told ? time2Wait * 1000 : null,
    retainMs: told ? time2Retain * 1000 : null,
  };
}

/** Throws unless the target has done what it was asked for. */
export function checkLoggedOut({ response }: LogoutOutcome): void {
  if (response === LogoutAnswer.Closed) return;
  throw iscsiErrors.make('ISCSI_LOGOUT_FAILED', {
    message: `the target answers the logout with ${nameOf(LogoutAnswer, response)}`,
  });
}
