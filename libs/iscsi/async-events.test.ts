import { describe, expect, test } from 'vitest';
import type { UnitAttention } from '../multipath/path.ts';
import { buildSense } from '../scsi/sense.ts';
import { Opcode, RESERVED_TAG, TaskFunction } from './pdu/opcodes.ts';
import type { SessionEvent } from './session-control.ts';
import { answerText, answerTmf, sendAsync } from './testing/control-script.ts';
import { LUN, lastCommand, pattern, type Rig, read, rig, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const quiet = { timeouts: { nopIntervalMs: 1_000_000 } };

const withSense = (sense: Buffer): Buffer => Buffer.concat([Buffer.from([0, sense.length]), sense]);

const listen = (r: Rig): SessionEvent[] => {
  const events: SessionEvent[] = [];
  r.session.onEvent((event) => events.push(event));
  return events;
};

describe('event 0, a SCSI event', () => {
  test.each([
    [0x3f, 0x0e],
    [0x2a, 0x09],
  ])('reaches the unit that it is about as unit attention %i/%i', async (asc, ascq) => {
    const r = await rig();
    const heard: UnitAttention[] = [];
    r.lun.onUnitAttention((attention) => heard.push(attention));
    const data = withSense(buildSense(6, asc, ascq));
    await sendAsync(r, { event: 0, data, lun: Buffer.alloc(8) });
    expect(heard).toEqual([]);
    await sendAsync(r, { event: 0, data });
    expect(heard).toMatchObject([{ asc, ascq }]);
  });

  test('whose SenseLength is longer than its data is a violation', async () => {
    const r = await rig();
    await sendAsync(r, { event: 0, data: Buffer.from([0, 18, 0x70]) });
    expect(r.session.cause?.message).toMatch(/§11\.9\.4/);
  });

  test('without any sense does no harm', async () => {
    const r = await rig();
    const events = listen(r);
    await sendAsync(r, { event: 0 });
    expect(events).toMatchObject([{ kind: 'scsi', sense: null }]);
    expect(r.session.state).toBe('open');
  });
});

describe('events 2 and 3, a connection or all are dropped', () => {
  test('end the session and say how long to wait', async () => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    await settle();
    await sendAsync(r, { event: 3, parameter2: 5, parameter3: 20 });
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({
      code: 'ISCSI_DROPPED_BY_TARGET',
      fields: { waitMs: 5000, retainMs: 20_000 },
    });
  });

  test('for the only connection end the session too, with the time that is named', async () => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    await settle();
    await sendAsync(r, { event: 2, parameter1: 0, parameter2: 5, parameter3: 20 });
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({
      code: 'ISCSI_CONNECTION_DROPPED',
      fields: { waitMs: 5000, retainMs: 20_000 },
    });
  });

  test('about a connection that there is not are only told', async () => {
    const r = await rig();
    const events = listen(r);
    await sendAsync(r, { event: 2, parameter1: 7 });
    expect(events).toMatchObject([{ kind: 'async', event: 2 }]);
    expect(r.session.state).toBe('open');
  });
});

describe('event 4, a negotiation is wanted', () => {
  test('is answered with an empty text request, and what the target declares holds', async () => {
    const r = await rig(undefined, quiet);
    await sendAsync(r, { event: 4, parameter3: 5 });
    const [asked] = r.target.of(Opcode.TextRequest);
    expect(asked!.pdu).toMatchObject({ final: true, continue: false, ttt: RESERVED_TAG });
    expect(asked!.data).toHaveLength(0);
    await answerText(
      r,
      'MaxRecvDataSegmentLength=512\0X-com.example.x=1\0MaxBurstLength=512\0TargetAlias=a\0',
      { final: false },
    );
    // What cannot be negotiated now, and what we do not know, is answered for what it is.
    const again = r.target.of(Opcode.TextRequest).at(-1)!;
    expect(again.pdu).toMatchObject({ itt: asked!.pdu.itt, ttt: 0x77, final: true });
    expect(again.data.toString()).toBe('X-com.example.x=NotUnderstood\0MaxBurstLength=Reject\0');
    await answerText(r, '');
    expect(r.target.of(Opcode.TextRequest)).toHaveLength(2);
    write(r, 0, pattern(2048));
    const command = await lastCommand(r);
    expect(command.dataSegmentLength).toBe(512);
    expect(r.session.state).toBe('open');
  });

  test('needs no further request while one is on its way', async () => {
    const r = await rig(undefined, quiet);
    r.session.text(Buffer.from('SendTargets=\0'), 1000).catch(() => {});
    await settle();
    await sendAsync(r, { event: 4, parameter3: 5 });
    expect(r.target.of(Opcode.TextRequest)).toHaveLength(1);
  });

  test('may go unanswered without harm', async () => {
    const r = await rig(undefined, quiet);
    await sendAsync(r, { event: 4 });
    await r.clock.advance(60_000);
    expect(r.session.state).toBe('open');
  });
});

describe('event 5, tasks are terminated', () => {
  const fast = () =>
    rig(
      (target) => {
        target.wants = { ...target.wants, TaskReporting: 'FastAbort' };
      },
      { params: { TaskReporting: 'FastAbort,ResponseFence,RFC3720' }, ...quiet },
    );

  test('is a violation where FastAbort was not negotiated', async () => {
    const r = await rig();
    await sendAsync(r, { event: 5 });
    expect(r.session.cause?.message).toMatch(/FastAbort/);
  });

  test('stops the data of the unit, then is acknowledged, then ends each task that the target has ended', async () => {
    const r = await fast();
    const seen = write(r, 0, pattern(1 << 20));
    const command = await lastCommand(r);
    r.target.expCmdSn = (command.cmdSn + 1) >>> 0;
    const statSn = r.target.statSn + 1;
    await sendAsync(r, { event: 5 });
    const [nop] = r.target.of(Opcode.NopOut);
    expect(nop!.pdu).toMatchObject({
      immediate: true,
      itt: RESERVED_TAG,
      ttt: RESERVED_TAG,
      lun: LUN,
      expStatSn: statSn,
    });
    const sent = r.target.of(Opcode.DataOut).length;
    r.target.r2t(command, 1 << 19, 4096);
    await settle();
    expect(r.target.of(Opcode.DataOut)).toHaveLength(sent);
    // Nothing is known of the task before the target was asked, once.
    await sendAsync(r, { event: 5 });
    expect(seen.state).toBe('pending');
    expect(r.target.of(Opcode.TaskManagementRequest)).toHaveLength(1);
    expect(r.target.of(Opcode.TaskManagementRequest)[0]!.pdu).toMatchObject({
      function: TaskFunction.AbortTask,
      referencedTag: command.itt,
    });
    await answerTmf(r, 1);
    await r.clock.advance(300);
    expect(seen.error).toMatchObject({ code: 'ISCSI_COMMAND_ABORTED', outcome: 'terminated' });
    expect(r.session.state).toBe('open');
  });

  test('leaves alone what the target had not received, and other units', async () => {
    const r = await fast();
    const seen = read(r, 0, Buffer.alloc(512));
    const command = await lastCommand(r);
    r.target.expCmdSn = command.cmdSn;
    await sendAsync(r, { event: 5 });
    r.target.expCmdSn = (command.cmdSn + 1) >>> 0;
    await sendAsync(r, { event: 5, lun: Buffer.alloc(8) });
    expect(r.target.of(Opcode.TaskManagementRequest)).toEqual([]);
    expect(r.target.of(Opcode.NopOut)).toHaveLength(2);
    r.target.dataIn(command, pattern(512), { status: 0 });
    await settle();
    expect(seen.state).toBe('done');
  });
});

test('events of vendors, and events that nobody knows, are told and do no harm', async () => {
  const r = await rig();
  const events = listen(r);
  for (const event of [6, 77, 247, 248, 255]) await sendAsync(r, { event, data: Buffer.alloc(9) });
  expect(events.map((event) => event.kind === 'async' && event.event)).toEqual([
    6, 77, 247, 248, 255,
  ]);
  expect(r.session.state).toBe('open');
});
