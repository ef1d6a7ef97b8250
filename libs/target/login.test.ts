import { describe, expect, test } from 'vitest';
import { LoginStage, Opcode, RejectReason } from '../iscsi/pdu/opcodes.ts';
import type { TextPair } from '../iscsi/text.ts';
import { TARGET_NAME, targetFixture } from '../testkit/target-fixture.ts';
import type { startTarget } from './target.ts';

const INITIATOR = 'iqn.2026-11.test:initiator';
const NAMES: TextPair[] = [
  ['InitiatorName', INITIATOR],
  ['TargetName', TARGET_NAME],
];
const { Security, Operational, FullFeature } = LoginStage;

async function statusOf(
  keys: readonly TextPair[],
  options: { csg?: number; nsg?: number; tsih?: number } = {},
): Promise<string> {
  const { connect } = await targetFixture();
  const initiator = await connect();
  const stage = { csg: options.csg ?? Operational, nsg: options.nsg ?? FullFeature };
  const { pdu } = await initiator.loginStep(stage, keys, { tsih: options.tsih ?? 0 });
  const status = `${pdu.statusClass}.${pdu.statusDetail}`;
  if (pdu.statusClass !== 0) await initiator.waitClosed();
  return status;
}

describe('the login phase', () => {
  test('passes the security and the operational stage and ends in a session', async () => {
    const { connect, target } = await targetFixture();
    const initiator = await connect();
    const first = await initiator.loginStep({ csg: Security, nsg: Operational }, [
      ...NAMES,
      ['AuthMethod', 'CHAP,None'],
    ]);
    expect(first.pdu).toMatchObject({ transit: true, csg: 0, nsg: 1, tsih: 0, statusClass: 0 });
    expect(first.keys).toEqual([
      ['AuthMethod', 'None'],
      ['TargetPortalGroupTag', '1'],
    ]);
    const second = await initiator.loginStep({ csg: Operational, nsg: FullFeature }, [
      ['HeaderDigest', 'CRC32C,None'],
      ['InitialR2T', 'No'],
      ['MaxBurstLength', '65536'],
      ['X-com.example.key', '1'],
      ['IFMarker', 'No'],
    ]);
    expect(second.pdu.transit).toBe(true);
    expect(second.pdu.tsih).not.toBe(0);
    expect(second.keys).toEqual([
      ['HeaderDigest', 'None'],
      ['InitialR2T', 'No'],
      ['MaxBurstLength', '65536'],
      ['X-com.example.key', 'NotUnderstood'],
      ['IFMarker', 'Reject'],
      ['MaxRecvDataSegmentLength', '262144'],
    ]);
    expect(target.sessions()).toMatchObject([
      { initiatorName: INITIATOR, isid: '800000000001', type: 'Normal', tpgt: 1, portal: 0 },
    ]);
  });

  test('stays in its stage while the initiator does', async () => {
    const { connect } = await targetFixture();
    const initiator = await connect();
    const stay = { csg: Operational, nsg: 0, transit: false };
    const first = await initiator.loginStep(stay, NAMES);
    expect(first.pdu).toMatchObject({ transit: false, statusClass: 0 });
    const last = await initiator.loginStep({ csg: Operational, nsg: FullFeature }, []);
    expect(last.pdu.tsih).not.toBe(0);
  });

  test('joins text that goes on in the next request', async () => {
    const { connect } = await targetFixture();
    const initiator = await connect();
    const open = { csg: Operational, nsg: 0, transit: false, continue: true };
    const first = await initiator.loginStep(open, [['InitiatorName', INITIATOR]]);
    expect(first).toMatchObject({ pdu: { transit: false, continue: false }, keys: [] });
    const last = await initiator.loginStep({ csg: Operational, nsg: FullFeature }, [
      ['TargetName', TARGET_NAME],
    ]);
    expect(last.pdu).toMatchObject({ statusClass: 0, transit: true });
  });

  test('refuses what RFC 7143 §11.13.5 has a status for', async () => {
    const name: TextPair = ['InitiatorName', INITIATOR];
    expect(await statusOf([name, ['TargetName', 'iqn.2026-11.test:other']])).toBe('2.3');
    expect(await statusOf([['TargetName', TARGET_NAME]])).toBe('2.7');
    expect(await statusOf([name])).toBe('2.7');
    expect(await statusOf([name, ['SessionType', 'Strange']])).toBe('2.9');
    expect(await statusOf(NAMES, { tsih: 77 })).toBe('2.10');
    expect(await statusOf([...NAMES, ['AuthMethod', 'CHAP']], { csg: Security })).toBe('2.1');
    expect(await statusOf([...NAMES, ['MaxBurstLength', '1'], ['MaxBurstLength', '2']])).toBe(
      '2.0',
    );
    expect(await statusOf([...NAMES, ['InitialR2T', 'No']], { csg: Security })).toBe('2.0');
    expect(await statusOf([...NAMES, ['MaxRecvDataSegmentLength', '1']])).toBe('2.0');
    expect(await statusOf(NAMES, { csg: Operational, nsg: Operational })).toBe('2.0');
  });

  test('a connection that begins with something else is dropped', async () => {
    const { connect } = await targetFixture();
    const initiator = await connect();
    initiator.raw(Buffer.alloc(48));
    expect(await initiator.waitClosed()).toMatchObject({ code: 'ECONNRESET' });
  });

  test('a connection that never logs in is dropped', async () => {
    const { connect, clock } = await targetFixture();
    const initiator = await connect();
    await clock.advance(15_000);
    expect(await initiator.waitClosed()).toMatchObject({ code: 'ECONNRESET' });
  });

  test('works byte by byte', async () => {
    const { login } = await targetFixture({ link: { fragmentBytesMax: 3 } });
    const initiator = await login();
    expect((await initiator.run([0x00])).status).toBe(0);
  });
});

describe('a discovery session', () => {
  test('lists every portal with its group, and serves no SCSI', async () => {
    const { login } = await targetFixture();
    const initiator = await login({ discovery: true });
    expect(await initiator.text([['SendTargets', 'All']])).toEqual([
      ['TargetName', TARGET_NAME],
      ['TargetAddress', 'target:3260,1'],
      ['TargetAddress', 'target:3261,2'],
    ]);
    expect(await initiator.text([['SendTargets', 'iqn.2026-11.test:other']])).toEqual([]);
    initiator.command([0x00]);
    const { pdu } = await initiator.next(Opcode.Reject);
    expect(pdu.reason).toBe(RejectReason.CommandNotSupported);
    expect((await initiator.logout()).response).toBe(0);
    expect(await initiator.waitClosed()).toBeNull();
  });

  test('an answer longer than the initiator takes comes in parts', async () => {
    const portals = Array.from({ length: 40 }, (_, i) => ({
      address: { kind: 'tcp', host: 'target', port: 4000 + i } as const,
    }));
    const { login } = await targetFixture({ portals });
    const initiator = await login({
      discovery: true,
      keys: [['MaxRecvDataSegmentLength', '512']],
    });
    const answer = await initiator.text([['SendTargets', 'All']]);
    expect(answer.length).toBe(41);
    expect(answer[40]).toEqual(['TargetAddress', 'target:4039,1']);
  });
});

describe('sessions', () => {
  test('a login with the same ISID to the same group reinstates the session', async () => {
    const { login, target } = await targetFixture();
    const old = await login();
    const young = await login({ keepAttention: true });
    await old.waitClosed();
    expect(young.tsih).not.toBe(old.tsih);
    expect(target.sessions().length).toBe(1);
    expect((await young.run([0x00])).sense).toBe('06/29/07');
  });

  test('another ISID, another group or another name is another session', async () => {
    const { login, target } = await targetFixture();
    await login();
    await login({ isid: '800000000002' });
    await login({ portal: 1 });
    await login({ initiatorName: 'iqn.2026-11.test:second' });
    expect(target.sessions().length).toBe(4);
  });

  test('a normal session may ask for its own target only', async () => {
    const { login } = await targetFixture();
    const initiator = await login();
    expect((await initiator.text([['SendTargets', '']]))[0]).toEqual(['TargetName', TARGET_NAME]);
    expect(await initiator.text([['SendTargets', 'All']])).toEqual([['SendTargets', 'Reject']]);
  });

  test('logout ends the session in order; recovery logout is refused', async () => {
    const { login, target } = await targetFixture();
    const initiator = await login();
    expect((await initiator.logout(2)).response).toBe(2);
    expect((await initiator.logout(0)).response).toBe(0);
    expect(await initiator.waitClosed()).toBeNull();
    expect(target.sessions()).toEqual([]);
  });
});

describe('options', () => {
  test('bad ones are named', async () => {
    const cases = [
      [{ targetName: 'disk1' }, 'target name "disk1"'],
      [{ portals: [] }, 'a target needs a portal'],
      [{ luns: [{ lun: 0, sizeBytes: 1000 }] }, 'multiple of 512'],
      [{ luns: [{ lun: 0, sizeBytes: 512, wwid: 'x' }] }, 'wwid'],
      [{ params: { maxBurstLength: 100 } }, 'MaxBurstLength is 512 to 16777215'],
      [{ params: { firstBurstLength: 2_000_000 } }, 'may not exceed'],
      [{ params: { commandWindow: 0 } }, 'commandWindow is 1 to'],
    ] as const;
    for (const [options, text] of cases) {
      const starting = targetFixture(options as Parameters<typeof startTarget>[0]);
      await expect(starting).rejects.toMatchObject({ code: 'TARGET_BAD_OPTION' });
      await expect(starting).rejects.toThrow(text);
    }
  });
});
