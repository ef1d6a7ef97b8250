import { CDB_BYTES } from '../iscsi/pdu/scsi-command.ts';

/**
 * Additional header segments of a command (RFC 7143 §11.2.2). The target's own reading of them, kept apart from the
 * initiator's writing on purpose.
 */

const EXTENDED_CDB = 1;
const BIDI_READ_LENGTH = 2;

/** Length, type and the first byte of what is specific to it. */
const HEAD_BYTES = 4;

/** AHSLength counts neither itself nor the type. */
const COUNTED_FROM = 3;

const BIDI_LENGTH = 5;

/** SPC-4 4.2.3: the longest variable length CDB. */
const EXTENDED_CDB_BYTES_MAX = 260;

export interface CommandExtras {
  /** What follows the 16 bytes of the CDB in the basic header. */
  readonly cdbRest: Buffer | null;
  readonly bidiReadLength: number | null;
}

/** Parses the segments of a SCSI command, or says what is wrong with them. */
export function parseCommandExtras(ahs: Buffer): CommandExtras | string {
  let cdbRest: Buffer | null = null;
  let bidiReadLength: number | null = null;
  for (let at = 0; at < ahs.length; ) {
    if (ahs.length - at < HEAD_BYTES) return 'half a segment';
    const length = ahs.readUInt16BE(at);
    const type = ahs[at + 2]! & 0x3f;
    const end = at + COUNTED_FROM + length;
    if (length === 0 || end > ahs.length) return 'a segment longer than all of them (§11.2.2.1)';
    if (type === EXTENDED_CDB) {
      if (cdbRest !== null) return 'two extended CDBs';
      // §11.2.2.3: it counts the reserved byte too, and a CDB of 16 bytes needs none.
      if (length < 2 || length - 1 + CDB_BYTES > EXTENDED_CDB_BYTES_MAX) {
        return 'an extended CDB of an impossible length (§11.2.2.3)';
      }
      cdbRest = Buffer.from(ahs.subarray(at + HEAD_BYTES, end));
    } else if (type === BIDI_READ_LENGTH) {
      if (bidiReadLength !== null) return 'two read lengths';
      if (length !== BIDI_LENGTH) return 'a read length of another length (§11.2.2.4)';
      bidiReadLength = ahs.readUInt32BE(at + HEAD_BYTES);
    } else return 'a segment of an unknown type (§11.2.2.2)';
    // Padded to whole words (§11.2.2).
    at = (end + 3) & ~3;
  }
  return { cdbRest, bidiReadLength };
}

export const NO_EXTRAS: CommandExtras = { cdbRest: null, bidiReadLength: null };
