import {
  At,
  Bit,
  opcodeByte,
  type PduCodec,
  type PduHeader,
  putCommon,
  putU16,
  putU32,
  u16,
  u24,
  u32,
} from './bhs.ts';
import { Opcode } from './opcodes.ts';

export const ISID_BYTES = 6;
const AT_VERSION_MAX = 2;
const AT_VERSION_MIN = 3;
const AT_ISID = 8;
const AT_TSIH = 14;
const AT_CID = 20;

/** Always immediate; its data segment is text (RFC 7143 §11.12). */
export interface LoginRequest extends PduHeader {
  opcode: typeof Opcode.LoginRequest;
  transit: boolean;
  continue: boolean;
  csg: number;
  nsg: number;
  versionMax: number;
  versionMin: number;
  isid: Buffer;
  tsih: number;
  itt: number;
  cid: number;
  cmdSn: number;
  expStatSn: number;
}

/** What is wrong with the stage bits of a login PDU, or null (§11.12.1 to §11.12.3). */
export function stageBitsInvalidReason(pdu: {
  transit: boolean;
  continue: boolean;
  csg: number;
  nsg: number;
}): string | null {
  if (pdu.csg > 1) return 'a login PDU is of stage 0 or 1 (§11.12.3)';
  if (pdu.continue && pdu.transit) return 'C and T may not both be 1 (§11.12.2)';
  if (pdu.transit && (pdu.nsg === 2 || pdu.nsg <= pdu.csg)) {
    return `no transition from stage ${pdu.csg} to ${pdu.nsg} (§11.12.3)`;
  }
  return null;
}

export const loginRequest = {
  opcode: Opcode.LoginRequest,
  encode(pdu, into, at) {
    const flags =
      (pdu.transit ? Bit.transit : 0) |
      (pdu.continue ? Bit.continue : 0) |
      ((pdu.csg & 3) << 2) |
      (pdu.nsg & 3);
    putCommon(into, at, opcodeByte(Opcode.LoginRequest, true), flags, pdu.dataSegmentLength);
    into[at + AT_VERSION_MAX] = pdu.versionMax;
    into[at + AT_VERSION_MIN] = pdu.versionMin;
    into.set(pdu.isid, at + AT_ISID);
    putU16(into, at + AT_TSIH, pdu.tsih);
    putU32(into, at + At.itt, pdu.itt);
    putU16(into, at + AT_CID, pdu.cid);
    putU32(into, at + At.cmdSn, pdu.cmdSn);
    putU32(into, at + At.expStatSn, pdu.expStatSn);
  },
  decode(from, at) {
    const flags = from[at + At.flags]!;
    return {
      opcode: Opcode.LoginRequest,
      transit: (flags & Bit.transit) !== 0,
      continue: (flags & Bit.continue) !== 0,
      csg: (flags >> 2) & 3,
      nsg: flags & 3,
      versionMax: from[at + AT_VERSION_MAX]!,
      versionMin: from[at + AT_VERSION_MIN]!,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      isid: Buffer.from(from.subarray(at + AT_ISID, at + AT_ISID + ISID_BYTES)),
      tsih: u16(from, at + AT_TSIH),
      itt: u32(from, at + At.itt),
      cid: u16(from, at + AT_CID),
      cmdSn: u32(from, at + At.cmdSn),
      expStatSn: u32(from, at + At.expStatSn),
    };
  },
  invalidReason: (pdu) => stageBitsInvalidReason(pdu),
} as const satisfies PduCodec<LoginRequest>;
