/** Writes cpio archives of the "newc" kind, which the Linux kernel unpacks as its first root file system. */

export interface CpioEntry {
  /** Without a slash in front. The directories above must come before it. */
  readonly path: string;
  /** Left out: a directory. */
  readonly data?: Buffer;
  readonly executable?: boolean;
}

const DIRECTORY = 0o040_755;
const FILE = 0o100_644;
const PROGRAM = 0o100_755;
const MAGIC = '070701';
const ALIGN_BYTES = 4;

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % ALIGN_BYTES;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(ALIGN_BYTES - rest)]);
}

function record(inode: number, name: string, mode: number, data: Buffer): Buffer {
  const nameBytes = Buffer.from(`${name}\0`);
  const [uid, gid, links, mtime, device, check] = [0, 0, 1, 0, 0, 0];
  const fields = [
    ...[inode, mode, uid, gid, links, mtime, data.length],
    ...[device, device, device, device, nameBytes.length, check],
  ];
  const header = MAGIC + fields.map((field) => field.toString(16).padStart(8, '0')).join('');
  return Buffer.concat([padded(Buffer.concat([Buffer.from(header), nameBytes])), padded(data)]);
}

export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const records = entries.map(({ path, data, executable }, index) => {
    const mode = data === undefined ? DIRECTORY : executable === true ? PROGRAM : FILE;
    return record(index + 1, path, mode, data ?? Buffer.alloc(0));
  });
  return Buffer.concat([...records, record(0, 'TRAILER!!!', 0, Buffer.alloc(0))]);
}
