import type { OrionError } from '../core/errors.ts';
import { putReadWrite } from '../scsi/read-write.ts';
import { ByteRanges } from './byte-ranges.ts';
import type { Connection } from './connection.ts';
import { ControlRequest } from './control-request.ts';
import { protocolError } from './errors.ts';
import { At, Bit, i32, putU24, putU32, u16, u32 } from './pdu/bhs.ts';
import { Opcode, RESERVED_TAG, ServiceResponse } from './pdu/opcodes.ts';
import { CDB_BYTES } from './pdu/scsi-command.ts';
import { countRequested } from './requested-bytes.ts';
import { cdbOf, Direction, type Task } from './task-table.ts';

/**
 * The path of every I/O: commands, write data and their checks, with the fields written and read in place. Nothing here
 * allocates, except for what the out queue keeps of a batch.
 */

/** R2T of one command: as many as bursts of the least length (§13.13), and some that ask again. Each costs us headers. */
const R2T_BYTES_MIN = 512;
const R2T_SPARE = 64;

/** What the session negotiated that a transfer needs. */
export interface TransferParams {
  initialR2t: boolean;
  immediateData: boolean;
  firstBurstBytes: number;
  maxBurstBytes: number;
  /** DataPDUInOrder and DataSequenceInOrder: offsets go with the numbers (§13.18, §13.19). */
  readsInOrder: boolean;
  /** DataSequenceInOrder, for what R2T ask for. */
  writesInOrder: boolean;
  /** ErrorRecoveryLevel 1 and above: an R2T may ask for bytes again (§11.8). */
  recovers: boolean;
}

/**
 * Sends a SCSI Command with what may go with it unasked: the four modes of InitialR2T and ImmediateData (§13.10, §13.11).
 */
export function sendCommand(
  connection: Connection,
  task: Task,
  cmdSn: number,
  params: TransferParams,
): void {
  const { edtl } = task;
  const write = task.direction === Direction.Write;
  let immediate = 0;
  let unsolicited = 0;
  if (write) {
    const first = Math.min(edtl, params.firstBurstBytes);
    if (params.immediateData) immediate = Math.min(first, connection.peerSegmentBytes);
    unsolicited = params.initialR2t ? immediate : first;
  }
  const out = connection.out;
  const at = out.reserve(connection.headerBytes);
  const slab = out.slab;
  task.cmdSn = cmdSn;
  task.firstSeq = out.seq;
  task.moved = unsolicited;
  slab[at] = Opcode.ScsiCommand;
  // §11.3.1: F=0 says that unsolicited Data-Out follow.
  slab[at + 1] =
    (unsolicited === immediate ? Bit.final : 0) |
    (write ? Bit.write : task.direction === Direction.Read ? Bit.read : 0) |
    task.attribute;
  slab[at + 2] = 0;
  slab[at + 3] = 0;
  slab[at + 4] = 0;
  putU24(slab, at + At.dataSegmentLength, immediate);
  putU32(slab, at + At.lun, task.lunHigh);
  putU32(slab, at + At.lun + 4, task.lunLow);
  putU32(slab, at + At.itt, task.itt);
  putU32(slab, at + At.edtl, edtl);
  putU32(slab, at + At.cmdSn, cmdSn);
  putU32(slab, at + At.expStatSn, connection.expStatSn);
  if (task.cdb === null) {
    putReadWrite(slab, at + At.cdb, write, task.lba, task.blocks, task.fua);
  } else {
    const cdb = cdbOf(task);
    for (let i = 0; i < CDB_BYTES; i++) slab[at + At.cdb + i] = cdb[i]!;
  }
  connection.seal(slab, at);
  if (immediate > 0) appendData(connection, task, 0, immediate);
  if (unsolicited > immediate) {
    sendDataOut(connection, task, RESERVED_TAG | 0, immediate, unsolicited - immediate);
  }
  task.outSeq = out.seq;
}

function appendData(connection: Connection, task: Task, offset: number, length: number): void {
  const from = task.dataAt + offset;
  const whole = from === 0 && length === task.data.length;
  connection.appendSegment(whole ? task.data : task.data.subarray(from, from + length));
}

/** One sequence of Data-Out: unsolicited, or what an R2T asked for (§11.7). */
function sendDataOut(
  connection: Connection,
  task: Task,
  ttt: number,
  offset: number,
  length: number,
): void {
  const out = connection.out;
  const segment = connection.peerSegmentBytes;
  const end = offset + length;
  let dataSn = 0;
  for (let from = offset; from < end; from += segment) {
    const bytes = Math.min(segment, end - from);
    const at = out.reserve(connection.headerBytes);
    const slab = out.slab;
    slab[at] = Opcode.DataOut;
    slab[at + 1] = from + bytes === end ? Bit.final : 0;
    slab[at + 2] = 0;
    slab[at + 3] = 0;
    slab[at + 4] = 0;
    putU24(slab, at + At.dataSegmentLength, bytes);
    putU32(slab, at + At.lun, task.lunHigh);
    putU32(slab, at + At.lun + 4, task.lunLow);
    putU32(slab, at + At.itt, task.itt);
    putU32(slab, at + At.ttt, ttt);
    putU32(slab, at + 24, 0);
    putU32(slab, at + At.expStatSn, connection.expStatSn);
    putU32(slab, at + 32, 0);
    putU32(slab, at + At.dataSn, dataSn);
    putU32(slab, at + At.bufferOffset, from);
    putU32(slab, at + 44, 0);
    connection.seal(slab, at);
    appendData(connection, task, from, bytes);
    dataSn += 1;
  }
  task.outSeq = out.seq;
}

/**
 * A PDU that moves data, for a task that moves none. A ping or a task management function has no direction (`TaskTable.take`), so
 * that one look at that tells of both.
 */
function notFor(task: Task, pdu: string, why: string): OrionError {
  return task.owner instanceof ControlRequest
    ? protocolError(`${pdu} for a request that is no SCSI command (§7.13)`)
    : protocolError(`${pdu} for a command that ${why}`);
}

/** R2T are numbered from 0 per command (§11.8.2). */
export function takeR2tSn(task: Task, header: Buffer, at: number): void {
  const r2tSn = i32(header, at + At.r2tSn);
  if (r2tSn !== task.nextSn) {
    throw protocolError(`R2TSN ${r2tSn >>> 0}, expected ${task.nextSn >>> 0} (§11.8.2)`);
  }
  task.nextSn = (task.nextSn + 1) | 0;
}

/**
 * Serves an R2T at once, in the order of arrival; checks it against the task first (§11.8). `inRow`: none before it is missing.
 */
export function serveR2t(
  connection: Connection,
  task: Task,
  header: Buffer,
  at: number,
  inRow: boolean,
  params: TransferParams,
): void {
  if (task.direction !== Direction.Write) throw notFor(task, 'an R2T', 'does not write (§11.8)');
  const ttt = i32(header, at + At.ttt);
  if (ttt === (RESERVED_TAG | 0)) throw protocolError('an R2T without a tag (§11.8.5)');
  if (task.nextSn > task.edtl / R2T_BYTES_MIN + R2T_SPARE) {
    throw protocolError(`${task.nextSn} R2T for one command of ${task.edtl} bytes (§11.8)`);
  }
  const offset = u32(header, at + At.bufferOffset);
  const length = u32(header, at + At.desiredLength);
  if (length === 0 || length > params.maxBurstBytes) {
    throw protocolError(
      `an R2T for ${length} bytes, the burst is ${params.maxBurstBytes} (§11.8.4)`,
    );
  }
  if (offset + length > task.edtl) {
    throw protocolError(`an R2T beyond the ${task.edtl} bytes of the command (§11.8.4)`);
  }
  // It also bounds what one command can make us send.
  task.moved = countRequested(task, task.moved, offset, length, inRow, params);
  sendDataOut(connection, task, ttt, offset, length);
}

/** What a Data-In says, checked against its task (§11.7); its number is the caller's to look at. */
export function readDataIn(
  connection: Connection,
  task: Task,
  header: Buffer,
  at: number,
  length: number,
): void {
  const flags = header[at + At.flags]!;
  if ((task.direction & Direction.Read) === 0) {
    throw notFor(task, 'Data-In', 'does not read (§11.7)');
  }
  const offset = u32(header, at + At.bufferOffset);
  if (offset + length > task.edtl) {
    throw protocolError(`Data-In beyond the ${task.edtl} bytes of the command (§11.7.6)`);
  }
  if ((flags & Bit.statusPresent) !== 0) {
    if ((flags & Bit.final) === 0) throw protocolError('S without F (§11.7.3)');
    if (task.direction === Direction.Both) {
      throw protocolError('Data-In with the status of a bidirectional command (§11.7.3)');
    }
  }
  connection.rxAt = offset;
  connection.rxFlags = flags;
  connection.rxStatus = header[at + At.status]!;
  connection.rxResidual = u32(header, at + At.residual);
}

/** Takes a Data-In at ErrorRecoveryLevel 0: they come in the order of their numbers, or not at all. */
export function takeDataIn(
  connection: Connection,
  task: Task,
  header: Buffer,
  at: number,
  length: number,
  inOrder: boolean,
): void {
  readDataIn(connection, task, header, at, length);
  const dataSn = i32(header, at + At.dataSn);
  if (dataSn !== task.nextSn) {
    throw protocolError(`DataSN ${dataSn >>> 0}, expected ${task.nextSn >>> 0} (§11.7.5)`);
  }
  const offset = connection.rxAt;
  if (inOrder) {
    // No gaps, no overlaps (§13.18, §13.19).
    if (offset !== task.moved && length > 0) {
      throw protocolError(`Data-In at ${offset}, expected ${task.moved} (§13.18)`);
    }
  } else {
    task.ranges ??= new ByteRanges();
    task.ranges.add(offset, length);
  }
  // The A bit means nothing at this level, and is to be ignored (§11.7.2).
  task.nextSn = (task.nextSn + 1) | 0;
  task.moved += length;
}

/**
 * ExpDataSN counts the Data-In or R2T of the command: another number means that some were lost (§11.4.8). Some targets leave
 * it 0; lost data shows in the length then.
 */
export function checkExpDataSn(task: Task, header: Buffer, at: number): void {
  const expDataSn = i32(header, at + At.expDataSn);
  if (expDataSn === 0 || expDataSn === task.nextSn) return;
  throw protocolError(`ExpDataSN ${expDataSn >>> 0}, we have ${task.nextSn >>> 0} (§11.4.8)`);
}

/** What a SCSI Response says of its command (§11.4). */
export function readResponse(task: Task, header: Buffer, at: number, data: Buffer): void {
  task.response = header[at + At.response]!;
  if (data.length > 0) task.sense = senseOf(data);
  // §11.4.3: of a command that was not carried out status and flags say nothing.
  if (task.response !== ServiceResponse.CommandCompleted) return;
  task.status = header[at + At.status]!;
  const flags = header[at + At.flags]!;
  const { extended } = task;
  const sends = extended === null ? null : extended.send;
  task.residual = residualOf(flags, u32(header, at + At.residual), sends?.length ?? task.edtl);
  if (extended === null || sends === null) return;
  // o and u mean of what it reads what O and U mean of what it sends (§11.4.6).
  const readFlags =
    ((flags & Bit.bidiOverflow) !== 0 ? Bit.overflow : 0) |
    ((flags & Bit.bidiUnderflow) !== 0 ? Bit.underflow : 0);
  extended.readResidual = residualOf(readFlags, u32(header, at + At.bidiResidual), task.edtl);
}

/** Positive for overflow, negative for underflow, 0 for neither (§11.4.5). */
export function residualOf(flags: number, count: number, edtl: number): number {
  const overflow = (flags & Bit.overflow) !== 0;
  const underflow = (flags & Bit.underflow) !== 0;
  if (overflow && underflow) throw protocolError('O and U may not both be 1 (§11.4.1)');
  if (overflow) return count;
  if (!underflow) return 0;
  if (count > edtl) throw protocolError(`a residual of ${count} bytes of ${edtl} (§11.4.5)`);
  return -count;
}

/** §11.4.7: the sense of a SCSI Response, behind its length; response data may follow. A copy. */
function senseOf(data: Buffer): Buffer {
  const length = data.length >= 2 ? u16(data, 0) : -1;
  if (length < 0 || length > data.length - 2) {
    throw protocolError(`a SenseLength of ${length} in ${data.length} bytes (§11.4.7.1)`);
  }
  return Buffer.from(data.subarray(2, 2 + length));
}

/** Whether a PDU of the target takes a StatSN of its own (§4.2.2.2); for Data-In the S bit says it. */
export function isNumbered(header: Buffer, at: number): boolean {
  switch (header[at]! & Bit.opcodeMask) {
    case Opcode.ScsiResponse:
    case Opcode.TaskManagementResponse:
    case Opcode.TextResponse:
    case Opcode.LogoutResponse:
    case Opcode.AsyncMessage:
    case Opcode.Reject:
      return true;
    case Opcode.NopIn:
      return u32(header, at + At.itt) !== RESERVED_TAG;
    default:
      return false;
  }
}
