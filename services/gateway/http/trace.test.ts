import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { seededRng } from '#core/rng.ts';
import { SPAN_CHANNEL, type SpanRecord } from '#core/trace-channels.ts';
import { createSampler } from '#telemetry/traces.ts';
import { startFixture } from './fixture.ts';

let spans: SpanRecord[];
const keep = (span: unknown): void => void spans.push(span as SpanRecord);

beforeEach(() => {
  spans = [];
  subscribe(SPAN_CHANNEL, keep);
});

afterEach(() => {
  unsubscribe(SPAN_CHANNEL, keep);
});

test('a sampled request is a span whose identity travels with its I/O', async () => {
  await using fixture = await startFixture({ sampler: createSampler(1, seededRng(3)) });
  const seen: unknown[] = [];
  const read = fixture.device.read;
  fixture.device.read = (offset, into, io) => {
    seen.push(io.trace?.spanId);
    return read(offset, into, io);
  };
  await (await fetch(fixture.dataUrl, { headers: { range: 'bytes=0-99' } })).arrayBuffer();
  expect(spans).toHaveLength(1);
  expect(spans[0]).toMatchObject({
    name: 'http GET /data',
    parentSpanId: '',
    attributes: { volume: 'vol1', offset: 0, length: 100 },
  });
  expect(seen).toEqual([spans[0]!.spanId]);
});

test('a caller that traces is followed', async () => {
  await using fixture = await startFixture({ sampler: createSampler(0, seededRng(3)) });
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const response = await fetch(fixture.dataUrl, {
    method: 'PUT',
    body: new Uint8Array(100),
    headers: { traceparent, 'content-range': 'bytes 0-99/*' },
  });
  expect(response.status).toBe(400);
  expect(spans).toHaveLength(1);
  expect(spans[0]).toMatchObject({
    traceId: '0af7651916cd43dd8448eb211c80319c',
    parentSpanId: 'b7ad6b7169203331',
  });
  expect(spans[0]!.error).toContain('block boundaries');
});

test('a request that is not sampled leaves no trace', async () => {
  await using fixture = await startFixture({ sampler: createSampler(0, seededRng(3)) });
  await (await fetch(fixture.dataUrl, { headers: { range: 'bytes=0-99' } })).arrayBuffer();
  expect(spans).toEqual([]);
});
