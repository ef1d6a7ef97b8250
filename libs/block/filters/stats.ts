import type { Clock } from '../../core/clock.ts';
import { Histogram } from '../../core/histogram.ts';
import type { BlockDevice, IoContext } from '../device.ts';

/** Counts of one kind of I/O. Plain numbers, read when somebody wants them. */
export interface OpCounters {
  /** Finished, failed ones too. */
  ops: number;
  /** Of those that succeeded. */
  bytes: number;
  errors: number;
  inflight: number;
  readonly seconds: Histogram;
}

const OPS = ['read', 'write', 'flush', 'trim', 'zero', 'compareAndWrite', 'extents'] as const;
export type StatsOp = (typeof OPS)[number];
export type DeviceCounters = Readonly<Record<StatsOp, OpCounters>>;

/** A device that counts. */
export interface StatsDevice extends BlockDevice {
  readonly counters: DeviceCounters;
}

export interface StatsOptions {
  readonly clock: Clock;
}

/** Counts what passes, by kind, with a latency histogram each. See stats.md. */
export function statsFilter(next: BlockDevice, options: StatsOptions): StatsDevice {
  const { clock } = options;
  const counters = Object.fromEntries(
    OPS.map((op) => [
      op,
      { ops: 0, bytes: 0, errors: 0, inflight: 0, seconds: new Histogram() } satisfies OpCounters,
    ]),
  ) as unknown as DeviceCounters;

  // Watches the promise from the side and passes it on unchanged, so that the layer above waits for no extra turn.
  const count = <T>(op: OpCounters, bytes: number, result: Promise<T>): Promise<T> => {
    const startMs = clock.nowMs();
    op.inflight += 1;
    const settle = (failed: number): void => {
      op.inflight -= 1;
      op.ops += 1;
      op.errors += failed;
      op.seconds.observe((clock.nowMs() - startMs) / 1000);
    };
    void result.then(
      () => {
        op.bytes += bytes;
        settle(0);
      },
      () => settle(1),
    );
    return result;
  };

  return {
    name: next.name,
    get caps() {
      return next.caps;
    },
    counters,
    read: (offset: number, into: Buffer, io: IoContext) =>
      count(counters.read, into.length, next.read(offset, into, io)),
    lend: (offset: number, length: number, io: IoContext) => {
      const lent = next.lend?.(offset, length, io) ?? null;
      return lent === null ? null : count(counters.read, length, lent);
    },
    write: (offset: number, from: Buffer, flags: number, io: IoContext) =>
      count(counters.write, from.length, next.write(offset, from, flags, io)),
    flush: (io: IoContext) => count(counters.flush, 0, next.flush(io)),
    trim: (offset: number, length: number, flags: number, io: IoContext) =>
      count(counters.trim, length, next.trim(offset, length, flags, io)),
    writeZeroes: (offset: number, length: number, flags: number, io: IoContext) =>
      count(counters.zero, length, next.writeZeroes(offset, length, flags, io)),
    extents: (offset: number, length: number, io: IoContext) =>
      count(counters.extents, 0, next.extents(offset, length, io)),
    compareAndWrite: (offset: number, expected: Buffer, replacement: Buffer, io: IoContext) =>
      count(
        counters.compareAndWrite,
        replacement.length,
        next.compareAndWrite(offset, expected, replacement, io),
      ),
    close: () => next.close(),
  };
}
