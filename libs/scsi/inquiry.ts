import { ascii, putU16, startCdb } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

/** Peripheral device types that matter to a block gateway (SPC-4). */
export const DeviceType = { Disk: 0x00, Controller: 0x0c, Unknown: 0x1f } as const;

export interface InquiryData {
  /** 0: connected; 1: not connected; 3: there is no such logical unit. */
  readonly qualifier: number;
  readonly deviceType: number;
  readonly vendor: string;
  readonly product: string;
  readonly revision: string;
  /** Target port group support: 0 none, 1 implicit, 2 explicit, 3 both (ALUA). */
  readonly tpgs: number;
  /** Third-party copy (EXTENDED COPY) is supported. */
  readonly thirdPartyCopy: boolean;
}

const STANDARD_BYTES = 36;

/** INQUIRY (SPC-4): the standard data, or a vital product data page. */
export function putInquiry(
  into: Uint8Array,
  at: number,
  vpdPage: number | null,
  allocationBytes: number,
): void {
  startCdb(into, at, ScsiOp.Inquiry);
  if (vpdPage !== null) {
    into[at + 1] = 1;
    into[at + 2] = vpdPage;
  }
  putU16(into, at + 3, allocationBytes);
}

/** Null when it is too short to be standard INQUIRY data. */
export function parseInquiry(data: Uint8Array): InquiryData | null {
  if (data.length < STANDARD_BYTES) return null;
  return {
    qualifier: data[0]! >> 5,
    deviceType: data[0]! & 0x1f,
    tpgs: (data[5]! >> 4) & 3,
    thirdPartyCopy: (data[5]! & 0x08) !== 0,
    vendor: ascii(data, 8, 8),
    product: ascii(data, 16, 16),
    revision: ascii(data, 32, 4),
  };
}
