import {
  At,
  lunOf,
  type PduCodec,
  type PduHeader,
  putCommon,
  putLun,
  putU32,
  u24,
  u32,
} from './bhs.ts';
import { Opcode, RESERVED_TAG, SnackType } from './opcodes.ts';

const TYPE_MASK = 0x0f;
const AT_BEG_RUN = 40;
const AT_RUN_LENGTH = 44;

/** Asks for something to be sent again, or acknowledges data (RFC 7143 §11.16). */
export interface SnackRequest extends PduHeader {
  opcode: typeof Opcode.SnackRequest;
  type: number;
  lun: Buffer;
  itt: number;
  /** Target Transfer Tag of a DataACK, SNACK Tag of an R-Data. */
  ttt: number;
  expStatSn: number;
  begRun: number;
  runLength: number;
}

export const snackRequest = {
  opcode: Opcode.SnackRequest,
  encode(pdu, into, at) {
    const flags = 0x80 | (pdu.type & TYPE_MASK);
    putCommon(into, at, Opcode.SnackRequest, flags, pdu.dataSegmentLength);
    putLun(into, at, pdu.lun);
    putU32(into, at + At.itt, pdu.itt);
    putU32(into, at + At.ttt, pdu.ttt);
    putU32(into, at + At.expStatSn, pdu.expStatSn);
    putU32(into, at + AT_BEG_RUN, pdu.begRun);
    putU32(into, at + AT_RUN_LENGTH, pdu.runLength);
  },
  decode(from, at) {
    return {
      opcode: Opcode.SnackRequest,
      type: from[at + At.flags]! & TYPE_MASK,
      dataSegmentLength: u24(from, at + At.dataSegmentLength),
      lun: lunOf(from, at),
      itt: u32(from, at + At.itt),
      ttt: u32(from, at + At.ttt),
      expStatSn: u32(from, at + At.expStatSn),
      begRun: u32(from, at + AT_BEG_RUN),
      runLength: u32(from, at + AT_RUN_LENGTH),
    };
  },
  invalidReason(pdu) {
    if (pdu.type > SnackType.RData) return 'a reserved SNACK type (§11.16.1)';
    const tagged = pdu.type === SnackType.DataOrR2t || pdu.type === SnackType.RData;
    if (tagged === (pdu.itt === RESERVED_TAG)) return 'a SNACK with a wrong task tag (§11.16.4)';
    if (pdu.type === SnackType.RData && (pdu.begRun !== 0 || pdu.runLength !== 0)) {
      return 'an R-Data SNACK asks for everything (§11.16.6)';
    }
    return null;
  },
} as const satisfies PduCodec<SnackRequest>;
