import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { type CpioEntry, cpioArchive } from './cpio.ts';
import { check } from './process.ts';
import { findCommand, missingReason } from './tools.ts';

/**
 * A kernel with LIO and a root file system for it, made of Debian packages. Built once (a download of some 30 MB) and
 * kept in the user's cache directory, under the kernel's version and a digest of what else goes into it.
 */
export interface LioImage {
  readonly kernel: string;
  readonly initrd: string;
  readonly version: string;
}

/** The kernel for virtual machines: a third of the size, and unpacked faster than the other. */
const KERNEL_META = 'linux-image-cloud-amd64';
const SHELL_PACKAGE = 'busybox-static';
const KERNEL_NAME = /^\s*Depends: (linux-image-(\d\S+-cloud-amd64))$/m;

/** What is loaded, after what each of them needs. What a kernel has built in is left out. */
const MODULES = [
  'virtio_pci',
  'virtio_net',
  'configfs',
  'crc32c_generic',
  'crc32c_intel',
  'sha3_generic',
  'target_core_mod',
  'target_core_file',
  'iscsi_target_mod',
];
/** Without these there is no target. */
const NEEDED = ['virtio_net', 'target_core_file', 'iscsi_target_mod'];

const DIRECTORIES = ['bin', 'dev', 'disks', 'modules', 'proc', 'sys', 'var', 'var/target'];
const REASON_CHARS_MAX = 300;
const DOWNLOAD_MS_MAX = 300_000;

const INIT = join(import.meta.dirname, 'lio-init.sh');

/** Changes with everything that the image is made of, but for the packages. */
function recipe(): string {
  const hash = createHash('sha256');
  for (const file of [INIT, import.meta.filename, join(import.meta.dirname, 'cpio.ts')]) {
    hash.update(readFileSync(file));
  }
  return hash.digest('hex').slice(0, 12);
}

function cacheDirectory(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'orion-iscsi', 'lio');
}

/** Why LIO cannot be started here, or null. Builds the image when there is none, so the first call takes a while. */
export async function whyNoLio(): Promise<string | null> {
  const missing = missingReason(['qemu-system-x86_64']);
  if (missing !== null) return missing;
  try {
    await lioImage();
    return null;
  } catch (error) {
    const words = (error as Error).message.split(/\s+/).join(' ').slice(0, REASON_CHARS_MAX);
    return `needs a kernel with LIO, and could not make one: ${words}`;
  }
}

let image: Promise<LioImage> | null = null;

export function lioImage(): Promise<LioImage> {
  image ??= findOrBuild(cacheDirectory());
  return image;
}

async function findOrBuild(cache: string): Promise<LioImage> {
  const suffix = `+${recipe()}`;
  const at = (name: string): LioImage => ({
    kernel: join(cache, name, 'vmlinuz'),
    initrd: join(cache, name, 'initrd'),
    version: name.slice(0, -suffix.length),
  });
  const find = () =>
    existsSync(cache) ? readdirSync(cache).find((name) => name.endsWith(suffix)) : undefined;
  const found = find();
  if (found !== undefined) return at(found);
  for (const tool of ['apt-get', 'apt-cache', 'dpkg-deb']) {
    if (findCommand(tool) === null) throw new Error(`${tool} is not here, so this is not Debian`);
  }
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, 'new-'));
  try {
    const version = await build(work);
    // Another process may have been faster: its image is as good.
    if (find() === undefined) renameSync(join(work, 'image'), join(cache, version + suffix));
    return at(version + suffix);
  } catch (error) {
    const late = find();
    if (late !== undefined) return at(late);
    throw error;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Makes DIRECTORY/image, and returns the version of its kernel. */
async function build(directory: string): Promise<string> {
  const { kernelPackage, version } = await download(directory);
  const root = join(directory, 'root');
  for (const name of readdirSync(directory).filter((file) => file.endsWith('.deb'))) {
    await check('dpkg-deb', ['-x', join(directory, name), root]);
  }
  const image = join(directory, 'image');
  mkdirSync(image);
  const kernel = join(root, 'boot', `vmlinuz-${version}`);
  if (!existsSync(kernel)) throw new Error(`${kernelPackage} has no ${basename(kernel)}`);
  renameSync(kernel, join(image, 'vmlinuz'));
  const shell = ['bin/busybox', 'usr/bin/busybox']
    .map((path) => join(root, path))
    .find((path) => existsSync(path));
  if (shell === undefined) throw new Error(`${SHELL_PACKAGE} has no busybox`);
  const modules = modulesInOrder(join(root, 'lib/modules', version));
  writeFileSync(
    join(image, 'initrd'),
    cpioArchive([
      ...DIRECTORIES.map((path) => ({ path })),
      { path: 'init', data: readFileSync(INIT), executable: true },
      { path: 'bin/busybox', data: readFileSync(shell), executable: true },
      ...modules,
    ]),
  );
  return version;
}

/** Fetches the packages. Package lists of one's own, when those of the system are missing or too old. */
async function download(directory: string): Promise<{ kernelPackage: string; version: string }> {
  const fetch = async (options: readonly string[]) => {
    const shown = await check('apt-cache', [...options, 'depends', KERNEL_META]);
    const match = KERNEL_NAME.exec(shown);
    if (match === null) throw new Error(`${KERNEL_META} is not known to apt`);
    const [, kernelPackage, version] = match;
    await check('apt-get', [...options, '-qq', 'download', kernelPackage!, SHELL_PACKAGE], {
      cwd: directory,
      timeoutMs: DOWNLOAD_MS_MAX,
    });
    return { kernelPackage: kernelPackage!, version: version! };
  };
  try {
    return await fetch([]);
  } catch {
    const own = ['-o', `Dir::State::lists=${directory}/lists`, '-o', `Dir::Cache=${directory}/apt`];
    for (const path of ['lists/partial', 'apt/archives/partial']) {
      mkdirSync(join(directory, path), { recursive: true });
    }
    await check('apt-get', [...own, '-qq', 'update'], { timeoutMs: DOWNLOAD_MS_MAX });
    return fetch(own);
  }
}

/** The modules and a file "modules/order" that names them, each after those that it depends on. */
function modulesInOrder(directory: string): CpioEntry[] {
  const files = new Map<string, string>();
  for (const path of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    if (path.endsWith('.ko')) files.set(moduleName(basename(path, '.ko')), join(directory, path));
  }
  const entries = new Map<string, CpioEntry>();
  const add = (wanted: string): void => {
    const name = moduleName(wanted);
    const path = files.get(name);
    if (path === undefined || entries.has(name)) return;
    const data = readFileSync(path);
    for (const needed of dependencies(data)) add(needed);
    entries.set(name, { path: `modules/${name}.ko`, data });
  };
  for (const name of MODULES) add(name);
  const absent = NEEDED.filter((name) => !entries.has(name));
  if (absent.length > 0) throw new Error(`the kernel has no module ${absent.join(', ')}`);
  const order = [...entries.keys()].map((name) => `${name}\n`).join('');
  return [...entries.values(), { path: 'modules/order', data: Buffer.from(order) }];
}

/** Files have a dash in their name where the kernel has an underscore. */
function moduleName(name: string): string {
  return name.replaceAll('-', '_');
}

/** A module tells in its section .modinfo, as "depends=a,b" between zero bytes. */
function dependencies(data: Buffer): string[] {
  const match = /\0depends=([^\0]*)\0/.exec(data.toString('latin1'));
  return (match?.[1] ?? '').split(',').filter((name) => name !== '');
}
