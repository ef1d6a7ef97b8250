import { At, BHS_BYTES, Bit, NO_LUN, padOf, putCommon, putU32 } from '../iscsi/pdu/bhs.ts';
import { encodeHeader, type ResponsePdu } from '../iscsi/pdu/index.ts';
import { Opcode, RESERVED_TAG, type RejectReason } from '../iscsi/pdu/opcodes.ts';
import { snNext, unsigned } from '../iscsi/pdu/sn.ts';
import type { BufferPool } from '../wire/buffer-pool.ts';
import type { OutQueue } from '../wire/out-queue.ts';
import { encodeLun } from './commands/unit-info.ts';
import type { Burst, Task } from './task.ts';

/** Read data up to this size is copied beside its header; longer data goes by reference to a copy. */
const INLINE_BYTES_MAX = 16 * 1024;

const PADDING = Buffer.alloc(3);

type WithoutSns<T> = T extends ResponsePdu
  ? Omit<T, 'expCmdSn' | 'maxCmdSn' | 'dataSegmentLength' | 'statSn'>
  : never;

/** What a response says beside the sequence numbers. */
export type ResponseBody = WithoutSns<ResponsePdu>;

/** Writes the PDUs of one connection into its queue, with the sequence numbers that it counts. */
export class PduSender {
  /** StatSN of the next status. */
  statSn: number;
  readonly #out: OutQueue;
  readonly #pool: BufferPool;
  /** Asked before each PDU: false when it is not to be sent. */
  readonly #maySend: (opcode: number) => boolean;

  constructor(
    out: OutQueue,
    pool: BufferPool,
    statSn: number,
    maySend: (opcode: number) => boolean,
  ) {
    this.#out = out;
    this.#pool = pool;
    this.statSn = statSn | 0;
    this.#maySend = maySend;
  }

  /** Any PDU that is not in the way of the data: encoded from a value. `advance`: it carries a status. */
  send(
    body: ResponseBody,
    sns: { expCmdSn: number; maxCmdSn: number },
    advance: boolean,
    data: Uint8Array = PADDING.subarray(0, 0),
  ): void {
    const statSn = unsigned(this.statSn);
    if (advance) this.statSn = snNext(this.statSn);
    if (!this.#maySend(body.opcode)) return;
    const at = this.#out.reserve(BHS_BYTES);
    const pdu = {
      ...body,
      statSn,
      expCmdSn: unsigned(sns.expCmdSn),
      maxCmdSn: unsigned(sns.maxCmdSn),
      dataSegmentLength: data.length,
    } as ResponsePdu;
    encodeHeader(pdu, this.#out.slab, at);
    this.#appendData(data);
  }

  /** Bytes as they are, for faults. */
  raw(bytes: Uint8Array): void {
    this.#out.append(bytes);
  }

  /** Read data, and with it the status when that is good (§11.7.3), else the status alone. */
  answer(task: Task): void {
    const available = task.dataIn === null ? task.readBytes : task.dataIn.length;
    const total = task.failed || !task.isRead ? 0 : Math.min(available, task.edtl);
    if (total === 0) return this.#response(task, available);
    const { initiatorRecvLength, maxBurstLength } = task.session.params;
    let sent = 0;
    let burstEnd = Math.min(maxBurstLength, total);
    while (sent < total) {
      const length = Math.min(initiatorRecvLength, burstEnd - sent);
      this.#dataIn(task, sent, length, sent + length === burstEnd, sent + length === total);
      sent += length;
      if (sent === burstEnd) burstEnd = Math.min(burstEnd + maxBurstLength, total);
    }
  }

  #dataIn(task: Task, from: number, length: number, final: boolean, last: boolean): void {
    const { session } = task;
    const statSn = this.statSn;
    if (last) this.statSn = snNext(statSn);
    const dataSn = task.sentPdus++;
    if (!this.#maySend(Opcode.DataIn)) return;
    const inline = length <= INLINE_BYTES_MAX;
    const pad = padOf(length);
    const at = this.#out.reserve(inline ? BHS_BYTES + length + pad : BHS_BYTES);
    const slab = this.#out.slab;
    const available = task.dataIn === null ? task.readBytes : task.dataIn.length;
    const flags = (final ? Bit.final : 0) | (last ? lastFlags(task, available) : 0);
    putCommon(slab, at, Opcode.DataIn, flags, length);
    if (last) slab[at + At.status] = task.status;
    putU32(slab, at + At.itt, task.itt);
    putU32(slab, at + At.ttt, RESERVED_TAG);
    if (last) putU32(slab, at + At.statSn, statSn);
    putU32(slab, at + At.expCmdSn, session.expCmdSn);
    putU32(slab, at + At.maxCmdSn, session.maxCmdSn);
    putU32(slab, at + At.dataSn, dataSn);
    putU32(slab, at + At.bufferOffset, from);
    if (last) putU32(slab, at + At.residual, Math.abs(available - task.edtl));
    if (inline) {
      copyData(task, from, slab, at + BHS_BYTES, length);
      if (pad !== 0) slab.fill(0, at + BHS_BYTES + length, at + BHS_BYTES + length + pad);
      return;
    }
    const copy = this.#pool.take(length);
    copyData(task, from, copy, 0, length);
    this.#out.appendOwned(copy);
    if (pad !== 0) this.#out.append(PADDING.subarray(0, pad));
  }

  /** The status alone (§11.4), with the sense data of a failure. */
  #response(task: Task, available: number): void {
    const { session } = task;
    const statSn = this.statSn;
    this.statSn = snNext(statSn);
    if (!this.#maySend(Opcode.ScsiResponse)) return;
    const sense = task.sense;
    const dataLength = sense === null ? 0 : 2 + sense.length;
    const at = this.#out.reserve(BHS_BYTES);
    const slab = this.#out.slab;
    // No command here moves data both ways.
    const { flag, residual } = residualOf(task, Math.max(task.dataOutBytes, available));
    putCommon(slab, at, Opcode.ScsiResponse, Bit.final | flag, dataLength);
    slab[at + At.status] = task.status;
    putU32(slab, at + At.itt, task.itt);
    putU32(slab, at + At.statSn, statSn);
    putU32(slab, at + At.expCmdSn, session.expCmdSn);
    putU32(slab, at + At.maxCmdSn, session.maxCmdSn);
    putU32(slab, at + At.expDataSn, task.sentPdus);
    putU32(slab, at + At.residual, residual);
    if (sense === null) return;
    const length = Buffer.from([sense.length >> 8, sense.length & 0xff]);
    this.#appendData(Buffer.concat([length, sense]));
  }

  /** Asks for the data of `burst` (§11.8). */
  r2t(task: Task, burst: Burst): void {
    task.sentPdus += 1;
    const lun = Buffer.alloc(NO_LUN.length);
    encodeLun(task.lun, lun, 0);
    this.send(
      {
        opcode: Opcode.R2t,
        lun,
        itt: task.itt,
        ttt: burst.ttt,
        r2tSn: task.r2tSn++,
        bufferOffset: burst.offset,
        desiredLength: burst.end - burst.offset,
      },
      task.session,
      false,
    );
  }

  /** The header in error is the data (§11.17.4). */
  reject(reason: RejectReason, header: Buffer, sns: { expCmdSn: number; maxCmdSn: number }): void {
    this.send({ opcode: Opcode.Reject, reason, dataSn: 0 }, sns, true, header);
  }

  #appendData(data: Uint8Array): void {
    if (data.length === 0) return;
    this.#out.append(data);
    const pad = padOf(data.length);
    if (pad !== 0) this.#out.append(PADDING.subarray(0, pad));
  }
}

function lastFlags(task: Task, available: number): number {
  return Bit.statusPresent | residualOf(task, available).flag;
}

/** Residual of `moved` bytes that the command is about against what the initiator expected (§11.4.5). */
function residualOf(task: Task, moved: number): { flag: number; residual: number } {
  if (moved === task.edtl) return { flag: 0, residual: 0 };
  return moved < task.edtl
    ? { flag: Bit.underflow, residual: task.edtl - moved }
    : { flag: Bit.overflow, residual: moved - task.edtl };
}

function copyData(task: Task, from: number, into: Buffer, at: number, length: number): void {
  if (task.dataIn !== null) task.dataIn.copy(into, at, from, from + length);
  else task.lu!.disk.read(task.readOffset + from, into, at, length);
}
