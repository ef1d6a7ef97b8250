import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { SPAN_CHANNEL, type SpanRecord } from '../core/trace-channels.ts';
import { lastCommand, pattern, rig, TARGET, watch } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const TRACE = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) };
const TRACED = { ...NO_DEADLINE, trace: TRACE };

let spans: SpanRecord[];
const listen = (message: unknown): void => {
  spans.push(message as SpanRecord);
};

beforeEach(() => {
  spans = [];
  subscribe(SPAN_CHANNEL, listen);
});
afterEach(() => {
  unsubscribe(SPAN_CHANNEL, listen);
});

test('a sampled write says which command it became, and how long that took', async () => {
  const r = await rig();
  const done = r.lun.write(8192, pattern(1024), 0, TRACED);
  const command = await lastCommand(r);
  await r.clock.advance(7);
  r.target.respond(command);
  await done;
  await settle();
  expect(spans).toHaveLength(1);
  const [span] = spans;
  expect(span).toMatchObject({
    name: 'iscsi Write10',
    traceId: TRACE.traceId,
    parentSpanId: TRACE.spanId,
    attributes: {
      ...{ 'iscsi.target': TARGET, 'iscsi.lun': '1', 'iscsi.lba': 16, 'iscsi.blocks': 2 },
      ...{ 'iscsi.itt': command.itt, 'iscsi.cmdsn': command.cmdSn },
    },
  });
  expect(span!.endMs - span!.startMs).toBe(7);
  expect(span!.error).toBeUndefined();
});

test('a sampled flush is a span too', async () => {
  const r = await rig();
  const done = r.lun.flush(TRACED);
  r.target.respond(await lastCommand(r));
  await done;
  await settle();
  expect(spans.map(({ name }) => name)).toEqual(['iscsi SynchronizeCache10']);
});

test('a sampled command that is lost says why', async () => {
  const r = await rig();
  const seen = watch(r.lun.write(0, pattern(512), 0, TRACED));
  await settle();
  r.session.destroy(new Error('cable pulled'));
  await settle();
  expect(seen.state).toBe('unknown');
  expect(spans[0]?.error).toMatch(/^ISCSI_SESSION_LOST: /);
});

test('I/O that is not sampled publishes nothing', async () => {
  const r = await rig();
  const done = r.lun.write(0, pattern(512), 0, NO_DEADLINE);
  r.target.respond(await lastCommand(r));
  await done;
  await settle();
  expect(spans).toEqual([]);
});
