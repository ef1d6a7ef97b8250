import type { ByteRanges } from './byte-ranges.ts';
import type { Connection } from './connection.ts';
import { protocolError } from './errors.ts';
import { encodeCommandExtension } from './pdu/additional-header.ts';
import { At, BHS_BYTES, putU32, u32 } from './pdu/bhs.ts';
import { dataOut } from './pdu/data-out.ts';
import { DIGEST_BYTES, digestOf, putDigest } from './pdu/digest.ts';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { CDB_BYTES, scsiCommand } from './pdu/scsi-command.ts';
import { countRequested } from './requested-bytes.ts';
import { cdbOf, Direction, type Task } from './task-table.ts';
import type { TransferParams } from './transfer.ts';

/**
 * Commands with a CDB of more than 16 bytes, and bidirectional ones: both need additional headers (§11.2.2). They stand apart
 * from transfer.ts, so that the path of an I/O knows nothing of them.
 */
export interface ExtendedCommand {
  /** The additional headers; a multiple of 4 bytes. */
  readonly chain: Buffer;
  /** What a bidirectional command sends; its `Task.data` is where it receives. Null for another command. */
  readonly send: Buffer | null;
  /** Bytes of the data to send that were sent. */
  sent: number;
  /** Which they are, where they are asked for in any order. */
  ranges: ByteRanges | null;
  /** Of a bidirectional command's receiving side, as `Task.residual` is of its sending side (§11.4.6). */
  readResidual: number;
}

/** What goes beyond the plain command; null when nothing does. */
export function extensionOf(
  cdb: Buffer,
  send: Buffer | null,
  receiveBytes: number | null,
): ExtendedCommand | null {
  const both = send !== null && receiveBytes !== null;
  if (cdb.length <= CDB_BYTES && !both) return null;
  const cdbRest = cdb.subarray(Math.min(cdb.length, CDB_BYTES));
  const chain = encodeCommandExtension({ cdbRest, readLength: both ? receiveBytes : null });
  return { chain, send: both ? send : null, sent: 0, ranges: null, readResidual: 0 };
}

/** The data that a command sends, and nothing for one that only reads. */
function outgoing(task: Task, extended: ExtendedCommand): Buffer {
  if (extended.send !== null) return extended.send;
  const from = task.dataAt;
  return task.data.subarray(from, task.direction === Direction.Write ? from + task.edtl : from);
}

/** `sendCommand` for an extended command. */
export function sendExtendedCommand(
  connection: Connection,
  task: Task,
  cmdSn: number,
  params: TransferParams,
): void {
  const extended = task.extended!;
  const { chain } = extended;
  const data = outgoing(task, extended);
  const first = Math.min(data.length, params.firstBurstBytes);
  const immediate = params.immediateData ? Math.min(first, connection.peerSegmentBytes) : 0;
  const unsolicited = params.initialR2t ? immediate : first;
  const { out } = connection;
  const headerBytes = BHS_BYTES + chain.length;
  const at = out.reserve(headerBytes + (connection.headerDigest ? DIGEST_BYTES : 0));
  const { slab } = out;
  const lun = Buffer.alloc(8);
  putU32(lun, 0, task.lunHigh);
  putU32(lun, 4, task.lunLow);
  task.cmdSn = cmdSn;
  task.firstSeq = out.seq;
  task.moved = extended.send === null ? unsolicited : 0;
  extended.sent = unsolicited;
  extended.ranges = null;
  scsiCommand.encode(
    {
      opcode: Opcode.ScsiCommand,
      dataSegmentLength: immediate,
      immediate: false,
      final: unsolicited === immediate,
      read: (task.direction & Direction.Read) !== 0,
      write: (task.direction & Direction.Write) !== 0,
      attribute: task.attribute,
      lun,
      itt: task.itt,
      // §11.3.4: of a bidirectional command, what it writes.
      edtl: extended.send === null ? task.edtl : data.length,
      cmdSn,
      expStatSn: connection.expStatSn,
      cdb: cdbOf(task),
    },
    slab,
    at,
  );
  slab[at + At.totalAhsLength] = chain.length / 4;
  slab.set(chain, at + BHS_BYTES);
  // §11.2.3: the header's digest is about the additional headers too.
  if (connection.headerDigest) putDigest(slab, at + headerBytes, digestOf(slab, at, headerBytes));
  if (immediate > 0) connection.appendSegment(data.subarray(0, immediate));
  if (unsolicited > immediate) {
    sendSequence(connection, task, data, RESERVED_TAG, immediate, unsolicited);
  }
  task.outSeq = out.seq;
}

/** Data-Out from `from` to `end`, the last with F (§11.7). */
function sendSequence(
  connection: Connection,
  task: Task,
  data: Buffer,
  ttt: number,
  from: number,
  end: number,
): void {
  const lun = Buffer.alloc(8);
  putU32(lun, 0, task.lunHigh);
  putU32(lun, 4, task.lunLow);
  const segment = connection.peerSegmentBytes;
  let dataSn = 0;
  for (let at = from; at < end; at += segment) {
    const part = data.subarray(at, Math.min(at + segment, end));
    const header = connection.out.reserve(connection.headerBytes);
    const { slab } = connection.out;
    dataOut.encode(
      {
        opcode: Opcode.DataOut,
        dataSegmentLength: part.length,
        final: at + part.length === end,
        lun,
        itt: task.itt,
        ttt,
        expStatSn: connection.expStatSn,
        dataSn,
        bufferOffset: at,
      },
      slab,
      header,
    );
    connection.seal(slab, header);
    connection.appendSegment(part);
    dataSn += 1;
  }
  task.outSeq = connection.out.seq;
}

/**
 * `serveR2t` for an extended command. R2T and Data-In of a bidirectional one share one numbering (§4.2.2.4), which is that of the
 * task.
 */
export function serveExtendedR2t(
  connection: Connection,
  task: Task,
  header: Buffer,
  at: number,
  inRow: boolean,
  params: TransferParams,
): void {
  const extended = task.extended!;
  if ((task.direction & Direction.Write) === 0) {
    throw protocolError('an R2T for a command that does not write (§11.8)');
  }
  const data = outgoing(task, extended);
  const ttt = u32(header, at + At.ttt);
  const offset = u32(header, at + At.bufferOffset);
  const length = u32(header, at + At.desiredLength);
  if (ttt === RESERVED_TAG) throw protocolError('an R2T without a tag (§11.8.5)');
  if (length === 0 || length > params.maxBurstBytes || offset + length > data.length) {
    throw protocolError(`an R2T for ${length} of ${data.length} bytes from ${offset} (§11.8.4)`);
  }
  extended.sent = countRequested(extended, extended.sent, offset, length, inRow, params);
  if (extended.send === null) task.moved = extended.sent;
  sendSequence(connection, task, data, ttt, offset, offset + length);
}
