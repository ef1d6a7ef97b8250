import { type HrTime, ValueType } from '@opentelemetry/api';
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  type CollectionResult,
  DataPointType,
  type MetricData,
  type MetricDescriptor,
  type MetricProducer,
} from '@opentelemetry/sdk-metrics';
import { assert } from '../core/assert.ts';
import type { Clock } from '../core/clock.ts';
import { Histogram, LATENCY_BOUNDS_SECONDS } from '../core/histogram.ts';

/** Label sets that one metric may have. The next ones share a single series whose labels say "other". */
const SERIES_MAX = 512;

/** Metrics of one registry; they come from code, so more is a bug. */
const METRICS_MAX = 256;

const NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const OTHER = 'other';

export type Labels = Readonly<Record<string, string>>;

/** A plain number. The hot path does `counter.value += 1`; nothing else happens until a scrape. */
export interface Counter {
  value: number;
}

/** One value with its labels, for metrics that are read from numbers which live elsewhere. */
export interface Sample {
  readonly labels?: Labels;
  readonly value: number;
}

export interface HistogramSample {
  readonly labels?: Labels;
  readonly histogram: Histogram;
}

/** Called at scrape time. A number is a metric without labels. */
export type Reader = () => number | Iterable<Sample>;

type Kind = 'counter' | 'gauge' | 'histogram';

interface Series<T> {
  readonly labels: Labels;
  readonly held: T;
}

/** Label sets of one metric, bounded. */
class SeriesTable<T> {
  readonly #series = new Map<string, Series<T>>();

  get(labels: Labels, make: () => T): T {
    const names = Object.keys(labels).sort();
    const key = names.map((name) => `${name}=${labels[name]}`).join('\n');
    const known = this.#series.get(key);
    if (known !== undefined) return known.held;
    if (this.#series.size >= SERIES_MAX && names.some((name) => labels[name] !== OTHER)) {
      return this.get(Object.fromEntries(names.map((name) => [name, OTHER])), make);
    }
    for (const name of names) assert(NAME.test(name), `label name ${name}`);
    const held = make();
    this.#series.set(key, { labels: { ...labels }, held });
    return held;
  }

  values(): Iterable<Series<T>> {
    return this.#series.values();
  }
}

interface Metric {
  readonly kind: Kind;
  readonly help: string;
  readonly counters: SeriesTable<Counter>;
  readonly histograms: SeriesTable<Histogram>;
  readonly readers: Reader[];
  readonly histogramReaders: (() => Iterable<HistogramSample>)[];
}

/**
 * Every metric of a process. Instruments are plain numbers that cost nothing on the hot path; what an exporter wants
 * is built when it asks. It is an OpenTelemetry MetricProducer, so the same numbers go to Prometheus (`prometheus()`)
 * or, through any OpenTelemetry reader, over OTLP. Asking for a name again gives the same metric: NBD and HTTP share
 * `orion_requests_total` and differ in its labels.
 */
export class MetricsRegistry implements MetricProducer {
  readonly #clock: Clock;
  readonly #startTime: HrTime;
  readonly #metrics = new Map<string, Metric>();
  readonly #serializer = new PrometheusSerializer(undefined, false, undefined, true, true);

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startTime = hrTime(clock.wallMs());
  }

  /** The counter for these labels; its name ends in `_total`. */
  counter(name: string, help: string, labels: Labels = {}): Counter {
    assert(name.endsWith('_total'), `counter ${name} ends in _total`);
    return this.#metric('counter', name, help).counters.get(labels, () => ({ value: 0 }));
  }

  /** A counter whose numbers live elsewhere: `read` gives them at scrape time. */
  counterFrom(name: string, help: string, read: Reader): void {
    assert(name.endsWith('_total'), `counter ${name} ends in _total`);
    this.#metric('counter', name, help).readers.push(read);
  }

  gauge(name: string, help: string, read: Reader): void {
    this.#metric('gauge', name, help).readers.push(read);
  }

  histogram(
    name: string,
    help: string,
    labels: Labels = {},
    bounds: readonly number[] = LATENCY_BOUNDS_SECONDS,
  ): Histogram {
    const metric = this.#metric('histogram', name, help);
    return metric.histograms.get(labels, () => new Histogram(bounds));
  }

  /** A histogram that lives elsewhere, as in the stats filter of a volume. */
  histogramFrom(name: string, help: string, read: () => Iterable<HistogramSample>): void {
    this.#metric('histogram', name, help).histogramReaders.push(read);
  }

  /** Text exposition format 0.0.4. */
  prometheus(): string {
    const { resourceMetrics } = this.#collect();
    // An empty metric would be a family without samples: legal, and of no use to anybody.
    for (const scope of resourceMetrics.scopeMetrics) {
      scope.metrics = scope.metrics.filter((metric) => metric.dataPoints.length > 0);
    }
    const text = this.#serializer.serialize(resourceMetrics);
    return text.endsWith('\n') ? text : `${text}\n`;
  }

  collect(): Promise<CollectionResult> {
    return Promise.resolve(this.#collect());
  }

  #collect(): CollectionResult {
    const endTime = hrTime(this.#clock.wallMs());
    const errors: unknown[] = [];
    const metrics: MetricData[] = [];
    for (const [name, metric] of this.#metrics) {
      try {
        metrics.push(this.#data(name, metric, endTime));
      } catch (error) {
        // One reader that throws must not cost the operator all other numbers.
        errors.push(error);
      }
    }
    return {
      resourceMetrics: {
        resource: resourceFromAttributes({}),
        scopeMetrics: [{ scope: { name: 'orion-iscsi' }, metrics }],
      },
      errors,
    };
  }

  #metric(kind: Kind, name: string, help: string): Metric {
    const known = this.#metrics.get(name);
    if (known !== undefined) {
      assert(known.kind === kind, `metric ${name} is a ${known.kind}`);
      return known;
    }
    assert(NAME.test(name), `metric name ${name}`);
    assert(this.#metrics.size < METRICS_MAX, 'too many metrics');
    const metric: Metric = {
      kind,
      help,
      counters: new SeriesTable(),
      histograms: new SeriesTable(),
      readers: [],
      histogramReaders: [],
    };
    this.#metrics.set(name, metric);
    return metric;
  }

  #data(name: string, metric: Metric, endTime: HrTime): MetricData {
    const descriptor: MetricDescriptor = {
      name,
      description: metric.help,
      unit: '',
      valueType: ValueType.DOUBLE,
    };
    const base = { descriptor, aggregationTemporality: AggregationTemporality.CUMULATIVE };
    const point = <T>(labels: Labels, value: T) => ({
      startTime: this.#startTime,
      endTime,
      attributes: labels,
      value,
    });
    if (metric.kind === 'histogram') {
      const all = [...heldHistograms(metric)];
      return {
        ...base,
        dataPointType: DataPointType.HISTOGRAM,
        dataPoints: all.map(({ labels, histogram }) =>
          point(labels ?? {}, histogramValue(histogram)),
        ),
      };
    }
    const dataPoints = samplesOf(metric).map(({ labels, value }) => point(labels ?? {}, value));
    return metric.kind === 'counter'
      ? { ...base, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints }
      : { ...base, dataPointType: DataPointType.GAUGE, dataPoints };
  }
}

/** Everything a counter or gauge has, once per label set: several readers may report the same one. */
function samplesOf(metric: Metric): Sample[] {
  const merged = new SeriesTable<Counter>();
  const add = (labels: Labels, value: number): void => {
    merged.get(labels, () => ({ value: 0 })).value += value;
  };
  for (const { labels, held } of metric.counters.values()) add(labels, held.value);
  for (const read of metric.readers) {
    const found = read();
    if (typeof found === 'number') add({}, found);
    else for (const sample of found) add(sample.labels ?? {}, sample.value);
  }
  return [...merged.values()].map(({ labels, held }) => ({ labels, value: held.value }));
}

function* heldHistograms(metric: Metric): Iterable<HistogramSample> {
  for (const { labels, held } of metric.histograms.values()) yield { labels, histogram: held };
  for (const read of metric.histogramReaders) yield* read();
}

function histogramValue(histogram: Histogram) {
  return {
    buckets: { boundaries: [...histogram.bounds], counts: [...histogram.counts] },
    sum: histogram.sum,
    count: histogram.count,
  };
}

function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}
