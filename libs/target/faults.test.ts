import { describe, expect, test } from 'vitest';
import { sleep, systemClock } from '../core/clock.ts';
import { seededRng } from '../core/rng.ts';
import { Opcode, TaskFunction, TmfResponse } from '../iscsi/pdu/opcodes.ts';
import type { RawInitiator } from '../testkit/raw-initiator.ts';
import { type TargetFixture, targetFixture } from '../testkit/target-fixture.ts';
import type { StreamSink } from '../wire/network.ts';
import { nodeNetwork } from '../wire/node-network.ts';
import { startTarget } from './target.ts';

const BLOCK = 512;
const A = Buffer.alloc(BLOCK, 'A');
const B = Buffer.alloc(BLOCK, 'B');
const READ = 0x28;

function cdb10(opcode: number, lba: number, blocks = 1): number[] {
  return [opcode, 0, 0, 0, lba >> 8, lba & 255, 0, 0, blocks, 0];
}

function write(initiator: RawInitiator, lba: number, data: Buffer): number {
  return initiator.command(cdb10(0x2a, lba, data.length / BLOCK), {
    write: data.length,
    immediate: data,
  });
}

function onDisk(fixture: TargetFixture, lba: number): string {
  const into = Buffer.alloc(BLOCK);
  fixture.target.disk(0).read(lba * BLOCK, into);
  return into.subarray(0, 1).toString();
}

describe('answers that a fault gives', () => {
  test('BUSY, TASK SET FULL and CHECK CONDITION so often as was asked for', async () => {
    const { login, target } = await targetFixture();
    const initiator = await login();
    target.faults.busy({ count: 2 });
    target.faults.taskSetFull({ opcode: READ, count: 1 });
    const medium = target.faults.checkCondition([0x3, 0x11, 0x00], { lbaFrom: 5, lbaTo: 6 });
    expect((await initiator.run([0x00])).status).toBe(0x08);
    expect((await initiator.run([0x00])).status).toBe(0x08);
    expect((await initiator.run([0x00])).status).toBe(0x00);
    expect((await initiator.run(cdb10(READ, 0), { read: BLOCK })).status).toBe(0x28);
    expect((await initiator.run(cdb10(READ, 4), { read: BLOCK })).status).toBe(0);
    expect((await initiator.run(cdb10(READ, 4, 2), { read: 2 * BLOCK })).sense).toBe('03/11/00');
    expect(medium.hits).toBe(1);
    expect(target.faults.armed).toEqual([medium]);
    medium.remove();
    expect((await initiator.run(cdb10(READ, 5), { read: BLOCK })).status).toBe(0);
  });

  test('a write that is answered with an error is not executed', async () => {
    const fixture = await targetFixture();
    const initiator = await fixture.login();
    fixture.target.faults.busy({ count: 1 });
    write(initiator, 0, A);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.status).toBe(0x08);
    expect(onDisk(fixture, 0)).toBe('\0');
  });

  test('delays come by opcode and block', async () => {
    const { login, target, clock } = await targetFixture();
    const initiator = await login();
    target.faults.delay({ ms: 500, opcode: READ, lbaFrom: 10 });
    const start = clock.nowMs();
    await initiator.run(cdb10(READ, 0), { read: BLOCK });
    expect(clock.nowMs() - start).toBe(0);
    await initiator.run(cdb10(READ, 10), { read: BLOCK });
    expect(clock.nowMs() - start).toBe(500);
  });

  test('a change of capacity is told to every session', async () => {
    const { login, target } = await targetFixture();
    const one = await login();
    const two = await login({ isid: '800000000002' });
    target.faults.changeCapacity(0, 32 * 1024 * 1024);
    expect((await one.run([0x00])).sense).toBe('06/2a/09');
    expect((await two.run([0x00])).sense).toBe('06/2a/09');
    const { data } = await one.run([0x25], { read: 8 });
    expect(data.readUInt32BE(0)).toBe(65535);
  });
});

describe('connections that a fault breaks', () => {
  test('a cut at the nth PDU received executes what came before it and nothing after', async () => {
    const fixture = await targetFixture();
    const initiator = await fixture.login();
    fixture.target.faults.cut({ direction: 'received', opcode: Opcode.ScsiCommand, nth: 2 });
    write(initiator, 1, A);
    write(initiator, 2, A);
    expect(await initiator.waitClosed()).toMatchObject({ code: 'ECONNRESET' });
    expect([onDisk(fixture, 1), onDisk(fixture, 2)]).toEqual(['A', '\0']);
  });

  test('a cut before a response leaves an executed write without its answer', async () => {
    const fixture = await targetFixture();
    const initiator = await fixture.login();
    fixture.target.faults.cut({ direction: 'sent', opcode: Opcode.ScsiResponse });
    write(initiator, 1, A);
    expect(await initiator.waitClosed()).toMatchObject({ code: 'ECONNRESET' });
    expect(onDisk(fixture, 1)).toBe('A');
    expect(initiator.received).toEqual([]);
  });

  test('a dropped response leaves a gap in StatSN', async () => {
    const { login, target } = await targetFixture();
    const initiator = await login();
    await initiator.run([0x00]);
    const expected = initiator.expStatSn;
    target.faults.drop({ direction: 'sent', opcode: Opcode.ScsiResponse });
    initiator.command([0x00]);
    initiator.command([0x00]);
    const { pdu } = await initiator.next(Opcode.ScsiResponse);
    expect(pdu.statSn).toBe((expected + 1) >>> 0);
  });

  test('garbage, an oversized PDU, half a PDU and an unknown opcode are sent and end it', async () => {
    for (const kind of ['garbage', 'oversized', 'truncated', 'unknown-opcode'] as const) {
      const { login, target } = await targetFixture();
      const initiator = await login();
      target.faults.corrupt(kind, { opcode: Opcode.ScsiResponse });
      initiator.command([0x00]);
      expect(await initiator.waitClosed()).toBeNull();
      const bytes = Buffer.concat([...initiator.strange, initiator.leftover]);
      if (kind === 'truncated') expect(bytes.length).toBe(20);
      if (kind === 'oversized') expect(bytes.readUIntBE(5, 3)).toBe(0xffffff);
      if (kind === 'unknown-opcode') expect(bytes[0]).toBe(0x2f);
    }
  });

  test('silence: nothing is answered, and what was asked is served when it ends', async () => {
    const fixture = await targetFixture();
    const initiator = await fixture.login();
    const silence = fixture.target.faults.silent({ portal: 0 });
    write(initiator, 3, A);
    await fixture.clock.advance(60_000);
    expect(initiator.received).toEqual([]);
    expect(initiator.over).toBeUndefined();
    expect(onDisk(fixture, 3)).toBe('\0');
    silence.remove();
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.status).toBe(0);
    expect(onDisk(fixture, 3)).toBe('A');
  });

  test('silence holds for connections that are opened during it, and for its portal alone', async () => {
    const { connect, login, target, clock } = await targetFixture();
    target.faults.silent({ portal: 0 });
    const initiator = await connect(0);
    await expect(initiator.login()).rejects.toThrow('not reached within 60000 ms');
    expect(clock.nowMs()).toBeGreaterThanOrEqual(60_000);
    expect(initiator.over).toBeUndefined();
    expect((await (await login({ portal: 1 })).run([0x00])).status).toBe(0);
  });

  test('silence holds on real sockets too', async () => {
    const rng = seededRng(1);
    const portal = { address: { kind: 'tcp', host: '127.0.0.1', port: 0 } as const };
    const target = await startTarget({
      network: nodeNetwork,
      clock: systemClock,
      rng,
      targetName: 'iqn.2026-11.test:target',
      portals: [portal],
      luns: [],
    });
    const silence = target.faults.silent();
    let closed = false;
    let received = 0;
    const sink: StreamSink = {
      buffer: () => Buffer.alloc(1024),
      data: (_chunk, length) => {
        received += length;
      },
      closed: () => {
        closed = true;
      },
    };
    const stream = await nodeNetwork.connect(target.addresses[0]!, sink, { timeoutMs: 5000 });
    stream.writev([Buffer.alloc(48)], () => {});
    await sleep(systemClock, 50);
    expect([closed, received]).toEqual([false, 0]);
    silence.remove();
    // What it sent is no login, so the target drops it as soon as it reads it.
    while (!closed) await sleep(systemClock, 1);
    await target.close();
  });

  test('silence with execution: the write lands, the answer is lost', async () => {
    const fixture = await targetFixture();
    const initiator = await fixture.login();
    const silence = fixture.target.faults.silent({ execute: true });
    write(initiator, 3, A);
    await fixture.clock.advance(1000);
    expect(initiator.received).toEqual([]);
    expect(onDisk(fixture, 3)).toBe('A');
    silence.remove();
    await initiator.waitClosed();
  });

  test('logins are refused, redirected or cut off', async () => {
    const { login, target } = await targetFixture();
    target.faults.refuseLogin({ statusClass: 3, statusDetail: 1 }, { count: 1 });
    await expect(login()).rejects.toThrow('login refused: 3/1');
    target.faults.closeMidLogin({ count: 1, portal: 0 });
    await expect(login()).rejects.toThrow('closed');
    const targetAddress = target.addresses[1]!;
    target.faults.refuseLogin({ statusClass: 1, statusDetail: 1, targetAddress }, { count: 1 });
    await expect(login()).rejects.toThrow('login refused: 1/1');
    await login();
  });
});

describe('held writes', () => {
  test('are neither executed nor answered before they are released', async () => {
    const fixture = await targetFixture();
    const initiator = await fixture.login();
    const hold = fixture.target.faults.holdWrites({ lbaFrom: 10, lbaTo: 20 });
    write(initiator, 9, A);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.status).toBe(0);
    write(initiator, 10, A);
    write(initiator, 19, A);
    let second = false;
    void hold.held(2).then(() => {
      second = true;
    });
    await fixture.clock.advance(1000);
    expect([second, hold.waiting, onDisk(fixture, 10)]).toEqual([true, 2, '\0']);
    expect(initiator.received).toEqual([]);
    hold.release();
    await initiator.next(Opcode.ScsiResponse);
    await initiator.next(Opcode.ScsiResponse);
    expect([onDisk(fixture, 10), onDisk(fixture, 19), hold.waiting]).toEqual(['A', 'A', 0]);
    expect(fixture.target.faults.armed).toEqual([]);
  });

  test('haunt: a write held over reinstatement lands on newer data where the target keeps tasks', async () => {
    const fixture = await targetFixture({
      behaviour: { onReinstatement: 'keep' },
      recordWrites: true,
    });
    const old = await fixture.login();
    const hold = fixture.target.faults.holdWrites({ count: 1 });
    write(old, 5, A);
    await fixture.clock.advance(1);
    old.drop();
    const young = await fixture.login({ keepAttention: true });
    await young.run([0x00]);
    write(young, 5, B);
    expect((await young.next(Opcode.ScsiResponse)).pdu.status).toBe(0);
    expect(onDisk(fixture, 5)).toBe('B');
    hold.release();
    expect(onDisk(fixture, 5)).toBe('A');
    expect(fixture.target.writeLog.map((write) => write.connected)).toEqual([true, false]);
    expect(fixture.target.bufferBytes).toBe(0);
  });

  test('are gone after reinstatement where the target aborts tasks', async () => {
    const fixture = await targetFixture({ behaviour: { onReinstatement: 'abort' } });
    const old = await fixture.login();
    const hold = fixture.target.faults.holdWrites();
    write(old, 5, A);
    await fixture.clock.advance(1);
    old.drop();
    await fixture.clock.advance(1);
    expect(hold.waiting).toBe(1); // the death of the connection alone ends nothing
    await fixture.login();
    expect(hold.waiting).toBe(0);
    hold.release();
    expect(onDisk(fixture, 5)).toBe('\0');
    expect(fixture.target.bufferBytes).toBe(0);
  });

  test('LU reset waits for them, and they land before its answer, where the target waits', async () => {
    const fixture = await targetFixture({ behaviour: { onLunReset: 'wait' } });
    const old = await fixture.login({ isid: '800000000009' });
    const hold = fixture.target.faults.holdWrites({ count: 1 });
    write(old, 5, A);
    await fixture.clock.advance(1);
    old.drop();
    const other = await fixture.login();
    other.manage(TaskFunction.LogicalUnitReset);
    await fixture.clock.advance(10_000);
    expect(other.received).toEqual([]);
    hold.release();
    const { pdu } = await other.next(Opcode.TaskManagementResponse);
    expect(pdu.response).toBe(TmfResponse.FunctionComplete);
    expect(onDisk(fixture, 5)).toBe('A');
    expect((await other.run([0x00])).sense).toBe('06/29/03');
  });

  test('LU reset ends them unexecuted where the target aborts', async () => {
    const fixture = await targetFixture({ behaviour: { onLunReset: 'abort' } });
    const initiator = await fixture.login();
    const hold = fixture.target.faults.holdWrites();
    write(initiator, 5, A);
    initiator.manage(TaskFunction.LogicalUnitReset);
    const { pdu } = await initiator.next(Opcode.TaskManagementResponse);
    expect(pdu.response).toBe(TmfResponse.FunctionComplete);
    expect(hold.waiting).toBe(0);
    hold.release();
    expect(onDisk(fixture, 5)).toBe('\0');
    expect(fixture.target.bufferBytes).toBe(0);
  });
});

describe('task management', () => {
  test('ABORT TASK: one that waits for data is gone, one that is not there is said so', async () => {
    const fixture = await targetFixture();
    const initiator = await fixture.login({ keys: [['ImmediateData', 'No']] });
    const tag = initiator.command(cdb10(0x2a, 0, 2), { write: 2 * BLOCK });
    const { pdu: r2t } = await initiator.next(Opcode.R2t);
    initiator.manage(TaskFunction.AbortTask, { tag });
    const done = await initiator.next(Opcode.TaskManagementResponse);
    expect(done.pdu.response).toBe(TmfResponse.FunctionComplete);
    // Its data may still be on the way.
    initiator.dataOut(tag, Buffer.concat([A, A]), { ttt: r2t.ttt });
    initiator.manage(TaskFunction.AbortTask, { tag });
    const again = await initiator.next(Opcode.TaskManagementResponse);
    expect(again.pdu.response).toBe(TmfResponse.TaskDoesNotExist);
    expect(onDisk(fixture, 0)).toBe('\0');
    expect(fixture.target.bufferBytes).toBe(0);
  });

  test('ABORT TASK SET waits for the data that was asked for, and only for its own session', async () => {
    const fixture = await targetFixture();
    const mine = await fixture.login({ keys: [['ImmediateData', 'No']] });
    const other = await fixture.login({ isid: '800000000002' });
    fixture.target.faults.delay({ ms: 1000, isid: '800000000002' });
    write(other, 1, B);
    const tag = mine.command(cdb10(0x2a, 0, 1), { write: BLOCK });
    const { pdu: r2t } = await mine.next(Opcode.R2t);
    mine.manage(TaskFunction.AbortTaskSet);
    await fixture.clock.advance(100);
    expect(mine.received).toEqual([]);
    mine.dataOut(tag, Buffer.alloc(0), { ttt: r2t.ttt });
    const { pdu } = await mine.next(Opcode.TaskManagementResponse);
    expect(pdu.response).toBe(TmfResponse.FunctionComplete);
    expect((await other.next(Opcode.ScsiResponse)).pdu.status).toBe(0);
    expect([onDisk(fixture, 0), onDisk(fixture, 1)]).toEqual(['\0', 'B']);
  });

  test('CLEAR TASK SET takes the tasks of others, and tells them', async () => {
    const fixture = await targetFixture({ behaviour: { onLunReset: 'abort' } });
    const mine = await fixture.login();
    const other = await fixture.login({ isid: '800000000002' });
    fixture.target.faults.delay({ ms: 1000, isid: '800000000002', count: 1 });
    write(other, 1, B);
    await fixture.clock.advance(1);
    mine.manage(TaskFunction.ClearTaskSet);
    await mine.next(Opcode.TaskManagementResponse);
    expect((await other.run([0x00])).sense).toBe('06/2f/00');
    expect(onDisk(fixture, 1)).toBe('\0');
  });

  test('says what it cannot do', async () => {
    const { login } = await targetFixture();
    const initiator = await login();
    const answerTo = async (fn: number, lun = 0): Promise<number> => {
      initiator.manage(fn, { lun });
      return (await initiator.next(Opcode.TaskManagementResponse)).pdu.response;
    };
    expect(await answerTo(TaskFunction.LogicalUnitReset, 7)).toBe(TmfResponse.LunDoesNotExist);
    expect(await answerTo(TaskFunction.TaskReassign)).toBe(TmfResponse.ReassignmentNotSupported);
    expect(await answerTo(TaskFunction.ClearAca)).toBe(TmfResponse.FunctionNotSupported);
    expect(await answerTo(TaskFunction.TargetWarmReset)).toBe(TmfResponse.FunctionComplete);
    expect((await initiator.run([0x00])).sense).toBe('06/29/02');
  });

  test('TARGET COLD RESET is like power on: every connection ends', async () => {
    const { login } = await targetFixture();
    const one = await login();
    const two = await login({ isid: '800000000002' });
    one.manage(TaskFunction.TargetColdReset);
    await one.waitClosed();
    await two.waitClosed();
    const again = await login({ keepAttention: true });
    expect((await again.run([0x00])).sense).toBe('06/29/00');
  });
});

describe('restart', () => {
  const luns = [{ lun: 0, sizeBytes: 1024 * 1024, writeCache: true }];

  test('drops all sessions and what was held, and loses what was not flushed', async () => {
    const fixture = await targetFixture({ luns });
    const initiator = await fixture.login();
    write(initiator, 0, A);
    await initiator.next(Opcode.ScsiResponse);
    expect((await initiator.run([0x35])).status).toBe(0);
    write(initiator, 0, B);
    await initiator.next(Opcode.ScsiResponse);
    const hold = fixture.target.faults.holdWrites();
    write(initiator, 1, B);
    await fixture.clock.advance(1);
    const restarting = fixture.target.restart({ loseCache: true, downMs: 100 });
    await initiator.waitClosed();
    await expect(fixture.login()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await fixture.clock.advance(100);
    await restarting;
    hold.release();
    expect([onDisk(fixture, 0), onDisk(fixture, 1)]).toEqual(['A', '\0']);
    const again = await fixture.login({ keepAttention: true });
    expect((await again.run([0x00])).sense).toBe('06/29/00');
    expect(fixture.target.bufferBytes).toBe(0);
  });

  test('a write with FUA survives the loss of the cache', async () => {
    const fixture = await targetFixture({ luns });
    const initiator = await fixture.login();
    const cdb = cdb10(0x2a, 0);
    cdb[1] = 0x08;
    await initiator.run(cdb, { write: BLOCK, immediate: A });
    const restarting = fixture.target.restart({ loseCache: true });
    await fixture.clock.advance(1);
    await restarting;
    expect(onDisk(fixture, 0)).toBe('A');
  });

  test('close ends everything, and twice is once', async () => {
    const fixture = await targetFixture();
    const initiator = await fixture.login();
    const closing = Promise.all([fixture.target.close(), fixture.target.close()]);
    await fixture.clock.advance(1);
    await closing;
    await initiator.waitClosed();
    await expect(fixture.login()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });
});
