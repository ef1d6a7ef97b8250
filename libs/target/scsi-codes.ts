/**
 * What the target's SCSI side answers with (SAM-5, SPC-4, SBC-3). Kept apart from the initiator's tables on purpose: a
 * mistake in one of the two then shows up in a test instead of cancelling itself out.
 */

export const Status = {
  Good: 0x00,
  CheckCondition: 0x02,
  Busy: 0x08,
  TaskSetFull: 0x28,
} as const;

/** Sense key, additional sense code and its qualifier. */
export type SenseCode = readonly [key: number, asc: number, ascq: number];

export const Sense = {
  none: [0x0, 0x00, 0x00],
  parameterListLength: [0x5, 0x1a, 0x00],
  invalidOpcode: [0x5, 0x20, 0x00],
  lbaOutOfRange: [0x5, 0x21, 0x00],
  invalidField: [0x5, 0x24, 0x00],
  lunNotSupported: [0x5, 0x25, 0x00],
  invalidParameter: [0x5, 0x26, 0x00],
  savingNotSupported: [0x5, 0x39, 0x00],
  powerOn: [0x6, 0x29, 0x00],
  busReset: [0x6, 0x29, 0x02],
  deviceReset: [0x6, 0x29, 0x03],
  nexusLoss: [0x6, 0x29, 0x07],
  capacityChanged: [0x6, 0x2a, 0x09],
  commandsCleared: [0x6, 0x2f, 0x00],
  writeProtected: [0x7, 0x27, 0x00],
  miscompare: [0xe, 0x1d, 0x00],
} as const satisfies Readonly<Record<string, SenseCode>>;

const FIXED_SENSE_BYTES = 18;

/** Fixed format (SPC-4 4.5.3). `information`: the LBA or offset it is about. */
export function fixedSense(code: SenseCode, information?: number): Buffer {
  const sense = Buffer.alloc(FIXED_SENSE_BYTES);
  sense[0] = information === undefined ? 0x70 : 0xf0;
  sense[2] = code[0];
  if (information !== undefined) sense.writeUInt32BE(information, 3);
  sense[7] = FIXED_SENSE_BYTES - 8;
  sense[12] = code[1];
  sense[13] = code[2];
  return sense;
}

/** Descriptor format (SPC-4 4.5.2), for REQUEST SENSE with DESC=1. */
export function descriptorSense(code: SenseCode): Buffer {
  return Buffer.from([0x72, code[0], code[1], code[2], 0, 0, 0, 0]);
}
