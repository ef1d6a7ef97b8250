import { describe, expect, test } from 'vitest';
import { LogoutAnswer, Opcode, TaskFunction, TmfResponse } from '../iscsi/pdu/opcodes.ts';
import type { TextPair } from '../iscsi/text.ts';
import type { RawInitiator } from '../testkit/raw-initiator.ts';
import { type TargetFixture, targetFixture } from '../testkit/target-fixture.ts';

const BLOCK = 512;
const LEVEL_2: TextPair[] = [
  ['ErrorRecoveryLevel', '2'],
  ['MaxConnections', '4'],
  ['DefaultTime2Wait', '1'],
  ['DefaultTime2Retain', '10'],
  ['MaxRecvDataSegmentLength', '512'],
  ['MaxBurstLength', '1024'],
];
const read10 = (blocks: number): number[] => [0x28, 0, 0, 0, 0, 0, 0, 0, blocks, 0];
const write10 = (blocks: number): number[] => [0x2a, 0, 0, 0, 0, 0, 0, 0, blocks, 0];

async function level2(): Promise<{ fixture: TargetFixture; first: RawInitiator }> {
  const fixture = await targetFixture({ params: { errorRecoveryLevel: 2, maxConnections: 4 } });
  fixture.target.disk(0).write(0, Buffer.alloc(8 * BLOCK, 1));
  return { fixture, first: await fixture.login({ keys: LEVEL_2 }) };
}

async function add(
  fixture: TargetFixture,
  other: RawInitiator,
  cid: number,
): Promise<RawInitiator> {
  const next = (await fixture.connect()).joins(other);
  next.expStatSn = other.expStatSn;
  const keys: TextPair[] = [['MaxRecvDataSegmentLength', '512']];
  await next.login({ tsih: other.tsih, cid, keys });
  return next;
}

async function reassign(initiator: RawInitiator, tag: number, expDataSn = 0): Promise<number> {
  initiator.manage(TaskFunction.TaskReassign, { tag, expDataSn });
  return (await initiator.next(Opcode.TaskManagementResponse)).pdu.response;
}

describe('a connection that is lost at recovery level 2', () => {
  test('leaves its write half done: it goes on over another one, from what has come', async () => {
    const { fixture, first } = await level2();
    const second = await add(fixture, first, 1);
    const data = Buffer.alloc(4 * BLOCK, 7);
    const itt = second.command(write10(4), { write: data.length });
    const { pdu } = await second.next(Opcode.R2t);
    second.dataOut(itt, data.subarray(0, BLOCK), { ttt: pdu.ttt, final: false });
    await fixture.clock.advance(10);
    second.drop();
    await fixture.clock.advance(10);
    first.cmdSn = second.cmdSn;
    expect(await reassign(first, itt)).toBe(TmfResponse.TaskStillAllegiant);
    expect((await first.logout(2, 1)).response).toBe(LogoutAnswer.Closed);
    expect(await reassign(first, itt, 1)).toBe(TmfResponse.FunctionComplete);
    const again = (await first.next(Opcode.R2t)).pdu;
    expect(again).toMatchObject({ itt, r2tSn: 1, bufferOffset: BLOCK, desiredLength: BLOCK });
    first.dataOut(itt, data.subarray(BLOCK, 1024), { ttt: again.ttt, offset: BLOCK });
    const last = (await first.next(Opcode.R2t)).pdu;
    expect(last).toMatchObject({ r2tSn: 2, bufferOffset: 1024 });
    first.dataOut(itt, data.subarray(1024), { ttt: last.ttt, offset: 1024 });
    expect((await first.next(Opcode.ScsiResponse)).pdu).toMatchObject({
      itt,
      status: 0,
      expDataSn: 3,
    });
    expect(fixture.target.sessions()[0]).toMatchObject({ tasks: 0 });
    expect(fixture.target.bufferBytes).toBe(0);
  });

  test('sends the rest of a read, and the status, over the connection that takes its place', async () => {
    const { fixture, first } = await level2();
    const itt = first.command(read10(4), { read: 4 * BLOCK });
    for (let i = 0; i < 4; i++) await first.next(Opcode.DataIn);
    // The last two are as good as lost.
    first.expStatSn -= 1;
    first.drop();
    await fixture.clock.advance(100);
    const again = await add(fixture, first, 0);
    again.cmdSn = first.cmdSn;
    expect(await reassign(again, itt, 2)).toBe(TmfResponse.FunctionComplete);
    for (const sn of [2, 3]) {
      expect((await again.next(Opcode.DataIn)).pdu).toMatchObject({
        itt,
        dataSn: sn,
        bufferOffset: sn * BLOCK,
        statusPresent: false,
      });
    }
    const { pdu } = await again.next(Opcode.ScsiResponse);
    expect(pdu).toMatchObject({ itt, status: 0, expDataSn: 4 });
    expect(fixture.target.sessions()[0]?.tsih).toBe(first.tsih);
  });

  test('loses no command that ran meanwhile: it is answered when it is reassigned', async () => {
    const { fixture, first } = await level2();
    const held = fixture.target.faults.holdWrites();
    const data = Buffer.alloc(BLOCK, 9);
    const itt = first.command(write10(1), { write: BLOCK, immediate: data });
    await fixture.clock.runUntil(() => held.waiting > 0, 1_000);
    first.drop();
    await fixture.clock.advance(100);
    held.release();
    const again = await add(fixture, first, 0);
    expect(await reassign(again, itt)).toBe(TmfResponse.FunctionComplete);
    expect((await again.next(Opcode.ScsiResponse)).pdu).toMatchObject({ itt, status: 0 });
    const block = Buffer.alloc(BLOCK);
    fixture.target.disk(0).read(0, block);
    expect(block[0]).toBe(9);
  });

  test('keeps nothing after Time2Wait and Time2Retain, and then the session is over', async () => {
    const { fixture, first } = await level2();
    first.command(write10(4), { write: 4 * BLOCK });
    await first.next(Opcode.R2t);
    first.drop();
    await fixture.clock.advance(10_000);
    expect(fixture.target.sessions()).toMatchObject([{ connections: [], tasks: 1 }]);
    await fixture.clock.advance(2_000);
    expect(fixture.target.sessions()).toEqual([]);
    expect(fixture.target.bufferBytes).toBe(0);
    const late = (await fixture.connect()).joins(first);
    await expect(late.login({ tsih: first.tsih })).rejects.toThrow('2/10');
  });

  test('keeps nothing that is acknowledged, or closed, or that nobody knows', async () => {
    const { fixture, first } = await level2();
    const second = await add(fixture, first, 1);
    const done = second.command([0]);
    await second.next(Opcode.ScsiResponse);
    second.drop();
    await fixture.clock.advance(10);
    const again = await add(fixture, second, 1);
    expect(await reassign(again, done)).toBe(TmfResponse.TaskDoesNotExist);
    again.cmdSn = second.cmdSn;
    const open = again.command(write10(4), { write: 4 * BLOCK });
    await again.next(Opcode.R2t);
    again.drop();
    await fixture.clock.advance(10);
    expect((await first.logout(1, 1)).response).toBe(LogoutAnswer.Closed);
    expect(await reassign(first, open)).toBe(TmfResponse.TaskDoesNotExist);
    expect((await first.logout(2, 1)).response).toBe(LogoutAnswer.CidNotFound);
  });

  test('is removed by a logout of its own, too', async () => {
    const { fixture, first } = await level2();
    const second = await add(fixture, first, 1);
    const itt = second.command(write10(1), { write: BLOCK });
    await second.next(Opcode.R2t);
    const { response, time2Wait, time2Retain } = await second.logout(2);
    expect([response, time2Wait, time2Retain]).toEqual([LogoutAnswer.Closed, 1, 10]);
    await second.waitClosed();
    first.cmdSn = second.cmdSn;
    expect(await reassign(first, itt)).toBe(TmfResponse.FunctionComplete);
    expect((await first.next(Opcode.R2t)).pdu).toMatchObject({ itt, r2tSn: 0 });
  });

  test('leaves nothing to a session that begins anew', async () => {
    const { fixture, first } = await level2();
    first.command(write10(4), { write: 4 * BLOCK });
    await first.next(Opcode.R2t);
    first.drop();
    await fixture.clock.advance(10);
    await fixture.login({ keys: LEVEL_2 });
    expect(fixture.target.sessions()).toHaveLength(1);
    expect(fixture.target.bufferBytes).toBe(0);
  });
});

describe('faults of connections', () => {
  test('cut a connection after so many bytes, sent or received', async () => {
    const { fixture, first } = await level2();
    fixture.target.faults.cutAfter('sent', 48 + BLOCK + 100);
    first.command(read10(4), { read: 4 * BLOCK });
    await first.waitClosed();
    expect(first.received).toHaveLength(1);
    expect(first.leftover).toHaveLength(100);
    const again = await add(fixture, first, 0);
    again.cmdSn = first.cmdSn;
    fixture.target.faults.cutAfter('received', 48 + 100, { cid: 0 });
    again.command(write10(1), { write: BLOCK, immediate: Buffer.alloc(BLOCK, 9) });
    await again.waitClosed();
    const block = Buffer.alloc(BLOCK);
    fixture.target.disk(0).read(0, block);
    expect(block[0]).toBe(1);
  });

  test('answer a reassignment, or a logout, as the script says', async () => {
    const { fixture, first } = await level2();
    const { faults } = fixture.target;
    faults.answerTaskFunction(4, { function: TaskFunction.TaskReassign, count: 1 });
    expect(await reassign(first, 5)).toBe(TmfResponse.ReassignmentNotSupported);
    expect(await reassign(first, 5)).toBe(TmfResponse.TaskDoesNotExist);
    faults.answerLogout({ response: 3, time2Wait: 7 }, { reason: 1, count: 1 });
    expect(await first.logout(1)).toMatchObject({ response: 3, time2Wait: 7 });
    expect((await first.run([0])).status).toBe(0);
  });
});
