import type { BlockCapabilities, Extent, IoContext } from '../block/device.ts';
import { OrionError, type Outcome } from '../core/errors.ts';
import type { PathAccess } from '../multipath/access.ts';
import type { PathDevice, UnitAttention } from '../multipath/path.ts';
import type { Lent } from '../wire/lent.ts';

export interface ScriptedOp {
  readonly kind: 'read' | 'write' | 'flush' | 'trim' | 'zeroes' | 'caw' | 'extents' | 'probe';
  readonly offset: number;
  readonly length: number;
  readonly buffer: Buffer;
  readonly resolve: (value?: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export function outcomeError(outcome: Outcome, message = `scripted ${outcome}`): OrionError {
  return new OrionError({ code: 'TEST_SCRIPTED', message, outcome });
}

const NOTHING: Buffer = Buffer.alloc(0);

/** A path whose every I/O waits until the test decides its fate. */
export class ScriptedPath implements PathDevice {
  readonly name: string;
  readonly caps: BlockCapabilities;
  access?: PathAccess;
  /** What is read may be lent, and `lentBytes` of it are. */
  lending = false;
  lentBytes = 0;
  readonly ops: ScriptedOp[] = [];
  #lost: ((cause: Error) => void)[] = [];
  #attention: ((attention: UnitAttention) => void)[] = [];

  constructor(name: string, caps: BlockCapabilities) {
    this.name = name;
    this.caps = caps;
  }

  /** Takes the oldest waiting I/O out of the list. */
  take(): ScriptedOp {
    const op = this.ops.shift();
    if (op === undefined) throw new Error(`nothing was sent to path ${this.name}`);
    return op;
  }

  /** The way breaks: all that waits ends with this outcome. */
  lose(outcome: Outcome = 'unknown'): void {
    const cause = outcomeError(outcome, `path ${this.name} lost`);
    for (const op of this.ops.splice(0)) op.reject(cause);
    for (const fn of this.#lost.splice(0)) fn(cause);
  }

  attention(asc: number, ascq: number): void {
    for (const fn of this.#attention) fn({ asc, ascq, text: `${asc}/${ascq}` });
  }

  /** The device says that it has a volatile cache from now on. */
  cacheSwitchedOn(): void {
    for (const fn of this.#attention) {
      fn({ asc: 0x2a, ascq: 0x01, text: 'cache on', volatileCache: true });
    }
  }

  /** The device says that a write which it had acknowledged has failed since. */
  deferredError(): void {
    for (const fn of this.#attention)
      fn({ asc: 0x0c, ascq: 0, text: 'write error', deferred: true });
  }

  /** The device says that the path is in another access state. */
  accessChanged(access: PathAccess): void {
    this.access = access;
    for (const fn of this.#attention) fn({ asc: 0x2a, ascq: 0x06, text: access.state, access });
  }

  grown(sizeBytes: number): void {
    for (const fn of this.#attention) fn({ asc: 0x2a, ascq: 0x09, text: 'grown', sizeBytes });
  }

  #op(
    kind: ScriptedOp['kind'],
    offset: number,
    length: number,
    buffer = NOTHING,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.ops.push({ kind, offset, length, buffer, resolve, reject });
    });
  }

  read(offset: number, into: Buffer, _io: IoContext): Promise<void> {
    return this.#op('read', offset, into.length, into) as Promise<void>;
  }

  lends(): boolean {
    return this.lending;
  }

  lend(offset: number, length: number, _io: IoContext): Promise<Lent> | null {
    if (!this.lending) return null;
    const bytes = Buffer.alloc(length);
    const giveBack = (): void => {
      this.lentBytes -= length;
    };
    return this.#op('read', offset, length, bytes).then(() => {
      this.lentBytes += length;
      return { bytes, giveBack };
    });
  }

  write(offset: number, from: Buffer, _flags: number, _io: IoContext): Promise<void> {
    return this.#op('write', offset, from.length, from) as Promise<void>;
  }

  flush(_io: IoContext): Promise<void> {
    return this.#op('flush', 0, 0) as Promise<void>;
  }

  trim(offset: number, length: number): Promise<void> {
    return this.#op('trim', offset, length) as Promise<void>;
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    return this.#op('zeroes', offset, length) as Promise<void>;
  }

  extents(offset: number, length: number): Promise<Extent[]> {
    return this.#op('extents', offset, length) as Promise<Extent[]>;
  }

  compareAndWrite(offset: number, _expected: Buffer, replacement: Buffer): Promise<number> {
    return this.#op('caw', offset, replacement.length, replacement) as Promise<number>;
  }

  probe(): Promise<void> {
    return this.#op('probe', 0, 0) as Promise<void>;
  }

  onLost(fn: (cause: Error) => void): void {
    this.#lost.push(fn);
  }

  onUnitAttention(fn: (attention: UnitAttention) => void): void {
    this.#attention.push(fn);
  }

  async close(): Promise<void> {}
}
