import {
  type LogicalUnit,
  PHYSICAL_BLOCK_BYTES,
  TRANSFER_BYTES_MAX,
  UNMAP_BYTES_MAX,
  UNMAP_DESCRIPTORS_MAX,
  WRITE_SAME_BYTES_MAX,
} from '../logical-unit.ts';
import { CHUNK_BYTES } from '../ram-disk.ts';
import { Sense } from '../scsi-codes.ts';
import type { ScsiTask } from '../scsi-task.ts';
import { u16 } from './command.ts';
import { compareBlocksMax } from './read-write.ts';

const VENDOR = 'ORION';
const PRODUCT = 'RAM DISK';
const REVISION = '0001';

const DISK = 0x00;
/** Peripheral qualifier 011b, type 1Fh: no unit of this number (SPC-4 6.6.2). */
const NO_UNIT = 0x7f;

/** SAM-5, iSCSI, SPC-4, SBC-3: no version claimed of each (SPC-4 table 143). */
const VERSION_DESCRIPTORS = [0x00a0, 0x0960, 0x0460, 0x04c0];

const OPTIMAL_TRANSFER_BYTES = 1024 * 1024;

type Page = (lu: LogicalUnit, task: ScsiTask) => Buffer;

/** Vital product data pages, without their 4-byte headers. */
const PAGES: ReadonlyMap<number, Page> = new Map<number, Page>([
  [0x00, () => Buffer.from([...PAGES.keys()])],
  [0x80, (lu) => Buffer.from(lu.wwid, 'ascii')],
  [0x83, identification],
  [0xb0, blockLimits],
  [0xb1, characteristics],
  [0xb2, provisioning],
]);

/** INQUIRY: SPC-4 6.6. Works without a unit too. */
export function inquiry(task: ScsiTask): void {
  const { cdb, lu } = task;
  const allocationLength = u16(cdb, 3);
  const vital = (cdb[1]! & 0x01) !== 0;
  if ((cdb[1]! & 0xfe) !== 0 || (!vital && cdb[2] !== 0)) return task.fail(Sense.invalidField);
  if (!vital) return task.answer(standard(lu), allocationLength);
  const page = PAGES.get(cdb[2]!);
  if (lu === null || page === undefined) return task.fail(Sense.invalidField);
  const body = page(lu, task);
  const header = Buffer.from([DISK, cdb[2]!, body.length >> 8, body.length & 0xff]);
  task.answer(Buffer.concat([header, body]), allocationLength);
}

function standard(lu: LogicalUnit | null): Buffer {
  const data = Buffer.alloc(96);
  data[0] = lu === null ? NO_UNIT : DISK;
  data[2] = 0x06; // SPC-4
  data[3] = 0x12; // HISUP, response data format 2
  data[4] = data.length - 5;
  data[7] = 0x02; // CMDQUE
  data.write(VENDOR.padEnd(8), 8, 'ascii');
  data.write(PRODUCT.padEnd(16), 16, 'ascii');
  data.write(REVISION.padEnd(4), 32, 'ascii');
  VERSION_DESCRIPTORS.forEach((version, i) => void data.writeUInt16BE(version, 58 + 2 * i));
  return data;
}

function designator(codeSet: number, association: number, type: number, id: Buffer): Buffer {
  // Association 1 (target port) carries the protocol, iSCSI (SPC-4 7.8.6).
  const isPort = association !== 0;
  const first = isPort ? 0x50 | codeSet : codeSet;
  const second = (isPort ? 0x80 : 0) | (association << 4) | type;
  return Buffer.concat([Buffer.from([first, second, 0, id.length]), id]);
}

function identification(lu: LogicalUnit, task: ScsiTask): Buffer {
  const { tpgt } = task.nexus;
  const port = Buffer.from([0, 0, tpgt >> 8, tpgt & 0xff]);
  const portName = `${lu.targetName},t,0x${tpgt.toString(16).padStart(4, '0')}\0`;
  const padded = Buffer.alloc((portName.length + 3) & ~3);
  padded.write(portName, 'utf8');
  return Buffer.concat([
    designator(1, 0, 3, Buffer.from(lu.wwid, 'hex')), // NAA
    designator(2, 0, 1, Buffer.from(`${VENDOR.padEnd(8)}${lu.wwid}`, 'ascii')), // T10 vendor id
    designator(1, 1, 4, port), // relative target port
    designator(1, 1, 5, port), // target port group
    designator(3, 1, 8, padded), // SCSI name string
  ]);
}

function blockLimits(lu: LogicalUnit): Buffer {
  const blocksOf = (bytes: number): number => bytes / lu.blockBytes;
  const page = Buffer.alloc(0x3c);
  page[1] = compareBlocksMax(lu);
  page.writeUInt16BE(blocksOf(PHYSICAL_BLOCK_BYTES), 2);
  page.writeUInt32BE(blocksOf(TRANSFER_BYTES_MAX), 4);
  page.writeUInt32BE(blocksOf(OPTIMAL_TRANSFER_BYTES), 8);
  page.writeUInt32BE(blocksOf(UNMAP_BYTES_MAX), 16);
  page.writeUInt32BE(UNMAP_DESCRIPTORS_MAX, 20);
  page.writeUInt32BE(blocksOf(CHUNK_BYTES), 24);
  page.writeUInt32BE(0x80000000, 28); // the alignment, 0, is valid
  page.writeBigUInt64BE(BigInt(blocksOf(WRITE_SAME_BYTES_MAX)), 32);
  return page;
}

function characteristics(): Buffer {
  const page = Buffer.alloc(0x3c);
  page.writeUInt16BE(1, 0); // does not rotate
  return page;
}

function provisioning(): Buffer {
  // LBPU, LBPWS, LBPWS10, LBPRZ; thin.
  return Buffer.from([0, 0x80 | 0x40 | 0x20 | 0x04, 0x02, 0]);
}
