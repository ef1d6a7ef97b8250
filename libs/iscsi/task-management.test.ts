import { describe, expect, test } from 'vitest';
import { NO_LUN } from './pdu/bhs.ts';
import { nameOf, Opcode, RESERVED_TAG, TaskFunction, TmfResponse } from './pdu/opcodes.ts';
import { answerTmf, sendReject } from './testing/control-script.ts';
import { LUN, lastCommand, pattern, type Rig, rig, watch, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const quiet = { timeouts: { nopIntervalMs: 1_000_000 } };
const level2 = () =>
  rig(
    (target) => {
      target.wants = { ...target.wants, iSCSIProtocolLevel: 2 };
    },
    { params: { iSCSIProtocolLevel: 2 }, ...quiet },
  );

const ask = (r: Rig, fn: TaskFunction, over: object = {}) =>
  r.session.taskManagement(fn, LUN, { timeoutMs: 1000, ...over });

describe('task management functions', () => {
  const withUnit: number[] = [1, 2, 3, 4, 5, 9, 10, 12];
  const withTask: number[] = [1, 8, 9];
  const withCmdSn: number[] = [1, 9];

  test.each(Object.values(TaskFunction))(
    'function %i carries what §11.5 and RFC 7144 §6.3 have it carry, is immediate, and gives the answer',
    async (fn) => {
      const r = await level2();
      write(r, 0, pattern(512));
      const command = await lastCommand(r);
      const { cmdSn } = command;
      const promise = ask(r, fn, {
        referencedTag: command.itt,
        refCmdSn: command.cmdSn,
        expDataSn: 3,
      });
      await settle();
      const { pdu } = r.target.of(Opcode.TaskManagementRequest)[0]!;
      expect(pdu).toMatchObject({
        function: fn,
        immediate: true,
        cmdSn: (cmdSn + 1) >>> 0,
        lun: withUnit.includes(fn) ? LUN : NO_LUN,
        referencedTag: withTask.includes(fn) ? command.itt : RESERVED_TAG,
        refCmdSn: withCmdSn.includes(fn) ? cmdSn : 0,
        expDataSn: fn === TaskFunction.TaskReassign ? 3 : 0,
      });
      await answerTmf(r, 7, 0x030201);
      expect(await promise).toEqual({ response: TmfResponse.FunctionSucceeded, info: 0x030201 });
      expect(r.session.cmdSn >>> 0).toBe((cmdSn + 1) >>> 0);
    },
  );

  test('about an immediate task give their own CmdSN for that of the task', async () => {
    const r = await rig();
    ask(r, TaskFunction.AbortTask, { referencedTag: 5 }).catch(() => {});
    await settle();
    const { pdu } = r.target.of(Opcode.TaskManagementRequest)[0]!;
    expect(pdu.refCmdSn).toBe(pdu.cmdSn);
  });

  test.each([9, 10, 11, 12])('function %i is not sent at protocol level 1', async (fn) => {
    const r = await rig();
    const seen = watch(ask(r, fn as TaskFunction));
    await settle();
    expect(seen.error).toMatchObject({ code: 'ISCSI_TMF_FAILED', outcome: 'not-executed' });
    expect(seen.error?.message).toMatch(/iSCSIProtocolLevel 2/);
    expect(r.target.of(Opcode.TaskManagementRequest)).toEqual([]);
  });

  test('responses have names', () => {
    const names = [0, 1, 2, 3, 4, 5, 6, 7, 255, 9].map((code) => nameOf(TmfResponse, code));
    expect(names).toEqual([
      'FunctionComplete',
      'TaskDoesNotExist',
      'LunDoesNotExist',
      'TaskStillAllegiant',
      'ReassignmentNotSupported',
      'FunctionNotSupported',
      'AuthorizationFailed',
      'FunctionSucceeded',
      'FunctionRejected',
      'unknown (0x09)',
    ]);
  });
});

describe('immediate requests', () => {
  test('are few at a time: more wait for their turn, and a reset goes in front of them', async () => {
    const r = await rig(undefined, quiet);
    const aborts = Array.from({ length: 6 }, (_, i) =>
      watch(ask(r, TaskFunction.AbortTask, { referencedTag: i })),
    );
    await settle();
    const sent = () => r.target.of(Opcode.TaskManagementRequest).map(({ pdu }) => pdu.function);
    expect(sent()).toEqual([1, 1, 1, 1]);
    watch(ask(r, TaskFunction.LogicalUnitReset));
    await settle();
    expect(sent()).toEqual([1, 1, 1, 1, 5]);
    const [first] = r.target.of(Opcode.TaskManagementRequest);
    r.target.send({
      opcode: Opcode.TaskManagementResponse,
      response: 1,
      itt: first!.pdu.itt,
      ...r.target.numbers(true),
    });
    await settle();
    expect(aborts[0]!.state).toBe('done');
    expect(sent()).toHaveLength(6);
    await r.clock.advance(1100);
    expect(aborts[5]!.error).toMatchObject({ code: 'ISCSI_TMF_FAILED' });
    expect(r.session.state).toBe('open');
  });

  test('that the target has no room for are sent again later, with the same tag', async () => {
    const r = await rig(undefined, quiet);
    const seen = watch(ask(r, TaskFunction.LogicalUnitReset));
    await settle();
    for (let i = 1; i <= 3; i++) {
      const { pdu } = r.target.of(Opcode.TaskManagementRequest).at(-1)!;
      await sendReject(r, 6, pdu);
      expect(seen.state).toBe('pending');
      await r.clock.advance(200);
      expect(r.target.of(Opcode.TaskManagementRequest)).toHaveLength(i + 1);
    }
    const tags = r.target.of(Opcode.TaskManagementRequest).map(({ pdu }) => pdu.itt);
    expect(new Set(tags).size).toBe(1);
    await answerTmf(r, 0);
    expect(seen.state).toBe('done');
  });

  test('that it never has room for fail in the end', async () => {
    const r = await rig(undefined, quiet);
    const seen = watch(
      r.session.taskManagement(TaskFunction.LogicalUnitReset, LUN, { timeoutMs: 60_000 }),
    );
    await settle();
    for (let i = 0; i < 20 && seen.state === 'pending'; i++) {
      await sendReject(r, 6, r.target.of(Opcode.TaskManagementRequest).at(-1)!.pdu);
      await r.clock.advance(4000);
    }
    expect(seen.error).toMatchObject({ code: 'ISCSI_REJECTED' });
    expect(r.target.of(Opcode.TaskManagementRequest)).toHaveLength(9);
    expect(r.session.state).toBe('open');
  });
});
