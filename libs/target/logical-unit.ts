import { createHash } from 'node:crypto';
import { assert } from '../core/assert.ts';
import { RamDisk } from './ram-disk.ts';

/** Longest single READ or WRITE, in the Block Limits page. */
export const TRANSFER_BYTES_MAX = 32 * 1024 * 1024;

/** Longest COMPARE AND WRITE. */
export const COMPARE_BYTES_MAX = 64 * 1024;

/** Longest WRITE SAME: it may have to write all of it. */
export const WRITE_SAME_BYTES_MAX = 64 * 1024 * 1024;

/** Longest UNMAP, all its descriptors together. */
export const UNMAP_BYTES_MAX = 512 * 1024 * 1024;
export const UNMAP_DESCRIPTORS_MAX = 256;

/** What the unit says its physical blocks are. */
export const PHYSICAL_BLOCK_BYTES = 4096;

export interface LunOptions {
  readonly lun: number;
  readonly sizeBytes: number;
  readonly blockBytes?: 512 | 4096;
  readonly readOnly?: boolean;
  /** 16 hexadecimal digits that begin with 3 (NAA, locally assigned); made from target name and LUN by default. */
  readonly wwid?: string;
  /** True: writes are lost by `restart({ loseCache: true })` unless flushed or sent with FUA. Reported as WCE. */
  readonly writeCache?: boolean;
}

/** A RAM disk as a SCSI logical unit. */
export class LogicalUnit {
  readonly lun: number;
  readonly disk: RamDisk;
  readonly blockBytes: number;
  readonly readOnly: boolean;
  readonly wwid: string;
  readonly targetName: string;

  constructor(targetName: string, options: LunOptions) {
    this.lun = options.lun;
    this.targetName = targetName;
    this.blockBytes = options.blockBytes ?? 512;
    this.readOnly = options.readOnly ?? false;
    this.wwid = options.wwid ?? defaultWwid(targetName, options.lun);
    assert(options.sizeBytes % this.blockBytes === 0, 'a disk has whole blocks');
    this.disk = new RamDisk({
      sizeBytes: options.sizeBytes,
      volatileCache: options.writeCache ?? false,
    });
  }

  get blocks(): number {
    return this.disk.sizeBytes / this.blockBytes;
  }
}

function defaultWwid(targetName: string, lun: number): string {
  return `3${createHash('sha256').update(`${targetName} ${lun}`).digest('hex').slice(0, 15)}`;
}
