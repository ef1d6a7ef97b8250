import { LOGIN_SEGMENT_BYTES } from '../iscsi/keys.ts';
import { At, BHS_BYTES, Bit, NO_LUN, padOf, putCommon, putU32 } from '../iscsi/pdu/bhs.ts';
import {
  DIGEST_BYTES,
  digestOf,
  putDigest,
  SEALED_BHS_BYTES,
  sealHeader,
} from '../iscsi/pdu/digest.ts';
import { encodeHeader, type ResponsePdu } from '../iscsi/pdu/index.ts';
import { Opcode, RESERVED_TAG, type RejectReason } from '../iscsi/pdu/opcodes.ts';
import { unsigned } from '../iscsi/pdu/sn.ts';
import type { BufferPool } from '../wire/buffer-pool.ts';
import type { OutQueue } from '../wire/out-queue.ts';
import { encodeLun } from './commands/unit-info.ts';
import type { ConnectionParams } from './session.ts';
import type { Burst, Task } from './task.ts';

/** Read data up to this size is copied beside its header; longer data goes by reference to a copy. */
const INLINE_BYTES_MAX = 16 * 1024;

const PADDING = Buffer.alloc(3);
const NO_DATA = PADDING.subarray(0, 0);
const NO_RESIDUAL = { flag: 0, residual: 0 };

/** O and U become o and u (§11.4.1). */
const BIDI_FLAG_SHIFT = 2;

/** The bit that is damaged in a header: in a response it makes GOOD of CHECK CONDITION, and the other way round. */
const FLIPPED_AT = At.status;
const FLIPPED_BIT = 0x02;

/** What a network may do to a PDU that nobody notices without digests. */
export type BitFlip = 'header-bit' | 'data-bit';

type WithoutSns<T> = T extends ResponsePdu
  ? Omit<T, 'expCmdSn' | 'maxCmdSn' | 'dataSegmentLength' | 'statSn'>
  : never;

/** What every PDU tells of the commands that the session takes. */
export interface CommandSns {
  readonly expCmdSn: number;
  readonly maxCmdSn: number;
}

/** What a response says beside the sequence numbers. */
export type ResponseBody = WithoutSns<ResponsePdu>;

/** Writes the PDUs of one connection into its queue, with the sequence numbers that it counts. */
export class PduSender {
  /** StatSN of the next status. */
  statSn: number;
  /** What the connection has agreed on; what holds before it has is in force during the login. */
  params: ConnectionParams = {
    initiatorRecvLength: LOGIN_SEGMENT_BYTES,
    targetRecvLength: LOGIN_SEGMENT_BYTES,
    headerDigest: false,
    dataDigest: false,
  };
  readonly #out: OutQueue;
  readonly #pool: BufferPool;
  /** Asked before each PDU: false when it is not to be sent. */
  readonly #maySend: (opcode: number) => boolean;
  #onStatus: ((statSn: number, resend: () => void) => void) | null = null;
  #headerBytes = BHS_BYTES;
  #dataDigest = false;
  /** What to change in the PDU that is being sent, after its digests were made: a fault. */
  #flip: BitFlip | null = null;

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

  /** The number of one status; `count` more than one leaves a gap, which is a fault. */
  takeStatSn(count = 1): number {
    const { statSn } = this;
    this.statSn = (statSn + count) | 0;
    return statSn;
  }

  /** Any PDU that is not in the way of the data: encoded from a value. `advance`: it carries a status. */
  send(body: ResponseBody, sns: CommandSns, advance: boolean, data: Uint8Array = NO_DATA): void {
    const statSn = advance ? this.takeStatSn() : this.statSn;
    if (advance) this.#onStatus?.(statSn, () => this.#transmit(body, statSn, sns, data));
    this.#transmit(body, statSn, sns, data);
  }

  /** Tells of every status that is sent from now on, and how to send it again. */
  onStatus(fn: (statSn: number, resend: () => void) => void): void {
    this.#onStatus = fn;
  }

  #transmit(body: ResponseBody, statSn: number, sns: CommandSns, data: Uint8Array): void {
    if (!this.#maySend(body.opcode)) return;
    const at = this.#out.reserve(this.#headerBytes);
    const pdu = {
      ...body,
      statSn: unsigned(statSn),
      expCmdSn: unsigned(sns.expCmdSn),
      maxCmdSn: unsigned(sns.maxCmdSn),
      dataSegmentLength: data.length,
    } as ResponsePdu;
    encodeHeader(pdu, this.#out.slab, at);
    this.#seal(this.#out.slab, at);
    this.#appendData(data);
  }

  /** From the next PDU on: digests belong to the full feature phase alone (§13.1). */
  useDigests(header: boolean, data: boolean): void {
    this.#headerBytes = header ? SEALED_BHS_BYTES : BHS_BYTES;
    this.#dataDigest = data;
  }

  /** The PDU that is about to be sent is damaged on the wire. */
  damageNext(what: BitFlip): void {
    this.#flip = what;
  }

  #seal(slab: Buffer, at: number): void {
    if (this.#headerBytes !== BHS_BYTES) sealHeader(slab, at);
    if (this.#flip !== 'header-bit') return;
    this.#flip = null;
    slab[at + FLIPPED_AT]! ^= FLIPPED_BIT;
  }

  /** Bytes as they are, for faults. */
  raw(bytes: Uint8Array): void {
    this.#out.append(bytes);
  }

  /** Read data, and with it the status when that is good (§11.7.3), else the status alone. Nothing is kept of it. */
  answer(task: Task, collapses: boolean): void {
    const total = task.dataInBytes;
    const { initiatorRecvLength } = this.params;
    const { maxBurstLength } = task.session.params;
    const withStatus = collapses && !task.isBidirectional;
    let sent = 0;
    let burstEnd = Math.min(maxBurstLength, total);
    while (sent < total) {
      const length = Math.min(initiatorRecvLength, burstEnd - sent);
      const final = sent + length === burstEnd ? Bit.final : 0;
      const last = withStatus && sent + length === total;
      const statSn = last ? this.takeStatSn() : 0;
      const flags = last ? final | Bit.statusPresent : final;
      this.dataIn(task, sent, length, flags, task.sentPdus++, statSn, RESERVED_TAG);
      sent += length;
      if (sent === burstEnd) burstEnd = Math.min(burstEnd + maxBurstLength, total);
    }
    if (total === 0 || !withStatus) this.response(task, this.takeStatSn());
  }

  /** One Data-In PDU (§11.7). `flags`: F, A and S; a transfer tag is for A, StatSN and residual are for S. */
  dataIn(
    task: Task,
    from: number,
    length: number,
    flags: number,
    dataSn: number,
    statSn: number,
    ttt: number,
  ): void {
    const { session } = task;
    if (!this.#maySend(Opcode.DataIn)) return;
    const inline = length <= INLINE_BYTES_MAX;
    const pad = padOf(length);
    const at = this.#out.reserve(
      this.#headerBytes + (inline ? length + pad + (this.#dataDigest ? DIGEST_BYTES : 0) : 0),
    );
    const slab = this.#out.slab;
    const last = (flags & Bit.statusPresent) !== 0;
    const { flag, residual } = last ? residualOf(task.readAvailable, task.readLength) : NO_RESIDUAL;
    putCommon(slab, at, Opcode.DataIn, flags | flag, length);
    if (ttt !== RESERVED_TAG) encodeLun(task.lun, slab, at + At.lun);
    putU32(slab, at + At.itt, task.itt);
    putU32(slab, at + At.ttt, ttt);
    putU32(slab, at + At.expCmdSn, session.expCmdSn);
    putU32(slab, at + At.maxCmdSn, session.maxCmdSn);
    putU32(slab, at + At.dataSn, dataSn);
    putU32(slab, at + At.bufferOffset, from);
    if (last) {
      slab[at + At.status] = task.status;
      putU32(slab, at + At.statSn, statSn);
      putU32(slab, at + At.residual, residual);
    }
    this.#seal(slab, at);
    if (inline) {
      const dataAt = at + this.#headerBytes;
      copyData(task, from, slab, dataAt, length);
      if (pad !== 0) slab.fill(0, dataAt + length, dataAt + length + pad);
      if (this.#dataDigest) {
        putDigest(slab, dataAt + length + pad, digestOf(slab, dataAt, length + pad));
      }
      this.#damageData(slab, dataAt);
      return;
    }
    const copy = this.#pool.take(length);
    copyData(task, from, copy, 0, length);
    const crc = this.#dataDigest ? digestOf(copy, 0, length) : 0;
    this.#damageData(copy, 0);
    this.#out.appendOwned(copy);
    this.#appendTail(length, crc);
  }

  /** What stands behind a data segment: pad bytes, and its digest, which is about them too (§11.2.3). */
  #appendTail(length: number, crc: number): void {
    const pad = PADDING.subarray(0, padOf(length));
    if (pad.length > 0) this.#out.append(pad);
    if (!this.#dataDigest) return;
    const at = this.#out.reserve(DIGEST_BYTES);
    putDigest(this.#out.slab, at, digestOf(pad, 0, pad.length, crc));
  }

  #damageData(data: Uint8Array, at: number): void {
    if (this.#flip !== 'data-bit') return;
    this.#flip = null;
    data[at]! ^= FLIPPED_BIT;
  }

  /** The status alone (§11.4), with the sense data of a failure. */
  response(task: Task, statSn: number): void {
    const { session } = task;
    if (!this.#maySend(Opcode.ScsiResponse)) return;
    const sense = task.sense;
    const dataLength = sense === null ? 0 : 2 + sense.length;
    const at = this.#out.reserve(this.#headerBytes);
    const slab = this.#out.slab;
    const moved = task.isBidirectional
      ? task.dataOutBytes
      : Math.max(task.dataOutBytes, task.readAvailable);
    const { flag, residual } = residualOf(moved, task.edtl);
    putCommon(slab, at, Opcode.ScsiResponse, Bit.final | flag, dataLength);
    slab[at + At.response] = task.response;
    slab[at + At.status] = task.status;
    putU32(slab, at + At.itt, task.itt);
    putU32(slab, at + At.ttt, task.snackTag);
    putU32(slab, at + At.statSn, statSn);
    putU32(slab, at + At.expCmdSn, session.expCmdSn);
    putU32(slab, at + At.maxCmdSn, session.maxCmdSn);
    putU32(slab, at + At.expDataSn, task.sentPdus);
    putU32(slab, at + At.residual, residual);
    if (task.isBidirectional) {
      const read = residualOf(task.readAvailable, task.readLength);
      slab[at + At.flags]! |= read.flag << BIDI_FLAG_SHIFT;
      putU32(slab, at + At.bidiResidual, read.residual);
    }
    this.#seal(slab, at);
    if (sense === null) return;
    const length = Buffer.from([sense.length >> 8, sense.length & 0xff]);
    this.#appendData(Buffer.concat([length, sense]));
  }

  /** Asks for the data of `burst` (§11.8). */
  r2t(task: Task, burst: Burst): void {
    const lun = Buffer.alloc(NO_LUN.length);
    encodeLun(task.lun, lun, 0);
    const { ttt, r2tSn, from, end } = burst;
    this.send(
      {
        opcode: Opcode.R2t,
        lun,
        itt: task.itt,
        ttt,
        r2tSn,
        bufferOffset: from,
        desiredLength: end - from,
      },
      task.session,
      false,
    );
  }

  /** The header in error is the data (§11.17.4). */
  reject(reason: RejectReason, header: Uint8Array, sns: CommandSns, dataSn = 0): void {
    this.send({ opcode: Opcode.Reject, reason, dataSn }, sns, true, header);
  }

  #appendData(data: Uint8Array): void {
    if (data.length === 0) return;
    const crc = this.#dataDigest ? digestOf(data, 0, data.length) : 0;
    if (this.#flip === 'data-bit') {
      const damaged = Buffer.from(data);
      this.#damageData(damaged, 0);
      this.#out.append(damaged);
    } else this.#out.append(data);
    this.#appendTail(data.length, crc);
  }
}

/** Residual of the `moved` bytes that the command is about against what the initiator expected (§11.4.5). */
function residualOf(moved: number, expected: number): { flag: number; residual: number } {
  if (moved === expected) return NO_RESIDUAL;
  return moved < expected
    ? { flag: Bit.underflow, residual: expected - moved }
    : { flag: Bit.overflow, residual: moved - expected };
}

function copyData(task: Task, from: number, into: Buffer, at: number, length: number): void {
  if (task.dataIn !== null) task.dataIn.copy(into, at, from, from + length);
  else task.lu!.disk.read(task.readOffset + from, into, at, length);
}
