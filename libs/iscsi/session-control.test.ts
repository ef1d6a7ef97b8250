import { describe, expect, test } from 'vitest';
import { buildSense } from '../scsi/sense.ts';
import { Opcode, RESERVED_TAG, TaskFunction } from './pdu/opcodes.ts';
import type { SessionEvent } from './session-control.ts';
import {
  LUN,
  lastCommand,
  pattern,
  type Rig,
  read,
  rig,
  watch,
  write,
} from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

describe('pings of the target', () => {
  test('are answered with their tag and LUN, without a CmdSN of their own', async () => {
    const r = await rig();
    const cmdSn = r.session.cmdSn >>> 0;
    r.target.send({
      opcode: Opcode.NopIn,
      lun: LUN,
      itt: RESERVED_TAG,
      ttt: 0xabcd,
      ...r.target.numbers(false),
    });
    await settle();
    const [answer] = r.target.of(Opcode.NopOut);
    expect(answer!.pdu).toMatchObject({ immediate: true, itt: RESERVED_TAG, ttt: 0xabcd, cmdSn });
    expect(answer!.pdu.lun.equals(LUN)).toBe(true);
    expect(r.session.cmdSn >>> 0).toBe(cmdSn);
  });

  test('without end, to a target that does not read the answers, end the session instead of filling memory', async () => {
    const r = await rig();
    r.target.holdWrites = true;
    for (let i = 0; i < 300; i++) {
      r.target.send({
        opcode: Opcode.NopIn,
        lun: LUN,
        itt: RESERVED_TAG,
        ttt: i,
        ...r.target.numbers(false),
      });
      await settle();
      if (r.session.state === 'closed') break;
    }
    expect(r.session.cause?.message).toMatch(/does not read/);
  });
});

describe('what the target says by itself', () => {
  const async_ = (r: Rig, event: number, parameter3 = 0, data = Buffer.alloc(0)) =>
    r.target.send(
      {
        opcode: Opcode.AsyncMessage,
        lun: LUN,
        ...r.target.numbers(true),
        event,
        vendorCode: 1,
        parameter1: 0,
        parameter2: 0,
        parameter3,
      },
      data,
    );

  test('a SCSI event and a vendor event are told on', async () => {
    const r = await rig();
    const events: SessionEvent[] = [];
    r.session.onEvent((event) => events.push(event));
    async_(r, 0, 0, Buffer.concat([Buffer.from([0, 18]), buildSense(6, 0x3f, 0x0e)]));
    async_(r, 255);
    async_(r, 77);
    await settle();
    expect(events).toMatchObject([
      { kind: 'scsi', sense: { asc: 0x3f, ascq: 0x0e } },
      { kind: 'async', event: 255, vendorCode: 1 },
      { kind: 'async', event: 77 },
    ]);
    expect(r.session.state).toBe('open');
  });

  test.each([
    [2, 'ISCSI_CONNECTION_DROPPED'],
    [3, 'ISCSI_DROPPED_BY_TARGET'],
  ])('event %i ends the session at once', async (event, code) => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    await settle();
    async_(r, event);
    await settle();
    expect(r.session.cause).toMatchObject({ code });
    expect(seen.state).toBe('unknown');
  });

  test('event 1 does no harm when whoever hears of it ends the session', async () => {
    const r = await rig();
    r.session.onEvent(() => r.session.destroy(new Error('over')));
    async_(r, 1);
    await settle();
    expect(r.session.cause?.message).toBe('over');
  });

  test.each([1])(
    'event %i lets what was sent finish, takes nothing new, and logs out',
    async (event) => {
      const r = await rig();
      const seen = read(r, 0, Buffer.alloc(512));
      const command = await lastCommand(r);
      async_(r, event, 5);
      await settle();
      const refused = read(r, 0, Buffer.alloc(512));
      await settle();
      expect(refused.state).toBe('not-executed');
      r.target.dataIn(command, pattern(512), { status: 0 });
      await r.clock.advance(100);
      expect(seen.state).toBe('done');
      const [logout] = r.target.of(Opcode.LogoutRequest);
      expect(logout!.pdu).toMatchObject({ reason: 0, immediate: true });
      r.target.send({
        opcode: Opcode.LogoutResponse,
        response: 0,
        itt: logout!.pdu.itt,
        ...r.target.numbers(true),
        time2Wait: 0,
        time2Retain: 0,
      });
      await settle();
      expect(r.session.cause).toMatchObject({ code: 'ISCSI_DROPPED_BY_TARGET' });
    },
  );
});

describe('a Reject', () => {
  const reject = async (r: Rig, reason: number) => {
    const seen = write(r, 0, pattern(512));
    const command = await lastCommand(r);
    const header = Buffer.alloc(48);
    header[0] = Opcode.ScsiCommand;
    header.writeUInt32BE(command.itt, 16);
    r.target.send({ opcode: Opcode.Reject, reason, ...r.target.numbers(true), dataSn: 0 }, header);
    await settle();
    return seen;
  };
  test.each([5, 6, 9, 10])('for reason %i means the command was not executed', async (reason) => {
    const r = await rig();
    const seen = await reject(r, reason);
    expect(seen.error).toMatchObject({ code: 'ISCSI_REJECTED', outcome: 'not-executed' });
    expect(r.session.state).toBe('open');
  });
  test.each([4, 7, 11, 12, 99])(
    'for reason %i ends the session, and the outcome is unknown',
    async (reason) => {
      const r = await rig();
      const seen = await reject(r, reason);
      expect(seen.state).toBe('unknown');
      expect(r.session.state).toBe('closed');
    },
  );
  test('without a header in it is a violation', async () => {
    const r = await rig();
    r.target.send(
      { opcode: Opcode.Reject, reason: 5, ...r.target.numbers(true), dataSn: 0 },
      Buffer.alloc(4),
    );
    await settle();
    expect(r.session.state).toBe('closed');
  });
});

describe('task management and logout', () => {
  const answerTmf = (r: Rig, response: number) => {
    const { pdu } = r.target.of(Opcode.TaskManagementRequest).at(-1)!;
    r.target.send({
      opcode: Opcode.TaskManagementResponse,
      response,
      itt: pdu.itt,
      ...r.target.numbers(true),
    });
  };

  test('a LOGICAL UNIT RESET is immediate, names the LUN and no task, and gives the answer', async () => {
    const r = await rig();
    const promise = r.session.taskManagement(TaskFunction.LogicalUnitReset, LUN, {
      timeoutMs: 1000,
    });
    await settle();
    const { pdu } = r.target.of(Opcode.TaskManagementRequest)[0]!;
    expect(pdu).toMatchObject({ immediate: true, function: 5, referencedTag: RESERVED_TAG });
    expect(pdu.lun.equals(LUN)).toBe(true);
    answerTmf(r, 5);
    expect(await promise).toEqual({ response: 5, info: 0 });
    const reset = watch(r.lun.lunReset(1000));
    await settle();
    answerTmf(r, 1);
    await settle();
    expect(reset.error).toMatchObject({ code: 'ISCSI_TMF_FAILED' });
  });

  test('one that is not answered in time fails, and its late answer does no harm', async () => {
    const r = await rig(undefined, { timeouts: { nopIntervalMs: 100_000 } });
    const seen = watch(
      r.session.taskManagement(TaskFunction.LogicalUnitReset, LUN, { timeoutMs: 1000 }),
    );
    await settle();
    await r.clock.advance(1500);
    expect(seen.error).toMatchObject({ code: 'ISCSI_TMF_FAILED', outcome: 'unknown' });
    answerTmf(r, 0);
    await settle();
    expect(r.session.state).toBe('open');
  });

  test('after a reset the commands before it are terminated, those after it go on', async () => {
    const r = await rig((t) => {
      t.window = 10;
    });
    const before = [write(r, 0, pattern(512)), read(r, 0, Buffer.alloc(512))];
    await settle();
    const old = r.commands();
    const reset = r.lun.lunReset(1000);
    await settle();
    const after = write(r, 4096, pattern(512));
    answerTmf(r, 0);
    await reset;
    r.lun.abandon();
    await settle();
    expect(before.map((s) => s.state)).toEqual(['terminated', 'terminated']);
    expect(before[0]!.error?.code).toBe('ISCSI_LUN_RESET');
    expect(after.state).toBe('pending');
    // Late answers and a late R2T of what was given up are ignored.
    r.target.r2t(old[0]!, 0, 512);
    r.target.respond(old[0]!);
    r.target.dataIn(old[1]!, pattern(512), { status: 0 });
    r.target.respond(await lastCommand(r));
    await settle();
    expect(after.state).toBe('done');
    expect(r.session.state).toBe('open');
    expect(r.session.stats.inflight).toBe(0);
  });

  test('a write that is given up keeps its memory until the socket has let go of it', async () => {
    const r = await rig();
    r.target.holdWrites = true;
    const seen = write(r, 0, pattern(8192));
    await settle();
    r.lun.abandon();
    await settle();
    expect(seen.state).toBe('pending');
    r.target.releaseWrites();
    await settle();
    expect(seen.state).toBe('terminated');
  });

  test('a read that is given up in the middle of a segment keeps its memory until the segment is there', async () => {
    const r = await rig();
    const into = Buffer.alloc(16384);
    const seen = read(r, 0, into);
    const command = await lastCommand(r);
    const sent: Buffer[] = [];
    r.target.sendBytes = (bytes) => sent.push(bytes) as never;
    r.target.dataIn(command, pattern(16384), { final: true });
    delete (r.target as { sendBytes?: unknown }).sendBytes;
    r.target.sendBytes(sent[0]!.subarray(0, 5000));
    await settle();
    r.lun.abandon();
    await settle();
    expect(seen.state).toBe('pending');
    r.target.sendBytes(sent[0]!.subarray(5000));
    await settle();
    expect(seen.state).toBe('terminated');
  });

  test('a logout sends one request, takes the answer, and closes', async () => {
    const r = await rig();
    const promise = r.session.logout({ timeoutMs: 1000 });
    await settle();
    const { pdu } = r.target.of(Opcode.LogoutRequest)[0]!;
    r.target.send({
      opcode: Opcode.LogoutResponse,
      response: 0,
      itt: pdu.itt,
      ...r.target.numbers(true),
      time2Wait: 0,
      time2Retain: 0,
    });
    await promise;
    expect(r.session.state).toBe('closed');
    await r.session.logout({ timeoutMs: 1000 });
    expect(r.clock.pending).toBe(0);
  });

  test('a target that does not answer the logout cannot hold us', async () => {
    const r = await rig();
    const seen = watch(r.session.logout({ timeoutMs: 1000 }));
    await r.clock.advance(1100);
    expect(seen.error?.code).toBe('ISCSI_LOGOUT_TIMEOUT');
    expect(r.session.state).toBe('closed');
  });
});
