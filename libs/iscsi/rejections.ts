import type { ConnectionControl } from './connection-control.ts';
import { rejected } from './control-channel.ts';
import { ControlRequest } from './control-request.ts';
import { protocolError } from './errors.ts';
import { At, i32 } from './pdu/bhs.ts';
import { opcodeOf } from './pdu/index.ts';
import { nopOut } from './pdu/nop-out.ts';
import { nameOf, Opcode, RESERVED_TAG, RejectReason } from './pdu/opcodes.ts';
import { reject } from './pdu/reject.ts';
import type { SessionControl } from './session-control.ts';

/** Times that a command is sent again which the target did not take in, for a wrong digest of its data. */
const RETRIES_MAX = 3;

/** What is to be done about a PDU of ours that the target refuses. */
type Consequence =
  /** The request was never instantiated, and there will be no other answer to it. */
  | 'never-began'
  /** The same, for want of room: requests of our own are sent again. */
  | 'no-room'
  /** The data were damaged on their way. */
  | 'damaged'
  /** It is there already. */
  | 'in-progress'
  /** The target waits for our logout. */
  | 'logging-out'
  /** Either side is wrong about the state of the other. */
  | 'end';

/** §11.17.1: whether a PDU can be sent again, and what a reason says about its task. */
const CONSEQUENCES: { readonly [R in RejectReason]: Consequence } = {
  [RejectReason.Reserved]: 'end',
  [RejectReason.DataDigestError]: 'damaged',
  // A SNACK that is refused is a matter of the error recovery; who sent none cannot have it refused.
  [RejectReason.SnackReject]: 'end',
  [RejectReason.ProtocolError]: 'end',
  [RejectReason.CommandNotSupported]: 'never-began',
  [RejectReason.ImmediateCommandReject]: 'no-room',
  [RejectReason.TaskInProgress]: 'in-progress',
  [RejectReason.InvalidDataAck]: 'end',
  [RejectReason.InvalidPduField]: 'never-began',
  [RejectReason.LongOperationReject]: 'no-room',
  // Note 3: a negotiation that failed, which ends the connection (§7.12).
  [RejectReason.NegotiationReset]: 'end',
  [RejectReason.WaitingForLogout]: 'logging-out',
};

/** A Reject: what becomes of the PDU that it is about, and of its task (§7.3, §11.17). */
export function onReject(
  control: SessionControl,
  on: ConnectionControl,
  header: Buffer,
  data: Buffer,
): void {
  const message = reject.decode(header, 0);
  const wrong = reject.invalidReason(message);
  if (wrong !== null) throw protocolError(wrong);
  const opcode = opcodeOf(data);
  const reason = nameOf(RejectReason, message.reason);
  const pdu = nameOf(Opcode, opcode);
  control.emit({ kind: 'reject', reason, pdu });
  const consequence = CONSEQUENCES[message.reason as RejectReason] ?? 'end';
  const loggingOut = consequence === 'logging-out' && control.loggingOut;
  if (consequence === 'end' || (consequence === 'logging-out' && !loggingOut)) {
    throw protocolError(`the target rejects ${pdu}: ${reason} (§11.17.1)`);
  }
  // The task was there before: it gets an answer of its own (§11.17.1).
  if (opcode === Opcode.DataOut) return;
  const itt = i32(data, At.itt);
  if (itt === (RESERVED_TAG | 0)) {
    if (consequence !== 'no-room' || opcode !== Opcode.NopOut) return;
    const { lun, ttt } = nopOut.decode(data, 0);
    if (ttt !== RESERVED_TAG) on.pings.answerAgain(lun, ttt);
    return;
  }
  const { session } = control;
  const task = session.findTask(itt);
  if (task === null) return;
  const error = rejected(pdu, reason);
  const { owner } = task;
  if (owner instanceof ControlRequest) {
    const again = consequence === 'no-room' || consequence === 'damaged';
    if (again) on.channel.resendLater(task, owner, error);
    else session.abandon(task, error);
    return;
  }
  switch (consequence) {
    case 'damaged':
      // Note 1. Nothing of it was taken in, so its CmdSN is missing: the same command must fill the gap (§7.2.1).
      if (session.window.isAcknowledged(task.cmdSn)) return; // it has it now, and will answer
      if (task.retries === RETRIES_MAX) throw protocolError(`${reason} of the same command again`);
      if (task.isOut) session.sendAgain(task, on.channel.connection);
      return;
    case 'in-progress':
      // The first one did arrive, and goes on (§7.2.1).
      if (task.retries > 0) return;
      throw protocolError(`the target rejects ${pdu}: ${reason} (§11.17.1)`);
    default:
      session.abandon(task, error);
  }
}
