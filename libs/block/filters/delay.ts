import { type Clock, sleep } from '../../core/clock.ts';
import type { Rng } from '../../core/rng.ts';
import type { BlockDevice, IoContext } from '../device.ts';
import { type FaultOp, type FaultTarget, faultHits } from './fault.ts';

export interface DelayOptions extends FaultTarget {
  readonly clock: Clock;
  readonly rng: Rng;
  delayMs: number;
  /** A random part in [0, jitterMs) on top. */
  jitterMs?: number;
}

/** Holds I/O back before the device sees it. See delay.md. */
export function delayFilter(next: BlockDevice, options: DelayOptions): BlockDevice {
  const { clock, rng } = options;

  // Not cut short by the caller's abort signal: a slow device would not be either, and a buffer belongs to the
  // device until the promise settles.
  const late = <T>(
    op: FaultOp,
    offset: number,
    length: number,
    call: () => Promise<T>,
  ): Promise<T> => {
    if (!faultHits(options, rng, op, offset, length)) return call();
    const jitterMs = options.jitterMs ?? 0;
    const delayMs = options.delayMs + (jitterMs > 0 ? rng.float() * jitterMs : 0);
    return sleep(clock, delayMs).then(call);
  };

  return {
    name: next.name,
    get caps() {
      return next.caps;
    },
    read: (offset: number, into: Buffer, io: IoContext) =>
      late('read', offset, into.length, () => next.read(offset, into, io)),
    write: (offset: number, from: Buffer, flags: number, io: IoContext) =>
      late('write', offset, from.length, () => next.write(offset, from, flags, io)),
    flush: (io: IoContext) => late('flush', 0, 0, () => next.flush(io)),
    trim: (offset: number, length: number, flags: number, io: IoContext) =>
      late('trim', offset, length, () => next.trim(offset, length, flags, io)),
    writeZeroes: (offset: number, length: number, flags: number, io: IoContext) =>
      late('zero', offset, length, () => next.writeZeroes(offset, length, flags, io)),
    extents: (offset: number, length: number, io: IoContext) =>
      late('extents', offset, length, () => next.extents(offset, length, io)),
    compareAndWrite: (offset: number, expected: Buffer, replacement: Buffer, io: IoContext) =>
      late('compareAndWrite', offset, replacement.length, () =>
        next.compareAndWrite(offset, expected, replacement, io),
      ),
    close: () => next.close(),
  };
}
