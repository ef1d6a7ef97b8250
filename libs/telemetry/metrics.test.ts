import { describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../core/clock.ts';
import { Histogram } from '../core/histogram.ts';
import { MetricsRegistry } from './metrics.ts';
import { registerProcessMetrics } from './process-metrics.ts';
import { parsePrometheus } from './prometheus-text.ts';
import { registerVolumeMetrics } from './volume-metrics.ts';

const clock: Clock = { ...systemClock, wallMs: () => 1_700_000_000_123.4 };

function scrape(registry: MetricsRegistry) {
  return parsePrometheus(registry.prometheus());
}

describe('the metrics registry', () => {
  test('counters are plain numbers until somebody asks', () => {
    const registry = new MetricsRegistry(clock);
    const nbd = registry.counter('orion_requests_total', 'Requests', { proto: 'nbd', op: 'read' });
    registry.counter('orion_requests_total', 'Requests', { proto: 'http', op: 'read' }).value = 2;
    nbd.value += 1;
    nbd.value += 4;
    expect(registry.counter('orion_requests_total', 'x', { op: 'read', proto: 'nbd' })).toBe(nbd);
    expect(scrape(registry).get('orion_requests_total')).toEqual({
      name: 'orion_requests_total',
      type: 'counter',
      help: 'Requests',
      samples: [
        { name: 'orion_requests_total', labels: { proto: 'nbd', op: 'read' }, value: 5 },
        { name: 'orion_requests_total', labels: { proto: 'http', op: 'read' }, value: 2 },
      ],
    });
  });

  test('label values may hold anything', () => {
    const registry = new MetricsRegistry(clock);
    const volume = 'a"b\\c\nd,e={}';
    registry.counter('x_total', 'with a \\ in the help', { volume }).value = 1;
    const [sample] = scrape(registry).get('x_total')!.samples;
    expect(sample!.labels.volume).toBe('a\\"b\\\\c\\nd,e={}');
  });

  test('gauges and foreign counters are read at scrape time, and equal labels are added up', () => {
    const registry = new MetricsRegistry(clock);
    let inflight = 1;
    registry.gauge('orion_inflight', 'Under way', () => [
      { labels: { proto: 'nbd' }, value: inflight },
    ]);
    registry.gauge('orion_inflight', 'Under way', () => [
      { labels: { proto: 'http' }, value: 7 },
      { labels: { proto: 'nbd' }, value: 10 },
    ]);
    registry.counterFrom('orion_bytes_total', 'Bytes', () => 3);
    inflight = 2;
    const values = scrape(registry)
      .get('orion_inflight')!
      .samples.map(({ value }) => value);
    expect(values).toEqual([12, 7]);
    expect(scrape(registry).get('orion_bytes_total')!.samples[0]!.value).toBe(3);
  });

  test('histograms have cumulative buckets that end at their count', () => {
    const registry = new MetricsRegistry(clock);
    const histogram = registry.histogram('orion_request_seconds', 'Time', { op: 'read' }, [1, 2]);
    for (const value of [0.5, 1, 1.5, 3]) histogram.observe(value);
    const samples = scrape(registry).get('orion_request_seconds')!.samples;
    expect(samples.map(({ labels, value }) => [labels.le, value])).toEqual([
      [undefined, 4],
      [undefined, 6],
      ['1', 2],
      ['2', 3],
      ['+Inf', 4],
    ]);
  });

  test('label sets are bounded: the rest shares one series', () => {
    const registry = new MetricsRegistry(clock);
    for (let i = 0; i < 2000; i++) {
      registry.counter('x_total', 'X', { volume: `v${i}`, op: 'r' }).value += 1;
    }
    const { samples } = scrape(registry).get('x_total')!;
    expect(samples.length).toBe(513);
    expect(samples.find(({ labels }) => labels.volume === 'other')!.value).toBe(2000 - 512);
  });

  test('a reader that throws costs its own metric only', async () => {
    const registry = new MetricsRegistry(clock);
    registry.gauge('bad', 'Bad', () => {
      throw new Error('no');
    });
    registry.gauge('good', 'Good', () => 1);
    expect([...scrape(registry).keys()]).toEqual(['good']);
    expect((await registry.collect()).errors).toHaveLength(1);
  });

  test('names are checked, and a name has one kind', () => {
    const registry = new MetricsRegistry(clock);
    expect(() => registry.counter('requests', 'X')).toThrow(/_total/);
    expect(() => registry.gauge('a-b', 'X', () => 1)).toThrow(/name/);
    registry.gauge('x_total', 'X', () => 1);
    expect(() => registry.counter('x_total', 'X')).toThrow(/is a gauge/);
  });

  test('volumes and the process are exported in base units', () => {
    const registry = new MetricsRegistry(clock);
    const seconds = new Histogram();
    seconds.observe(0.002);
    const read = { ops: 1, bytes: 4096, errors: 0, seconds };
    registerVolumeMetrics(registry, () => [
      { volume: 'vol1', counters: { read, write: { ...read, bytes: 9 } } },
    ]);
    const stop = registerProcessMetrics(registry, { version: '1.2.3', role: 'gateway' });
    const families = scrape(registry);
    stop();
    expect(families.get('orion_volume_read_bytes_total')!.samples).toEqual([
      { name: 'orion_volume_read_bytes_total', labels: { volume: 'vol1' }, value: 4096 },
    ]);
    expect(families.get('orion_volume_write_seconds')!.type).toBe('histogram');
    expect(families.get('orion_build_info')!.samples[0]!.labels).toMatchObject({
      version: '1.2.3',
      role: 'gateway',
    });
    expect(families.get('orion_process_resident_bytes')!.samples[0]!.value).toBeGreaterThan(1e6);
  });
});

test.each([
  ['no end of line', '# HELP a b\n# TYPE a gauge\na 1'],
  ['no help', '# TYPE a gauge\na 1\n'],
  ['a counter that is no total', '# HELP a b\n# TYPE a counter\na 1\n'],
  ['a series twice', '# HELP a b\n# TYPE a gauge\na{x="1"} 1\na{x="1"} 2\n'],
  ['a raw quote', '# HELP a b\n# TYPE a gauge\na{x="1"2"} 1\n'],
  ['a sample of another family', '# HELP a b\n# TYPE a gauge\nb 1\n'],
  [
    'no infinite bucket',
    '# HELP a b\n# TYPE a histogram\na_count 1\na_sum 1\na_bucket{le="1"} 1\n',
  ],
])('the strict reader of the text refuses %s', (_what, text) => {
  expect(() => parsePrometheus(text)).toThrow();
});
