import { ascii, u16, u32, u64 } from './bytes.ts';

/** Vital product data pages (SPC-4, SBC-3). Parsers return null for data that is not that page. */
export const VpdPage = {
  Supported: 0x00,
  SerialNumber: 0x80,
  Identification: 0x83,
  ThirdPartyCopy: 0x8f,
  BlockLimits: 0xb0,
  BlockCharacteristics: 0xb1,
  Provisioning: 0xb2,
} as const;
export type VpdPage = (typeof VpdPage)[keyof typeof VpdPage];

/** The page without its 4-byte header, cut to what arrived; null when it is another page or too short. */
function bodyOf(page: number, data: Uint8Array): Uint8Array | null {
  if (data.length < 4 || data[1] !== page) return null;
  return data.subarray(4, Math.min(data.length, 4 + u16(data, 2)));
}

export function parseSupportedPages(data: Uint8Array): readonly number[] | null {
  const body = bodyOf(VpdPage.Supported, data);
  return body === null ? null : [...body];
}

export function parseSerialNumber(data: Uint8Array): string | null {
  const body = bodyOf(VpdPage.SerialNumber, data);
  return body === null ? null : ascii(body, 0, body.length);
}

const DesignatorType = {
  T10: 1,
  Eui64: 2,
  Naa: 3,
  RelativePort: 4,
  PortGroup: 5,
  ScsiName: 8,
} as const;

const Association = { LogicalUnit: 0, TargetPort: 1 } as const;

export interface Designator {
  readonly type: number;
  /** 0 the logical unit, 1 the target port, 2 the target device. */
  readonly association: number;
  /** 1 binary, 2 ASCII, 3 UTF-8. */
  readonly codeSet: number;
  readonly bytes: Buffer;
}

export function parseDesignators(data: Uint8Array): readonly Designator[] | null {
  const body = bodyOf(VpdPage.Identification, data);
  if (body === null) return null;
  const found: Designator[] = [];
  for (let at = 0; at + 4 <= body.length; ) {
    const length = body[at + 3]!;
    const end = at + 4 + length;
    if (end > body.length) break; // cut off: what came before it still counts
    found.push({
      codeSet: body[at]! & 0x0f,
      association: (body[at + 1]! >> 4) & 3,
      type: body[at + 1]! & 0x0f,
      bytes: Buffer.from(body.subarray(at + 4, end)),
    });
    at = end;
  }
  return found;
}

/**
 * What tells this logical unit from all others, on every path: NAA before EUI-64 before SCSI name before T10
 * vendor id. Null when it has no such designator.
 */
export function wwidOf(designators: readonly Designator[]): string | null {
  const own = designators.filter(
    (d) => d.association === Association.LogicalUnit && d.bytes.length > 0,
  );
  // NAA 6 (16 bytes) is longer, hence better, than NAA 2, 3 and 5 (8 bytes).
  const naa = own
    .filter((d) => d.type === DesignatorType.Naa)
    .sort((a, b) => b.bytes.length - a.bytes.length)[0];
  if (naa !== undefined) return `naa:${naa.bytes.toString('hex')}`;
  const eui = own.find((d) => d.type === DesignatorType.Eui64);
  if (eui !== undefined) return `eui:${eui.bytes.toString('hex')}`;
  const name = own.find((d) => d.type === DesignatorType.ScsiName);
  if (name !== undefined) return `name:${ascii(name.bytes, 0, name.bytes.length)}`;
  const t10 = own.find((d) => d.type === DesignatorType.T10);
  if (t10 !== undefined) return `t10:${ascii(t10.bytes, 0, t10.bytes.length)}`;
  return null;
}

/** Where a path leads: the target port that answered, and its group (ALUA). */
export interface TargetPort {
  /** Relative target port identifier; null when the page does not tell. */
  readonly relativePort: number | null;
  readonly group: number | null;
}

export function targetPortOf(designators: readonly Designator[]): TargetPort {
  const number = (type: number): number | null => {
    const found = designators.find(
      (d) => d.association === Association.TargetPort && d.type === type && d.bytes.length >= 4,
    );
    // Two reserved bytes stand before either number (SPC-4 §7.8.6.7, §7.8.6.8).
    return found === undefined ? null : u16(found.bytes, 2);
  };
  return {
    relativePort: number(DesignatorType.RelativePort),
    group: number(DesignatorType.PortGroup),
  };
}

/**
 * The designator that EXTENDED COPY names this logical unit by: NAA, EUI-64 or T10, of at most 20 bytes, as a
 * descriptor of type E4h has room for. Null when there is none.
 */
export function copyDesignatorOf(designators: readonly Designator[]): Designator | null {
  const own = designators.filter(
    (d) => d.association === Association.LogicalUnit && d.bytes.length > 0 && d.bytes.length <= 20,
  );
  const naa = own
    .filter((d) => d.type === DesignatorType.Naa)
    .sort((a, b) => b.bytes.length - a.bytes.length)[0];
  return naa ?? own.find((d) => d.type === DesignatorType.Eui64) ?? own[0] ?? null;
}

/** In logical blocks; 0 where the device states no limit. */
export interface BlockLimits {
  readonly maxCompareAndWriteBlocks: number;
  readonly optimalGranularityBlocks: number;
  readonly maxTransferBlocks: number;
  readonly optimalTransferBlocks: number;
  readonly maxUnmapBlocks: number;
  readonly maxUnmapDescriptors: number;
  readonly unmapGranularityBlocks: number;
  /** Null when the device states none. */
  readonly unmapAlignmentBlock: number | null;
  readonly maxWriteSameBlocks: number;
  /** WRITE SAME may not have a length of 0 (the rest of the device). */
  readonly writeSameNonZero: boolean;
}

const ALIGNMENT_VALID = 0x80000000;

export function parseBlockLimits(data: Uint8Array): BlockLimits | null {
  const body = bodyOf(VpdPage.BlockLimits, data);
  if (body === null || body.length < 0x0c) return null;
  // SBC-2 devices return 12 bytes only; what is missing reads as zero.
  const page = Buffer.alloc(64);
  page.set(data.subarray(0, Math.min(data.length, 64, 4 + body.length)));
  const alignment = u32(page, 32);
  return {
    writeSameNonZero: (page[4]! & 1) !== 0,
    maxCompareAndWriteBlocks: page[5]!,
    optimalGranularityBlocks: u16(page, 6),
    maxTransferBlocks: u32(page, 8),
    optimalTransferBlocks: u32(page, 12),
    maxUnmapBlocks: u32(page, 20),
    maxUnmapDescriptors: u32(page, 24),
    unmapGranularityBlocks: u32(page, 28),
    unmapAlignmentBlock: alignment >= ALIGNMENT_VALID ? alignment - ALIGNMENT_VALID : null,
    maxWriteSameBlocks: u64(page, 36) ?? 0,
  };
}

export interface BlockCharacteristics {
  /** 0 not reported, 1 solid state, else revolutions per minute. */
  readonly rotationRate: number;
}

export function parseBlockCharacteristics(data: Uint8Array): BlockCharacteristics | null {
  const body = bodyOf(VpdPage.BlockCharacteristics, data);
  return body === null || body.length < 2 ? null : { rotationRate: u16(body, 0) };
}

export interface Provisioning {
  readonly unmap: boolean;
  readonly writeSame16Unmap: boolean;
  readonly writeSame10Unmap: boolean;
  /** Unmapped blocks read as zeroes. */
  readonly readsZeroes: boolean;
  readonly thin: boolean;
}

export function parseProvisioning(data: Uint8Array): Provisioning | null {
  const body = bodyOf(VpdPage.Provisioning, data);
  if (body === null || body.length < 3) return null;
  const bits = body[1]!;
  return {
    unmap: (bits & 0x80) !== 0,
    writeSame16Unmap: (bits & 0x40) !== 0,
    writeSame10Unmap: (bits & 0x20) !== 0,
    // LBPRZ xx1b: zeroes. 010b is a pattern of the device's own, 000b anything (SBC-4 §6.6.8).
    readsZeroes: ((bits >> 2) & 1) !== 0,
    thin: (body[2]! & 7) === 2,
  };
}
