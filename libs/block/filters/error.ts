import type { BlockErrno, Outcome } from '../../core/errors.ts';
import type { Rng } from '../../core/rng.ts';
import type { BlockDevice, IoContext } from '../device.ts';
import { blockErrors } from '../errors.ts';
import { type FaultOp, type FaultTarget, faultHits } from './fault.ts';

export interface ErrorOptions extends FaultTarget {
  readonly rng: Rng;
  /** EIO when left out. */
  errno?: BlockErrno;
  /** What the error claims to know of the effect; `final` when left out. The device never sees the I/O. */
  outcome?: Outcome;
}

/** Fails I/O instead of passing it on. See error.md. */
export function errorFilter(next: BlockDevice, options: ErrorOptions): BlockDevice {
  const hit = (op: FaultOp, offset: number, length: number): boolean =>
    faultHits(options, options.rng, op, offset, length);

  const fail = (op: FaultOp, offset: number, length: number): Promise<never> =>
    Promise.reject(
      blockErrors.make('BLOCK_INJECTED', {
        errno: options.errno ?? 'EIO',
        outcome: options.outcome ?? 'final',
        fields: { device: next.name, op, offset, length },
      }),
    );

  return {
    name: next.name,
    get caps() {
      return next.caps;
    },
    read: (offset: number, into: Buffer, io: IoContext) =>
      hit('read', offset, into.length)
        ? fail('read', offset, into.length)
        : next.read(offset, into, io),
    write: (offset: number, from: Buffer, flags: number, io: IoContext) =>
      hit('write', offset, from.length)
        ? fail('write', offset, from.length)
        : next.write(offset, from, flags, io),
    flush: (io: IoContext) => (hit('flush', 0, 0) ? fail('flush', 0, 0) : next.flush(io)),
    trim: (offset: number, length: number, flags: number, io: IoContext) =>
      hit('trim', offset, length)
        ? fail('trim', offset, length)
        : next.trim(offset, length, flags, io),
    writeZeroes: (offset: number, length: number, flags: number, io: IoContext) =>
      hit('zero', offset, length)
        ? fail('zero', offset, length)
        : next.writeZeroes(offset, length, flags, io),
    extents: (offset: number, length: number, io: IoContext) =>
      hit('extents', offset, length)
        ? fail('extents', offset, length)
        : next.extents(offset, length, io),
    compareAndWrite: (offset: number, expected: Buffer, replacement: Buffer, io: IoContext) =>
      hit('compareAndWrite', offset, replacement.length)
        ? fail('compareAndWrite', offset, replacement.length)
        : next.compareAndWrite(offset, expected, replacement, io),
    close: () => next.close(),
  };
}
