import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../core/clock.ts';
import { seededRng } from '../core/rng.ts';
import { childSpanId, OpenSpan, openSpan, publishSpan } from '../core/trace-channels.ts';
import { createSampler, parseTraceparent, startTracing, type Tracing } from './traces.ts';

const WALL_MS = Date.UTC(2026, 0, 1);

interface OtlpSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status: { readonly code: number; readonly message?: string };
  readonly attributes: readonly { key: string; value: Record<string, unknown> }[];
}

/** An OTLP collector: takes JSON over HTTP and keeps the spans. */
async function startCollector() {
  const spans: OtlpSpan[] = [];
  const resources: unknown[] = [];
  let status = 200;
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      if (status === 200 && request.url === '/v1/traces') {
        for (const resource of JSON.parse(Buffer.concat(pieces).toString()).resourceSpans) {
          resources.push(resource.resource);
          for (const scope of resource.scopeSpans) spans.push(...scope.spans);
        }
      }
      response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    spans,
    resources,
    endpoint: `http://127.0.0.1:${port}`,
    refuse: () => {
      status = 400;
    },
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

describe('tracing', () => {
  let collector: Awaited<ReturnType<typeof startCollector>>;
  let tracing: Tracing;

  beforeEach(async () => {
    collector = await startCollector();
    tracing = startTracing({
      endpoint: collector.endpoint,
      service: 'orion-gateway',
      resource: { 'orion.node': 'n1' },
      clock: systemClock,
    });
  });

  afterEach(async () => {
    await tracing.close();
    collector.close();
  });

  test('one trace leads from the NBD request to the iSCSI command', async () => {
    const wallMs = Date.now();
    const startMs = systemClock.nowMs();
    const root = createSampler(1, seededRng(1)).sample()!;
    const nbd = new OpenSpan('nbd write', { ...root, parentSpanId: '' }, startMs);
    const attempt = openSpan('multipath attempt', nbd, startMs + 1);
    const command = openSpan('iscsi command', attempt, startMs + 2);
    command.end(startMs + 12, { itt: 7, lun: '1' });
    attempt.end(startMs + 13, { path: 'n1-w0' }, 'PATH_LOST');
    nbd.end(startMs + 14, { offset: 4096, fua: true });
    await tracing.flush();

    const byName = new Map(collector.spans.map((span) => [span.name, span]));
    expect([...byName.keys()].sort()).toEqual(['iscsi command', 'multipath attempt', 'nbd write']);
    const [n, a, c] = ['nbd write', 'multipath attempt', 'iscsi command'].map(
      (name) => byName.get(name)!,
    ) as [OtlpSpan, OtlpSpan, OtlpSpan];
    expect(new Set([n.traceId, a.traceId, c.traceId])).toEqual(new Set([root.traceId]));
    expect(n.parentSpanId ?? '').toBe('');
    expect(a.parentSpanId).toBe(n.spanId);
    expect(c.parentSpanId).toBe(a.spanId);
    expect(c.attributes).toContainEqual({ key: 'itt', value: { intValue: 7 } });
    expect(a.status).toMatchObject({ code: 2, message: 'PATH_LOST' });
    const nanos = BigInt(c.endTimeUnixNano) - BigInt(c.startTimeUnixNano);
    expect(Number(nanos) / 1e6).toBeCloseTo(10, 2);
    expect(Math.abs(Number(BigInt(n.startTimeUnixNano) / 1_000_000n) - wallMs)).toBeLessThan(1000);
    expect(JSON.stringify(collector.resources)).toContain('orion-gateway');
  });

  test('no span begins before the one that it is a part of, whatever the step of the wall clock', async () => {
    const time = { nowMs: 1000, setMs: 0 };
    const clock: Clock = {
      ...systemClock,
      nowMs: () => time.nowMs,
      wallMs: () => Math.floor(WALL_MS + time.setMs + time.nowMs),
    };
    const own = startTracing({ endpoint: collector.endpoint, service: 'w', clock });
    for (let i = 0; i < 20; i++) {
      const root = createSampler(1, seededRng(i)).sample()!;
      const whole = new OpenSpan(`whole ${i}`, { ...root, parentSpanId: '' }, time.nowMs);
      const part = openSpan(`part ${i}`, whole, time.nowMs + 0.01);
      time.nowMs += 0.77;
      part.end(time.nowMs);
      time.nowMs += 0.3;
      whole.end(time.nowMs);
      if (i === 10) time.setMs = 3_600_000;
    }
    await own.close();
    const startOf = (name: string) =>
      BigInt(collector.spans.find((span) => span.name === name)!.startTimeUnixNano);
    for (let i = 0; i < 20; i++) {
      const gap = Number(startOf(`part ${i}`) - startOf(`whole ${i}`));
      expect(gap / 1e6).toBeCloseTo(0.01, 2);
    }
    // And a clock that was set counts.
    const hours = Number(startOf('whole 19') - startOf('whole 0')) / 3.6e12;
    expect(hours).toBeCloseTo(1, 3);
  });

  test('no span begins before the one that it is a part of when the process is interrupted between its two clocks', async () => {
    const time = { nowMs: 1000, reads: 0 };
    const clock: Clock = {
      ...systemClock,
      nowMs: () => {
        // Every third look at the clock comes five milliseconds late.
        if (++time.reads % 3 === 0) time.nowMs += 5;
        return time.nowMs;
      },
      wallMs: () => Math.floor(WALL_MS + time.nowMs),
    };
    const own = startTracing({ endpoint: collector.endpoint, service: 'w', clock });
    for (let i = 0; i < 20; i++) {
      const root = createSampler(1, seededRng(i)).sample()!;
      const startMs = time.nowMs;
      const whole = new OpenSpan(`whole ${i}`, { ...root, parentSpanId: '' }, startMs);
      openSpan(`part ${i}`, whole, startMs + 0.01).end(startMs + 0.5);
      whole.end(startMs + 1);
      time.nowMs += 3;
    }
    await own.close();
    const startOf = (name: string) =>
      BigInt(collector.spans.find((span) => span.name === name)!.startTimeUnixNano);
    for (let i = 0; i < 20; i++) {
      expect(Number(startOf(`part ${i}`) - startOf(`whole ${i}`)) / 1e6).toBeCloseTo(0.01, 2);
    }
  });

  test('a collector that refuses or is away costs nothing but the spans', async () => {
    collector.refuse();
    new OpenSpan('x', { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), parentSpanId: '' }, 1).end(
      2,
    );
    await expect(tracing.flush()).resolves.toBeUndefined();
  });

  test('after close nothing is taken any more', async () => {
    await tracing.close();
    new OpenSpan('x', { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), parentSpanId: '' }, 1).end(
      2,
    );
    await tracing.flush();
    expect(collector.spans).toEqual([]);
  });
});

test('without an endpoint tracing is off, and a wrong one is refused by name', () => {
  const options = { service: 'x', clock: systemClock };
  expect(startTracing({ ...options, endpoint: '' }).enabled).toBe(false);
  expect(() => startTracing({ ...options, endpoint: 'collector:4318' })).toThrow(
    expect.objectContaining({ code: 'TELEMETRY_ENDPOINT' }),
  );
});

test('a span that nobody listens to is dropped', () => {
  expect(() =>
    publishSpan({
      name: 'x',
      traceId: '',
      spanId: '',
      parentSpanId: '',
      startMs: 0,
      endMs: 0,
      attributes: {},
    }),
  ).not.toThrow();
});

test('children of one span have different, valid ids', () => {
  const ids = new Set(Array.from({ length: 10_000 }, () => childSpanId('0123456789abcdef')));
  expect(ids.size).toBe(10_000);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{16}$/);
});

describe('the sampler', () => {
  const count = (ratio: number): number => {
    const sampler = createSampler(ratio, seededRng(42));
    let hits = 0;
    for (let i = 0; i < 100_000; i++) if (sampler.sample() !== undefined) hits += 1;
    return hits;
  };

  test('takes about the ratio that was asked for', () => {
    expect(count(0)).toBe(0);
    expect(count(1)).toBe(100_000);
    expect(count(0.01)).toBeGreaterThan(850);
    expect(count(0.01)).toBeLessThan(1150);
  });

  test('gives W3C ids', () => {
    const { traceId, spanId } = createSampler(1, seededRng(1)).sample()!;
    expect(traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(spanId).toMatch(/^[0-9a-f]{16}$/);
  });
});

test.each([
  ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', true],
  ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00', false],
  ['00-00000000000000000000000000000000-b7ad6b7169203331-01', false],
  ['00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01', false],
  ['01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x', false],
  ['nonsense', false],
])('traceparent %s is followed: %s', (header, followed) => {
  expect(parseTraceparent(header) !== undefined).toBe(followed);
});
