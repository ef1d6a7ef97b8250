import { isOrionError } from '../core/errors.ts';
import { openSpan, type SpanAttributes, type SpanIdentity } from '../core/trace-channels.ts';
import { formatLun } from '../scsi/lun.ts';
import { opName } from '../scsi/opcodes.ts';
import { readWriteOp } from '../scsi/read-write.ts';
import type { IscsiSession } from './session.ts';
import { Direction, type Task, TaskState } from './task-table.ts';

/** Spans of sampled commands: called only when `io.trace` is set, so that all others pay one comparison. */

/** Publishes "iscsi <command>" as a child of `parent` when `done` settles. */
export function traceCommand(
  session: IscsiSession,
  lun: Uint8Array,
  op: number,
  parent: SpanIdentity,
  done: Promise<unknown>,
  more: SpanAttributes = {},
): void {
  const { clock } = session;
  const span = openSpan(`iscsi ${opName(op)}`, parent, clock.nowMs());
  const attributes = {
    'iscsi.target': session.targetName,
    'iscsi.portal': session.portal,
    'iscsi.lun': formatLun(lun),
    ...more,
  };
  done.then(
    () => span.end(clock.nowMs(), attributes),
    (error) => {
      const text = isOrionError(error) ? `${error.code}: ${error.message}` : String(error);
      span.end(clock.nowMs(), attributes, text);
    },
  );
}

/** The same for a READ or WRITE that was just submitted. What it says of the task is that of the first try. */
export function traceTransfer(
  session: IscsiSession,
  lun: Uint8Array,
  task: Task,
  parent: SpanIdentity,
  done: Promise<unknown>,
): void {
  const { lba, blocks, itt } = task;
  const op = readWriteOp(task.direction === Direction.Write, lba, blocks);
  // One that waits for the command window has no number yet.
  const sent = task.state === TaskState.Sent;
  traceCommand(session, lun, op, parent, done, {
    'iscsi.lba': lba,
    'iscsi.blocks': blocks,
    'iscsi.itt': itt >>> 0,
    ...(sent ? { 'iscsi.cmdsn': task.cmdSn >>> 0 } : {}),
  });
}
