import { assert } from '../../core/assert.ts';
import { padOf, putU16, putU32, u16, u32 } from './bhs.ts';
import { CDB_BYTES } from './scsi-command.ts';

/** Additional header segments, between the basic header and its digest (RFC 7143 §11.2.2). */
export const AhsType = {
  ExtendedCdb: 1,
  BidirectionalReadLength: 2,
} as const;
export type AhsType = (typeof AhsType)[keyof typeof AhsType];

/** AHSLength and AHSType; AHSLength counts what follows them. */
const PREFIX_BYTES = 3;

/** AHSLength of the one that has a fixed length (§11.2.2.4): a reserved byte and the length. */
const READ_LENGTH_BYTES = 5;

/** §11.2.2.1: the two high bits of AHSType are reserved. */
const TYPE_MASK = 0x3f;

/** TotalAHSLength is one byte that counts words (§11.2.1.5). */
export const AHS_BYTES_MAX = 255 * 4;

/** A command descriptor block that fits a chain with nothing else but a read length. */
export const EXTENDED_CDB_BYTES_MAX = CDB_BYTES + AHS_BYTES_MAX - 4 - 8;

export interface AdditionalHeader {
  readonly type: number;
  /** What follows AHSLength and AHSType: `AHSLength` bytes, as a view. */
  readonly body: Buffer;
}

/** Cuts a chain into its segments; a text says which clause it breaks. Types that do not exist are the caller's to skip. */
export function parseAdditionalHeaders(chain: Buffer): AdditionalHeader[] | string {
  const found: AdditionalHeader[] = [];
  for (let at = 0; at < chain.length; ) {
    if (at + PREFIX_BYTES >= chain.length) return 'an additional header that is cut off (§11.2.2)';
    const length = u16(chain, at);
    const end = at + PREFIX_BYTES + length;
    if (end > chain.length) return `an additional header of ${length} bytes is cut off (§11.2.2.2)`;
    found.push({ type: chain[at + 2]! & TYPE_MASK, body: chain.subarray(at + PREFIX_BYTES, end) });
    at = end + padOf(PREFIX_BYTES + length);
  }
  return found;
}

/** What a SCSI Command can say in additional headers. */
export interface CommandExtension {
  /** Bytes of the CDB behind the first 16; empty when there are none. */
  readonly cdbRest: Buffer;
  /** What a bidirectional command reads at most; null for another command. */
  readonly readLength: number | null;
}

/** The chain of a SCSI Command (§11.2.2.3, §11.2.2.4): a multiple of 4 bytes, maybe none. */
export function encodeCommandExtension({ cdbRest, readLength }: CommandExtension): Buffer {
  assert(CDB_BYTES + cdbRest.length <= EXTENDED_CDB_BYTES_MAX, 'an extended CDB fits its headers');
  const cdbBytes = cdbRest.length === 0 ? 0 : PREFIX_BYTES + 1 + cdbRest.length;
  const cdbWhole = cdbBytes + padOf(cdbBytes);
  const chain = Buffer.alloc(
    cdbWhole + (readLength === null ? 0 : PREFIX_BYTES + READ_LENGTH_BYTES),
  );
  if (cdbBytes > 0) {
    // CDBLength - 15: the reserved byte counts.
    putU16(chain, 0, cdbRest.length + 1);
    chain[2] = AhsType.ExtendedCdb;
    chain.set(cdbRest, PREFIX_BYTES + 1);
  }
  if (readLength !== null) {
    putU16(chain, cdbWhole, READ_LENGTH_BYTES);
    chain[cdbWhole + 2] = AhsType.BidirectionalReadLength;
    putU32(chain, cdbWhole + 4, readLength);
  }
  return chain;
}

/** The other way round, for a target; a text says which clause the chain breaks. */
export function decodeCommandExtension(chain: Buffer): CommandExtension | string {
  const headers = parseAdditionalHeaders(chain);
  if (typeof headers === 'string') return headers;
  let cdbRest: Buffer = Buffer.alloc(0);
  let readLength: number | null = null;
  for (const { type, body } of headers) {
    if (type === AhsType.ExtendedCdb) {
      if (cdbRest.length > 0) return 'two extended CDBs (§11.2.2.3)';
      if (body.length < 2) return 'an extended CDB of less than 17 bytes (§11.2.2.3)';
      cdbRest = Buffer.from(body.subarray(1));
    } else if (type === AhsType.BidirectionalReadLength) {
      if (readLength !== null) return 'two bidirectional read lengths (§11.2.2.4)';
      if (body.length !== READ_LENGTH_BYTES) return 'a read length that is no number (§11.2.2.4)';
      readLength = u32(body, 1);
    }
  }
  return { cdbRest, readLength };
}
