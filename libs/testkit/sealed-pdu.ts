import { At, BHS_BYTES, padOf, u24 } from '../iscsi/pdu/bhs.ts';
import { DIGEST_BYTES, digestOf, isDigest, putDigest } from '../iscsi/pdu/digest.ts';

/** Which digests a connection has agreed on. */
export interface Digests {
  readonly header: boolean;
  readonly data: boolean;
}

export const NO_DIGESTS: Digests = { header: false, data: false };

interface Layout {
  readonly headerBytes: number;
  readonly dataAt: number;
  readonly dataBytes: number;
  readonly bytes: number;
}

function layoutOf(header: Buffer, digests: Digests): Layout {
  const headerBytes = BHS_BYTES + header[At.totalAhsLength]! * 4;
  const length = u24(header, At.dataSegmentLength);
  const dataBytes = length + padOf(length);
  const dataAt = headerBytes + (digests.header ? DIGEST_BYTES : 0);
  const bytes = dataAt + dataBytes + (digests.data && dataBytes > 0 ? DIGEST_BYTES : 0);
  return { headerBytes, dataAt, dataBytes, bytes };
}

/** Bytes of the PDU that begins with `header`, digests and all. */
export function sealedBytes(header: Buffer, digests: Digests): number {
  return layoutOf(header, digests).bytes;
}

/** Puts additional header segments and digests into a plain PDU; `spoiled` gives its data a wrong one. */
export function sealPdu(
  plain: Buffer,
  digests: Digests,
  { ahs = Buffer.alloc(0), spoiled = false }: { ahs?: Buffer; spoiled?: boolean } = {},
): Buffer {
  const header = Buffer.concat([plain.subarray(0, BHS_BYTES), ahs]);
  header[At.totalAhsLength] = ahs.length / 4;
  const data = plain.subarray(BHS_BYTES);
  const parts: Buffer[] = [header];
  if (digests.header) parts.push(sealOf(header, false));
  parts.push(data);
  if (digests.data && data.length > 0) parts.push(sealOf(data, spoiled));
  return Buffer.concat(parts);
}

function sealOf(bytes: Buffer, spoiled: boolean): Buffer {
  const seal = Buffer.alloc(DIGEST_BYTES);
  const digest = digestOf(bytes, 0, bytes.length);
  putDigest(seal, 0, spoiled ? ~digest : digest);
  return seal;
}

/** Takes the digests out again. A wrong header digest is an error: nothing after it can be told. */
export function unsealPdu(bytes: Buffer, digests: Digests): { plain: Buffer; isIntact: boolean } {
  const { headerBytes, dataAt, dataBytes } = layoutOf(bytes, digests);
  const isSealed = isDigest(bytes, headerBytes, digestOf(bytes, 0, headerBytes));
  if (digests.header && !isSealed) throw new Error('a wrong header digest');
  const data = bytes.subarray(dataAt, dataAt + dataBytes);
  const isIntact =
    !digests.data ||
    dataBytes === 0 ||
    isDigest(bytes, dataAt + dataBytes, digestOf(data, 0, data.length));
  return { plain: Buffer.concat([bytes.subarray(0, headerBytes), data]), isIntact };
}
