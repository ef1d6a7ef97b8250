import { describe, expect, test } from 'vitest';
import { LoginStage, LogoutAnswer, Opcode, RejectReason } from '../iscsi/pdu/opcodes.ts';
import type { TextPair } from '../iscsi/text.ts';
import type { RawInitiator, RawLoginOptions } from '../testkit/raw-initiator.ts';
import { TARGET_NAME, type TargetFixture, targetFixture } from '../testkit/target-fixture.ts';

const BLOCK = 512;
const WRITE_ONE = [0x2a, 0, 0, 0, 0, 5, 0, 0, 1, 0];
const MANY: TextPair[] = [['MaxConnections', '4']];
const { Operational, FullFeature } = LoginStage;

const many = (params: object = {}): Promise<TargetFixture> =>
  targetFixture({ params: { maxConnections: 4, ...params } });

/** One more connection of the session that `first` began. */
async function add(
  fixture: TargetFixture,
  first: RawInitiator,
  cid: number,
  options: RawLoginOptions & { portal?: number } = {},
): Promise<RawInitiator> {
  const next = (await fixture.connect(options.portal)).joins(first);
  await next.login({ tsih: first.tsih, cid, ...options });
  return next;
}

async function refusal(
  fixture: TargetFixture,
  first: RawInitiator,
  options: RawLoginOptions & { portal?: number },
): Promise<string> {
  return add(fixture, first, options.cid ?? 1, options).then(
    () => 'accepted',
    (error: Error) => error.message,
  );
}

describe('a session of several connections', () => {
  test('grows to what was agreed on, and one more is refused', async () => {
    const fixture = await many({ maxConnections: 3 });
    const first = await fixture.login({ keys: MANY });
    for (const cid of [7, 65535]) await add(fixture, first, cid);
    expect(await refusal(fixture, first, { cid: 9 })).toBe('login refused: 2/6');
    const [session] = fixture.target.sessions();
    expect(session?.connections.map(({ cid }) => cid)).toEqual([0, 7, 65535]);
    expect(fixture.target.sessions()).toHaveLength(1);
  });

  test('is not found by a wrong TSIH, ISID, name or portal group', async () => {
    const fixture = await many();
    const first = await fixture.login({ keys: MANY });
    const wrong: (RawLoginOptions & { portal?: number })[] = [
      { tsih: first.tsih + 1 },
      { isid: '800000000002' },
      { initiatorName: 'iqn.2026-11.test:other' },
      { portal: 1 },
    ];
    for (const options of wrong) {
      expect(await refusal(fixture, first, options)).toBe('login refused: 2/10');
    }
  });

  test('has its keys settled by the first connection; each has digests and lengths of its own', async () => {
    const fixture = await many({ headerDigest: 'CRC32C,None' });
    const first = await fixture.login({ keys: MANY });
    const late: TextPair[] = [['MaxBurstLength', '65536']];
    expect(await refusal(fixture, first, { keys: late })).toBe('login refused: 2/0');
    const own: TextPair[] = [['MaxRecvDataSegmentLength', '512']];
    const second = await add(fixture, first, 1, { keys: own });
    second.command([0x28, 0, 0, 0, 0, 0, 0, 0, 3, 0], { read: 3 * BLOCK });
    for (let i = 0; i < 3; i++) {
      expect((await second.next(Opcode.DataIn)).pdu.dataSegmentLength).toBe(BLOCK);
    }
  });

  test('executes commands in the order of CmdSN, whichever connection brings them', async () => {
    const fixture = await many();
    const first = await fixture.login({ keys: MANY });
    const second = await add(fixture, first, 1);
    const { cmdSn } = first;
    second.command(WRITE_ONE, {
      write: BLOCK,
      immediate: Buffer.alloc(BLOCK, 2),
      cmdSn: cmdSn + 1,
    });
    await fixture.clock.advance(1000);
    expect(second.received).toEqual([]);
    first.command(WRITE_ONE, { write: BLOCK, immediate: Buffer.alloc(BLOCK, 1), cmdSn });
    await first.next(Opcode.ScsiResponse);
    await second.next(Opcode.ScsiResponse);
    const block = Buffer.alloc(BLOCK);
    fixture.target.disk(0).read(5 * BLOCK, block);
    expect(block[0]).toBe(2);
  });

  test('keeps the unsolicited data of a command that has to wait for its turn (§11.7)', async () => {
    for (const errorRecoveryLevel of [0, 1]) {
      const fixture = await many({ immediateData: false, errorRecoveryLevel });
      const keys: TextPair[] = [...MANY, ['InitialR2T', 'No'], ['FirstBurstLength', '512']];
      if (errorRecoveryLevel > 0) keys.push(['ErrorRecoveryLevel', '1']);
      const first = await fixture.login({ keys });
      const second = await add(fixture, first, 1);
      const { cmdSn } = first;
      const late = { write: BLOCK, final: false, cmdSn: cmdSn + 1 };
      const itt = second.command(WRITE_ONE, late);
      second.dataOut(itt, Buffer.alloc(256, 2), { final: false });
      second.dataOut(itt, Buffer.alloc(256, 3), { offset: 256, dataSn: 1 });
      await fixture.clock.advance(1000);
      // The same command once more, as one that closes a gap: it changes nothing (§7.2.1).
      second.command(WRITE_ONE, { ...late, itt });
      await fixture.clock.advance(1000);
      expect(second.received).toEqual([]);
      first.command([0], { cmdSn });
      expect((await second.next(Opcode.ScsiResponse)).pdu.status).toBe(0);
      const block = Buffer.alloc(BLOCK);
      fixture.target.disk(0).read(5 * BLOCK, block);
      expect([block[0], block[255], block[256], block[511]]).toEqual([2, 2, 3, 3]);
    }
  });

  test('ends when more unsolicited data wait for a turn than the first burst may have', async () => {
    const fixture = await many({ immediateData: false });
    const keys: TextPair[] = [...MANY, ['InitialR2T', 'No'], ['FirstBurstLength', '512']];
    const first = await fixture.login({ keys });
    const second = await add(fixture, first, 1);
    const late = { write: 2 * BLOCK, final: false, cmdSn: first.cmdSn + 1 };
    const itt = second.command([0x2a, 0, 0, 0, 0, 5, 0, 0, 2, 0], late);
    second.dataOut(itt, Buffer.alloc(2 * BLOCK));
    await second.waitClosed();
    expect(fixture.target.bufferBytes).toBe(0);
  });

  test('numbers the answers of each connection apart', async () => {
    const fixture = await many();
    const first = await fixture.login({ keys: MANY });
    const second = await add(fixture, first, 1);
    const before = second.expStatSn;
    for (let i = 0; i < 3; i++) await first.run([0]);
    second.cmdSn = first.cmdSn;
    second.command([0]);
    expect((await second.next(Opcode.ScsiResponse)).pdu.statSn).toBe(before);
  });

  test('takes the data of a task over the connection of its command alone', async () => {
    const fixture = await many();
    const first = await fixture.login({ keys: MANY });
    const second = await add(fixture, first, 1);
    const itt = first.command(WRITE_ONE, { write: BLOCK });
    const { pdu } = await first.next(Opcode.R2t);
    second.dataOut(itt, Buffer.alloc(BLOCK), { ttt: pdu.ttt });
    expect((await second.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.InvalidPduField);
    first.dataOut(itt, Buffer.alloc(BLOCK), { ttt: pdu.ttt });
    expect((await first.next(Opcode.ScsiResponse)).pdu.status).toBe(0);
  });

  test('goes on without a connection that broke, whose early commands are sent again', async () => {
    const fixture = await many();
    const first = await fixture.login({ keys: MANY });
    const second = await add(fixture, first, 1);
    second.command([0], { cmdSn: first.cmdSn + 1 });
    await fixture.clock.advance(100);
    second.drop();
    await fixture.clock.advance(100);
    await first.run([0]);
    await first.run([0]);
    expect(fixture.target.sessions()[0]?.connections).toHaveLength(1);
  });
});

describe('a CID that is in use', () => {
  test('is reinstated: the old connection is over, its open writes end, the session stays', async () => {
    const fixture = await many();
    const first = await fixture.login({ keys: MANY });
    const second = await add(fixture, first, 1);
    second.command(WRITE_ONE, { write: BLOCK });
    await second.next(Opcode.R2t);
    first.cmdSn = second.cmdSn;
    const again = await add(fixture, first, 1);
    await second.waitClosed();
    again.cmdSn = first.cmdSn;
    expect((await again.run([0])).status).toBe(0);
    expect(fixture.target.sessions()[0]).toMatchObject({ tsih: first.tsih, tasks: 0 });
  });

  test('is reinstated even where a session has one connection', async () => {
    const fixture = await targetFixture();
    const first = await fixture.login();
    const again = await add(fixture, first, 0);
    again.cmdSn = first.cmdSn;
    expect((await again.run([0])).status).toBe(0);
    expect(fixture.target.sessions()).toHaveLength(1);
  });
});

describe('a logout', () => {
  test('of one connection leaves the others; one that is not there is CID not found', async () => {
    const fixture = await many();
    const first = await fixture.login({ keys: MANY });
    const second = await add(fixture, first, 1);
    expect((await first.logout(1, 5)).response).toBe(LogoutAnswer.CidNotFound);
    expect((await first.logout(1, 1)).response).toBe(LogoutAnswer.Closed);
    await second.waitClosed();
    expect((await first.run([0])).status).toBe(0);
    const third = await add(fixture, first, 2);
    expect((await third.logout(1)).response).toBe(LogoutAnswer.Closed);
    await third.waitClosed();
    expect(fixture.target.sessions()[0]?.connections).toHaveLength(1);
  });

  test('for recovery needs error recovery level 2', async () => {
    const fixture = await many();
    const first = await fixture.login({ keys: MANY });
    expect((await first.logout(2)).response).toBe(LogoutAnswer.RecoveryNotSupported);
    expect((await first.run([0])).status).toBe(0);
  });

  test('of the session ends all connections', async () => {
    const fixture = await many();
    const first = await fixture.login({ keys: MANY });
    const second = await add(fixture, first, 1);
    expect((await second.logout(0)).response).toBe(LogoutAnswer.Closed);
    await first.waitClosed();
    await second.waitClosed();
    expect(fixture.target.sessions()).toEqual([]);
  });
});

describe('keys of sessions', () => {
  const answers = async (params: object, keys: Record<string, string>): Promise<object> => {
    const { connect } = await targetFixture({ params });
    const initiator = await connect();
    const { keys: said } = await initiator.loginStep({ csg: Operational, nsg: FullFeature }, [
      ['InitiatorName', 'iqn.2026-11.test:initiator'],
      ['TargetName', TARGET_NAME],
      ...Object.entries(keys),
    ]);
    return Object.fromEntries(said.filter(([name]) => name in keys));
  };

  test('error recovery is agreed on up to the level that was asked for', async () => {
    const offer = { ErrorRecoveryLevel: '2', DefaultTime2Wait: '1', DefaultTime2Retain: '60' };
    expect(await answers({ errorRecoveryLevel: 2, time2Wait: 3 }, offer)).toEqual({
      ErrorRecoveryLevel: '2',
      DefaultTime2Wait: '3',
      DefaultTime2Retain: '20',
    });
    expect(await answers({ errorRecoveryLevel: 1 }, offer)).toMatchObject({
      ErrorRecoveryLevel: '1',
      DefaultTime2Retain: '0',
    });
    expect(await answers({}, offer)).toMatchObject({ ErrorRecoveryLevel: '0' });
  });

  test('one R2T at a time with recovery and sequences in order', async () => {
    const offer = { MaxOutstandingR2T: '4', ErrorRecoveryLevel: '1', DataSequenceInOrder: 'No' };
    expect(await answers({ errorRecoveryLevel: 1 }, offer)).toMatchObject({
      MaxOutstandingR2T: '1',
      DataSequenceInOrder: 'Yes',
    });
    const loose = { errorRecoveryLevel: 1, dataSequenceInOrder: false };
    expect(await answers(loose, offer)).toMatchObject({
      MaxOutstandingR2T: '4',
      DataSequenceInOrder: 'No',
    });
  });

  test('task reporting and the protocol level are taken where they were allowed', async () => {
    const offer = { TaskReporting: 'FastAbort,ResponseFence,RFC3720', iSCSIProtocolLevel: '2' };
    expect(await answers({}, offer)).toEqual({ TaskReporting: 'RFC3720', iSCSIProtocolLevel: '1' });
    const modern = { taskReporting: 'RFC3720,ResponseFence,FastAbort', protocolLevel: 2 };
    expect(await answers(modern, offer)).toEqual({
      TaskReporting: 'FastAbort',
      iSCSIProtocolLevel: '2',
    });
  });
});
