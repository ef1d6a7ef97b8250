import type { ErrorFields } from '../core/errors.ts';
import { parseSense } from '../scsi/sense.ts';
import type { ConnectionControl } from './connection-control.ts';
import { iscsiErrors, protocolError } from './errors.ts';
import { type AsyncMessage, asyncMessage } from './pdu/async-message.ts';
import { At, i32, u16 } from './pdu/bhs.ts';
import { AsyncEvent, RESERVED_TAG } from './pdu/opcodes.ts';
import type { SessionControl } from './session-control.ts';

/** A negotiation that the target asks for may take at most this long, whatever it grants. */
const NEGOTIATION_MS_MAX = 10_000;
const NEGOTIATION_MS_MIN = 1000;

/** An Asynchronous Message (§11.9.1). Events that nobody knows, and those of vendors, are told and do no harm. */
export function onAsyncMessage(
  control: SessionControl,
  on: ConnectionControl,
  header: Buffer,
  data: Buffer,
): void {
  const message = asyncMessage.decode(header, 0);
  switch (message.event) {
    case AsyncEvent.ScsiEvent:
      onScsiEvent(control, message, data);
      return;
    case AsyncEvent.LogoutRequested:
      control.emit({ kind: 'logout-requested' });
      control.logoutForTarget(on.channel.connection, message.parameter3 * 1000);
      return;
    case AsyncEvent.ConnectionDropped:
      onConnectionDropped(control, on, message);
      return;
    case AsyncEvent.AllConnectionsDropped:
      throw iscsiErrors.make('ISCSI_DROPPED_BY_TARGET', {
        message: 'the target says that it drops all connections of the session',
        fields: timesOf(message),
      });
    case AsyncEvent.RenegotiationRequested:
      negotiate(control, on, message);
      return;
    case AsyncEvent.TasksTerminated:
      onTasksTerminated(control, on, message, header);
      return;
    default:
      control.emit({ kind: 'async', event: message.event, vendorCode: message.vendorCode });
  }
}

function onScsiEvent(control: SessionControl, message: AsyncMessage, data: Buffer): void {
  const length = data.length >= 2 ? u16(data, 0) : 0;
  if (length > data.length - 2 && length > 0) {
    throw protocolError('a SenseLength too long (§11.9.4)');
  }
  const sense = parseSense(data.subarray(2, 2 + length));
  control.emit({ kind: 'scsi', lun: message.lun, sense });
}

/** When to come back at the earliest, and how long the target keeps the commands from then on. */
function timesOf({ parameter2, parameter3 }: AsyncMessage): ErrorFields {
  return { waitMs: parameter2 * 1000, retainMs: parameter3 * 1000 };
}

/** One connection fails, and with it the session where nothing else is left of it (§7.1.4.3). */
function onConnectionDropped(
  control: SessionControl,
  on: ConnectionControl,
  message: AsyncMessage,
): void {
  const { parameter1: cid, event } = message;
  const cause = iscsiErrors.make('ISCSI_CONNECTION_DROPPED', { fields: timesOf(message) });
  if (cid === on.channel.connection.cid) throw cause;
  control.session.announce(cid, cause);
  control.emit({ kind: 'async', event, vendorCode: 0 });
}

/** The target wants to negotiate: a text request gives it the word, and a running one does already. */
function negotiate(control: SessionControl, on: ConnectionControl, message: AsyncMessage): void {
  control.emit({ kind: 'negotiation-requested' });
  if (on.texts.busy) return;
  on.channel.connection.countAnswer();
  const asked = message.parameter3 * 1000;
  const timeoutMs = Math.min(Math.max(asked, NEGOTIATION_MS_MIN), NEGOTIATION_MS_MAX);
  on.texts.run(Buffer.alloc(0), timeoutMs).catch(() => {}); // what holds already goes on holding
}

/**
 * FastAbort (§4.2.3.4): the target has ended commands of this logical unit for somebody else's sake, and no answers to them
 * will come. First no more data for them, then the news that we know, so that the target can let go of its buffers.
 */
function onTasksTerminated(
  control: SessionControl,
  on: ConnectionControl,
  message: AsyncMessage,
  header: Buffer,
): void {
  if (!control.fastAbort) {
    throw protocolError('tasks are terminated as if FastAbort were negotiated (§11.9.1)');
  }
  const { session } = control;
  const { connection } = on.channel;
  const expCmdSn = i32(header, At.expCmdSn);
  const affected = session
    .commandsOf(message.lun)
    // What the target had not received when it wrote this is none of what it ended.
    .filter((task) => task.connection === connection && task.isSentBefore(expCmdSn));
  for (const task of affected) task.dataStopped = true;
  if (!on.channel.sealed) on.pings.answer(message.lun, RESERVED_TAG);
  control.emit({ kind: 'tasks-terminated', lun: message.lun, count: affected.length });
  // Which of them were ended, and which came in just after, only the target knows: each is asked for.
  for (const task of affected) control.ladder.ended(task);
}
