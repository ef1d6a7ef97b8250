import type { Histogram } from '../core/histogram.ts';
import type { MetricsRegistry, Sample } from './metrics.ts';

/** One direction of a volume's I/O, as the stats filter (block/filters/stats.ts) counts it. */
interface DirectionCounters {
  readonly ops: number;
  readonly bytes: number;
  readonly errors: number;
  readonly seconds: Histogram;
}

export interface VolumeCounters {
  readonly volume: string;
  readonly counters: { readonly read: DirectionCounters; readonly write: DirectionCounters };
}

const DIRECTIONS = ['read', 'write'] as const;

/** Exports the counters of every volume that `volumes` names at scrape time. */
export function registerVolumeMetrics(
  registry: MetricsRegistry,
  volumes: () => Iterable<VolumeCounters>,
): void {
  for (const direction of DIRECTIONS) {
    const prefix = `orion_volume_${direction}`;
    const sum = (pick: (counters: DirectionCounters) => number) =>
      function* (): Iterable<Sample> {
        for (const { volume, counters } of volumes()) {
          yield { labels: { volume }, value: pick(counters[direction]) };
        }
      };
    registry.counterFrom(
      `${prefix}_ops_total`,
      `Finished ${direction}s of a volume`,
      sum((c) => c.ops),
    );
    registry.counterFrom(
      `${prefix}_bytes_total`,
      `Bytes of successful ${direction}s of a volume`,
      sum((c) => c.bytes),
    );
    registry.counterFrom(
      `${prefix}_errors_total`,
      `Failed ${direction}s of a volume`,
      sum((c) => c.errors),
    );
    registry.histogramFrom(
      `${prefix}_seconds`,
      `Time that a ${direction} of a volume took`,
      function* () {
        for (const { volume, counters } of volumes()) {
          yield { labels: { volume }, histogram: counters[direction].seconds };
        }
      },
    );
  }
}
