import { closeSync, constants, fstatSync, ftruncateSync, openSync } from 'node:fs';
import type { Rng } from '../core/rng.ts';
import type { OfferedRegion, SharedMemory, SharedRegion } from './shared-memory.ts';

/**
 * Shared memory by way of memfd_create(2) and mmap(2): it has no name in any file system, so that nothing is left behind
 * by a process that is killed. The numbers below are Linux' (uapi/linux/memfd.h, fcntl.h and asm-generic/mman-common.h), which
 * are the same on all of its platforms that Node runs on.
 */
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
/** No more seals, no shrinking, no growing: memory that could shrink would end, by SIGBUS, whoever reads behind its end. */
const SEALS = 1 | 2 | 4;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE_FIXED_ANONYMOUS_NORESERVE = 0x02 | 0x10 | 0x20 | 0x4000;
const MAP_FAILED = 2n ** 64n - 1n;

/**
 * The offering process, its file descriptor, and what stands at the beginning of the memory: where the two see different
 * processes under one number (containers), the memory of a third would else be taken for it.
 */
const NAME = /^(\/proc\/[1-9][0-9]{0,9}\/fd\/[0-9]{1,9})#([0-9a-f]{32})$/;
const MARK_BYTES = 16;

interface System {
  memfd_create(name: string, flags: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  mmap(at: bigint, n: bigint, prot: number, flags: number, fd: number, offset: bigint): bigint;
}

type Ffi = typeof import('node:ffi');

/** Node's own FFI, without the warning that it may change: where it has, there is no shared memory, and all else works. */
function loadFfi(): Ffi {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return process.getBuiltinModule('node:ffi') as Ffi;
  } finally {
    process.emitWarning = emitWarning;
  }
}

function loadSystem(ffi: Ffi): System {
  const { functions } = ffi.dlopen(null, {
    memfd_create: { arguments: ['string', 'uint32'], return: 'int32' },
    fcntl: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    mmap: {
      arguments: ['uint64', 'uint64', 'int32', 'int32', 'int32', 'int64'],
      return: 'uint64',
    },
  });
  return functions as unknown as System;
}

class LinuxSharedMemory implements SharedMemory {
  readonly #ffi: Ffi;
  readonly #system: System;
  readonly #rng: Rng;

  constructor(ffi: Ffi, rng: Rng) {
    this.#rng = rng;
    this.#ffi = ffi;
    this.#system = loadSystem(ffi);
  }

  offer(bytes: number): OfferedRegion {
    const fd = this.#system.memfd_create('orion-link', MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) throw new Error('memfd_create failed');
    let open = true;
    const settle = (): void => {
      if (open) closeSync(fd);
      open = false;
    };
    try {
      ftruncateSync(fd, bytes);
      if (this.#system.fcntl(fd, F_ADD_SEALS, SEALS) !== 0) throw new Error('it cannot be sealed');
      const region = this.#map(fd, bytes);
      const mark = region.bytes.subarray(0, MARK_BYTES);
      this.#rng.fill(mark);
      return { ...region, name: `/proc/${process.pid}/fd/${fd}#${mark.toString('hex')}`, settle };
    } catch (error) {
      settle();
      throw error;
    }
  }

  open(name: string, bytes: number): SharedRegion {
    const match = NAME.exec(name);
    if (match === null) throw new Error(`${JSON.stringify(name)} is no shared memory`);
    const fd = openSync(match[1]!, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
    try {
      const { size } = fstatSync(fd);
      if (size !== bytes) throw new Error(`it has ${size} bytes and not ${bytes}`);
      const seals = this.#system.fcntl(fd, F_GET_SEALS, 0);
      if (seals < 0 || (seals & SEALS) !== SEALS) throw new Error('its size is not fixed');
      const region = this.#map(fd, bytes);
      if (region.bytes.toString('hex', 0, MARK_BYTES) === match[2]) return region;
      region.release();
      throw new Error('it is the memory of somebody else');
    } finally {
      closeSync(fd); // the mapping stays
    }
  }

  #map(fd: number, bytes: number): SharedRegion {
    const at = this.#mmap(0n, bytes, MAP_SHARED, fd);
    let shared = true;
    return {
      bytes: this.#ffi.toBuffer(at, bytes, false),
      // Unmapping would turn a forgotten view into a crash. The addresses are lost instead, a few megabytes of 128 TiB.
      release: () => {
        if (shared) this.#mmap(at, bytes, MAP_PRIVATE_FIXED_ANONYMOUS_NORESERVE, -1);
        shared = false;
      },
    };
  }

  #mmap(at: bigint, bytes: number, flags: number, fd: number): bigint {
    const mapped = this.#system.mmap(at, BigInt(bytes), PROT_READ_WRITE, flags, fd, 0n);
    if (mapped === MAP_FAILED) throw new Error(`mmap of ${bytes} bytes failed`);
    return mapped;
  }
}

/** Null where this Node or this system has none. */
export function nodeSharedMemory(rng: Rng): SharedMemory | null {
  if (process.platform !== 'linux') return null;
  try {
    return new LinuxSharedMemory(loadFfi(), rng);
  } catch {
    return null; // an older Node, or one that was forbidden to
  }
}
