import { u32, u64 } from './bytes.ts';

/** Sense data, of either format (SPC-4 §4.5). */
export interface Sense {
  readonly key: number;
  readonly asc: number;
  readonly ascq: number;
  /** About an earlier command, not the one that was answered with it. */
  readonly deferred: boolean;
  /** The INFORMATION field when it is valid: an LBA, or the offset of a miscompare. */
  readonly information: number | null;
}

const INFORMATION_DESCRIPTOR = 0x00;

/** Null when it is no sense data. */
export function parseSense(data: Uint8Array): Sense | null {
  if (data.length < 2) return null;
  switch (data[0]! & 0x7f) {
    case 0x70:
    case 0x71:
      return parseFixed(data);
    case 0x72:
    case 0x73:
      return parseDescriptors(data);
    default:
      return null;
  }
}

function parseFixed(data: Uint8Array): Sense | null {
  if (data.length < 3) return null;
  const valid = (data[0]! & 0x80) !== 0 && data.length >= 7;
  return {
    key: data[2]! & 0x0f,
    // Devices may cut the sense short: what is missing is "no additional information".
    asc: data.length > 12 ? data[12]! : 0,
    ascq: data.length > 13 ? data[13]! : 0,
    deferred: (data[0]! & 0x7f) === 0x71,
    information: valid ? u32(data, 3) : null,
  };
}

function parseDescriptors(data: Uint8Array): Sense | null {
  if (data.length < 4) return null;
  let information: number | null = null;
  const end = data.length > 7 ? Math.min(data.length, 8 + data[7]!) : 0;
  for (let at = 8; at + 2 <= end; at += 2 + data[at + 1]!) {
    const isInformation = data[at] === INFORMATION_DESCRIPTOR && data[at + 1] === 0x0a;
    if (isInformation && at + 12 <= end && (data[at + 2]! & 0x80) !== 0) {
      information = u64(data, at + 4);
    }
  }
  return {
    key: data[1]! & 0x0f,
    asc: data[2]!,
    ascq: data[3]!,
    deferred: (data[0]! & 0x7f) === 0x73,
    information,
  };
}

/** Fixed-format sense data, for the target's side. */
export function buildSense(
  key: number,
  asc: number,
  ascq: number,
  information: number | null = null,
): Buffer {
  const sense = Buffer.alloc(18);
  sense[0] = information === null ? 0x70 : 0xf0;
  sense[2] = key;
  if (information !== null) sense.writeUInt32BE(information, 3);
  sense[7] = sense.length - 8;
  sense[12] = asc;
  sense[13] = ascq;
  return sense;
}
