import {
  At,
  Bit,
  type PduCodec,
  type PduHeader,
  putCommon,
  putU16,
  putU32,
  u16,
  u24,
  u32,
} from './bhs.ts';
import { ISID_BYTES, stageBitsInvalidReason } from './login-request.ts';
import { Opcode } from './opcodes.ts';

const AT_VERSION_MAX = 2;
const AT_VERSION_ACTIVE = 3;
const AT_ISID = 8;
const AT_TSIH = 14;
const AT_STATUS_CLASS = 36;
const AT_STATUS_DETAIL = 37;

/** RFC 7143 §11.13. With a status class other than 0, statSn, expCmdSn and maxCmdSn mean nothing. */
export interface LoginResponse extends PduHeader {
  opcode: typeof Opcode.LoginResponse;
  transit: boolean;
  continue: boolean;
  csg: number;
  nsg: number;
  versionMax: number;
  versionActive: number;
  isid: Buffer;
  tsih: number;
  itt: number;
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
  statusClass: number;
  statusDetail: number;
}

export const loginResponse = {
  opcode: Opcode.LoginResponse,
  encode(pdu, into, at) {
    const flags =
      (pdu.transit ? Bit.transit : 0) |
      (pdu.continue ? Bit.continue : 0) |
      ((pdu.csg & 3) << 2) |
      (pdu.nsg & 3);
    putCommon(into, at, Opcode.LoginResponse, flags, pdu.dataSegmentLength);
    into[at + AT_VERSION_MAX] = pdu.versionMax;
    into[at + AT_VERSION_ACTIVE] = pdu.versionActive;
    into.set(pdu.isid, at + AT_ISID);
    putU16(into, at + AT_TSIH, pdu.tsih);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.statSn, pdu.statSn);
    putU32(into, at + At.expCmdSn, pdu.expCmdSn);
    putU32(into, at + At.maxCmdSn, pdu.maxCmdSn);
    into[at + AT_STATUS_CLASS] = pdu.statusClass;
    into[at + AT_STATUS_DETAIL] = pdu.statusDetail;
  },
  decode(from, at) {
    const flags = from[at + At.flags]!;
    return {
      opcode: Opcode.LoginResponse,
      transit: (flags & Bit.transit) !== 0,
      continue: (flags & Bit.continue) !== 0,
      csg: (flags >> 2) & 3,
      nsg: flags & 3,
      versionMax: from[at + AT_VERSION_MAX]!,
      versionActive: from[at + AT_VERSION_ACTIVE]!,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      isid: Buffer.from(from.subarray(at + AT_ISID, at + AT_ISID + ISID_BYTES)),
      tsih: u16(from, at + AT_TSIH),
      itt: u32(from, at + At.itt),
      statSn: u32(from, at + At.statSn),
      expCmdSn: u32(from, at + At.expCmdSn),
      maxCmdSn: u32(from, at + At.maxCmdSn),
      statusClass: from[at + AT_STATUS_CLASS]!,
      statusDetail: from[at + AT_STATUS_DETAIL]!,
    };
  },
  invalidReason(pdu) {
    // A refusal says why in the status; its stage bits are of no interest.
    return pdu.statusClass === 0 ? stageBitsInvalidReason(pdu) : null;
  },
} as const satisfies PduCodec<LoginResponse>;
