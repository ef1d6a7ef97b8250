import type { LogicalUnit } from './logical-unit.ts';
import type { Nexus } from './nexus.ts';
import { fixedSense, type SenseCode, Status } from './scsi-codes.ts';

/** A SCSI command on its way through the target: what it asks for, its data, and how it ended. */
export class ScsiTask {
  readonly cdb: Buffer;
  readonly nexus: Nexus;
  /** The unit it is addressed to; null when there is none of that number. */
  readonly lu: LogicalUnit | null;
  readonly lun: number;

  /** Of commands that address blocks, decoded by `prepare`. */
  lba = 0;
  blocks = 0;

  /** Bytes of Data-Out that the command needs. */
  dataOutBytes = 0;
  /** Bytes of Data-Out that the initiator announced. */
  readonly announcedBytes: number;
  /** The Data-Out bytes, or null when there are none. */
  dataOut: Buffer | null = null;
  /** How many of them came: less than needed when the initiator announced less. */
  received = 0;

  /** What it answers with, except for reads, which are copied from the disk when they are sent. */
  dataIn: Buffer | null = null;
  readOffset = 0;
  readBytes = 0;

  /** iSCSI service response (RFC 7143 §11.4.3): other than 0 by a fault. */
  response = 0;
  status: number = Status.Good;
  sense: Buffer | null = null;

  constructor(
    cdb: Buffer,
    nexus: Nexus,
    lu: LogicalUnit | null,
    lun: number,
    announcedBytes: number,
  ) {
    this.announcedBytes = announcedBytes;
    this.cdb = cdb;
    this.nexus = nexus;
    this.lu = lu;
    this.lun = lun;
  }

  get opcode(): number {
    return this.cdb[0]!;
  }

  get failed(): boolean {
    return this.status !== Status.Good;
  }

  fail(code: SenseCode, information?: number): void {
    this.failWith(Status.CheckCondition, fixedSense(code, information));
  }

  failWith(status: number, sense: Buffer | null = null): void {
    this.status = status;
    this.sense = sense;
    this.dataIn = null;
    this.readBytes = 0;
  }

  /** Answers with `data`, cut to what the initiator has room for. */
  answer(data: Buffer, allocationLength: number): void {
    this.dataIn = data.length <= allocationLength ? data : data.subarray(0, allocationLength);
  }
}
