import {
  At,
  Bit,
  immediateOf,
  lunOf,
  opcodeByte,
  type PduCodec,
  type PduHeader,
  putCommon,
  putLun,
  putU32,
  u24,
  u32,
} from './bhs.ts';
import { Opcode, RESERVED_TAG, TaskAttribute } from './opcodes.ts';

/** A SCSI command, maybe with immediate data (RFC 7143 §11.3). */
export interface ScsiCommand extends PduHeader {
  opcode: typeof Opcode.ScsiCommand;
  immediate: boolean;
  /** No unsolicited Data-Out follows. */
  final: boolean;
  read: boolean;
  write: boolean;
  attribute: number;
  lun: Buffer;
  itt: number;
  /** Expected Data Transfer Length, bytes. */
  edtl: number;
  cmdSn: number;
  expStatSn: number;
  /** 16 bytes; longer CDBs go on in an additional header segment. */
  cdb: Buffer;
}

export const CDB_BYTES = 16;

export const scsiCommand = {
  opcode: Opcode.ScsiCommand,
  encode(pdu, into, at) {
    const flags =
      (pdu.final ? Bit.final : 0) |
      (pdu.read ? Bit.read : 0) |
      (pdu.write ? Bit.write : 0) |
      (pdu.attribute & Bit.attributeMask);
    const first = opcodeByte(Opcode.ScsiCommand, pdu.immediate);
    putCommon(into, at, first, flags, pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.edtl, pdu.edtl);
    putU32(into, at + At.cmdSn, pdu.cmdSn);
    putU32(into, at + At.expStatSn, pdu.expStatSn);
    into.set(pdu.cdb, at + At.cdb);
  },
  decode(from, at) {
    const flags = from[at + At.flags]!;
    return {
      opcode: Opcode.ScsiCommand,
      immediate: immediateOf(from, at),
      final: (flags & Bit.final) !== 0,
      read: (flags & Bit.read) !== 0,
      write: (flags & Bit.write) !== 0,
      attribute: flags & Bit.attributeMask,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      itt: u32(from, at + At.itt),
      edtl: u32(from, at + At.edtl),
      cmdSn: u32(from, at + At.cmdSn),
      expStatSn: u32(from, at + At.expStatSn),
      cdb: Buffer.from(from.subarray(at + At.cdb, at + At.cdb + CDB_BYTES)),
    };
  },
  invalidReason(pdu) {
    if (pdu.itt === RESERVED_TAG) return 'a command needs a task tag (§11.2.1.8)';
    if (pdu.attribute > TaskAttribute.Aca) return 'a reserved task attribute (§11.3.1)';
    if (!pdu.final && !pdu.write) return 'W and F may not both be 0 (§11.3.1)';
    if (pdu.edtl > 0 && !pdu.read && !pdu.write) {
      return 'a transfer length without R or W (§11.3.1)';
    }
    if (pdu.dataSegmentLength > 0 && !pdu.write) {
      return 'immediate data with a command that does not write (§11.3)';
    }
    if (pdu.dataSegmentLength > pdu.edtl) {
      return 'more immediate data than the transfer length (§11.3.4)';
    }
    return null;
  },
} as const satisfies PduCodec<ScsiCommand>;
