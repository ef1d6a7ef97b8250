import type { Clock } from '../../core/clock.ts';
import { OpenSpan, openSpan } from '../../core/trace-channels.ts';
import type { BlockDevice, IoContext } from '../device.ts';

export interface TraceOptions {
  readonly clock: Clock;
  /** Of the stage: "volume", "path", "iscsi". The span is called "<stage> read" and so on. */
  readonly stage: string;
  /** Goes with every span: path, worker, target. */
  readonly attributes?: Readonly<Record<string, string | number | boolean>>;
}

/** Publishes a span for every I/O that is sampled (`io.trace`), and passes all others on untouched. See trace.md. */
export function traceFilter(next: BlockDevice, options: TraceOptions): BlockDevice {
  const { clock, stage, attributes = {} } = options;

  const traced = <T>(
    op: string,
    offset: number,
    length: number,
    io: IoContext,
    run: (io: IoContext) => Promise<T>,
  ): Promise<T> => {
    const trace = io.trace!;
    const name = `${stage} ${op}`;
    // A sampler's identity is that of the first span itself; an open span is the parent of this one.
    const span = !(trace instanceof OpenSpan)
      ? new OpenSpan(name, { ...trace, parentSpanId: '' }, clock.nowMs())
      : openSpan(name, trace, clock.nowMs());
    const place = { ...attributes, 'orion.offset': offset, 'orion.length': length };
    const result = run({ ...io, trace: span });
    result.then(
      () => span.end(clock.nowMs(), place),
      (error) =>
        span.end(clock.nowMs(), place, error instanceof Error ? error.message : `${error}`),
    );
    return result;
  };

  return {
    name: next.name,
    get caps() {
      return next.caps;
    },
    read: (offset, into, io) =>
      io.trace === undefined
        ? next.read(offset, into, io)
        : traced('read', offset, into.length, io, (inner) => next.read(offset, into, inner)),
    // What is traced is read.
    lend: (offset, length, io) =>
      io.trace === undefined ? (next.lend?.(offset, length, io) ?? null) : null,
    write: (offset, from, flags, io) =>
      io.trace === undefined
        ? next.write(offset, from, flags, io)
        : traced('write', offset, from.length, io, (inner) =>
            next.write(offset, from, flags, inner),
          ),
    flush: (io) =>
      io.trace === undefined
        ? next.flush(io)
        : traced('flush', 0, 0, io, (inner) => next.flush(inner)),
    trim: (offset, length, flags, io) =>
      io.trace === undefined
        ? next.trim(offset, length, flags, io)
        : traced('trim', offset, length, io, (inner) => next.trim(offset, length, flags, inner)),
    writeZeroes: (offset, length, flags, io) =>
      io.trace === undefined
        ? next.writeZeroes(offset, length, flags, io)
        : traced('zero', offset, length, io, (inner) =>
            next.writeZeroes(offset, length, flags, inner),
          ),
    extents: (offset, length, io) => next.extents(offset, length, io),
    compareAndWrite: (offset, expected, replacement, io) =>
      io.trace === undefined
        ? next.compareAndWrite(offset, expected, replacement, io)
        : traced('compare-and-write', offset, replacement.length, io, (inner) =>
            next.compareAndWrite(offset, expected, replacement, inner),
          ),
    close: () => next.close(),
  };
}
