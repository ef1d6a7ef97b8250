import { assert } from '../core/assert.ts';

const CLASS_BYTES_MIN = 4 * 1024;
const CLASS_BYTES_MAX = 2 * 1024 * 1024;

/** Free buffers that a pool keeps, over all classes; what is given back beyond it goes to the collector. */
const KEPT_BYTES_MAX = 128 * 1024 * 1024;

function classOf(bytes: number): number {
  return bytes <= CLASS_BYTES_MIN ? 0 : 32 - Math.clz32((bytes - 1) >>> 12);
}

const CLASSES = classOf(CLASS_BYTES_MAX) + 1;

/**
 * Buffers by power-of-two size class, with explicit ownership: whoever takes one gives it back exactly once.
 * A fresh megabyte costs 256 page faults, which dominate large I/O; a pooled one costs none.
 * Contents are whatever was there before: the taker overwrites all of what it shows to anybody.
 */
export class BufferPool {
  readonly #free: Buffer[][] = Array.from({ length: CLASSES }, () => []);
  #keptBytes = 0;
  #takenBytes = 0;
  #checked: Set<ArrayBufferLike> | null = null;

  constructor(options: { readonly checkOwnership?: boolean } = {}) {
    if (options.checkOwnership === true) this.#checked = new Set();
  }

  /** Bytes that are out; back to its start value when everything was given back. */
  get takenBytes(): number {
    return this.#takenBytes;
  }

  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** A buffer of exactly `bytes` bytes. */
  take(bytes: number): Buffer {
    const index = classOf(bytes);
    if (index >= CLASSES) {
      this.#takenBytes += bytes;
      const big = Buffer.allocUnsafeSlow(bytes);
      this.#checked?.add(big.buffer);
      return big;
    }
    const classBytes = CLASS_BYTES_MIN << index;
    let buffer = this.#free[index]!.pop();
    if (buffer === undefined) buffer = Buffer.allocUnsafeSlow(classBytes);
    else this.#keptBytes -= classBytes;
    this.#takenBytes += classBytes;
    this.#checked?.add(buffer.buffer);
    return bytes === classBytes ? buffer : buffer.subarray(0, bytes);
  }

  /** Gives back what `take` returned. The giver must not touch it again. */
  give(buffer: Buffer): void {
    const classBytes = buffer.buffer.byteLength;
    if (this.#checked !== null) {
      assert(this.#checked.delete(buffer.buffer), 'a pooled buffer is given back once');
    }
    this.#takenBytes -= classBytes;
    if (classBytes > CLASS_BYTES_MAX || this.#keptBytes + classBytes > KEPT_BYTES_MAX) return;
    this.#keptBytes += classBytes;
    const whole = buffer.length === classBytes ? buffer : Buffer.from(buffer.buffer, 0, classBytes);
    this.#free[classOf(classBytes)]!.push(whole);
  }
}

/** The pool of this process: front doors take from it, and give back when a reply has left. */
export const sharedPool = new BufferPool();
