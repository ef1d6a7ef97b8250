import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NO_DEADLINE, WriteFlag } from '#block/device.ts';
import { systemClock } from '#core/clock.ts';
import { isOrionError, type OrionError } from '#core/errors.ts';
import { seededRng, systemRng } from '#core/rng.ts';
import { discover } from '#iscsi/discovery.ts';
import { makeIsid } from '#iscsi/isid.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import type { OpenSessionOptions } from '#iscsi/session-options.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { formatAddress, parseAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';

const MIB = 1024 * 1024;
const INITIATOR = 'iqn.2026-11.lab:initiator';

describeWith(['tgtd'], 'the initiator against tgtd', () => {
  let tgtd: Tgtd;
  const open: IscsiSession[] = [];

  beforeAll(async () => {
    tgtd = await startTgtd({
      portals: 2,
      luns: [{ sizeBytes: 64 * MIB }, { sizeBytes: 8 * MIB, blockBytes: 4096 }],
    });
    await tgtd.tgtadm(
      '--op',
      'update',
      '--mode',
      'logicalunit',
      '--tid',
      '1',
      '--lun',
      '1',
      '--params',
      'thin_provisioning=1',
    );
  });

  afterAll(async () => {
    for (const session of open) session.destroy(new Error('the test is over'));
    await tgtd?.stop();
  });

  const options = (slot: number, over: Partial<OpenSessionOptions> = {}): OpenSessionOptions => ({
    network: nodeNetwork,
    clock: systemClock,
    rng: systemRng,
    portals: tgtd.portals.map((portal) => parseAddress(portal)!),
    targetName: tgtd.targetName,
    initiatorName: INITIATOR,
    isid: makeIsid('interop', tgtd.targetName, slot),
    ...over,
  });

  const login = async (slot: number, over: Partial<OpenSessionOptions> = {}) => {
    const session = await openSession(options(slot, over));
    open.push(session);
    return session;
  };

  const failure = async (promise: Promise<unknown>): Promise<OrionError> => {
    const error: unknown = await promise.then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(isOrionError(error)).toBe(true);
    return error as OrionError;
  };

  test('discovery lists the target with a portal of its own, and logs out', async () => {
    const found = await discover({ ...options(100), portals: options(100).portals.slice(0, 1) });
    expect(found).toHaveLength(1);
    expect(found[0]!.name).toBe(tgtd.targetName);
    // tgt tells one portal of those that it has.
    const portals = found[0]!.portals.map(({ address }) => formatAddress(address));
    expect(portals.length).toBeGreaterThan(0);
    for (const portal of portals) expect(tgtd.portals).toContain(portal);
    expect(found[0]!.portals.every(({ tpgt }) => tpgt === 1)).toBe(true);
  });

  test('a LUN is attached with its identity, size and abilities', async () => {
    const session = await login(1);
    expect(session).toMatchObject({ remoteTpgt: 1, state: 'open', portal: tgtd.portals[0] });
    expect(session.tsih).not.toBe(0);
    const lun = await attachLun(session, lunFromNumber(1));
    expect(lun.caps).toMatchObject({
      sizeBytes: 64 * MIB,
      blockBytes: 512,
      trim: true,
      readOnly: false,
    });
    expect(lun.identity).toMatchObject({ vendor: 'IET', product: 'VIRTUAL-DISK' });
    expect(lun.identity.wwid).toMatch(/^naa:[0-9a-f]{32}$/);
    const other = await attachLun(session, lunFromNumber(2));
    expect(other.caps).toMatchObject({ sizeBytes: 8 * MIB, blockBytes: 4096 });
    expect(other.identity.wwid).not.toBe(lun.identity.wwid);
    await session.logout({ timeoutMs: 5000 });
    expect(session.state).toBe('closed');
  });

  test('the controller at LUN 0 is no disk, and a LUN that is not there says so', async () => {
    const session = await login(1);
    const controller = await failure(attachLun(session, lunFromNumber(0)));
    expect(controller.describe()).toMatch(/SCSI_NO_LUN: .*no disk/);
    expect((await failure(attachLun(session, lunFromNumber(9)))).code).toBe('SCSI_NO_LUN');
    await session.logout({ timeoutMs: 5000 });
  });

  test('a wrong target name and a port without listener are told apart', async () => {
    const wrong = await failure(openSession(options(1, { targetName: 'iqn.2026-11.lab:nobody' })));
    expect(wrong.code).toBe('ISCSI_LOGIN_REFUSED');
    expect(wrong.message).toMatch(/target not found/);
    const portals = [parseAddress('127.0.0.1:1')!];
    const nobody = await failure(openSession(options(1, { portals })));
    expect(nobody).toMatchObject({ code: 'ISCSI_CONNECT_FAILED', outcome: 'not-executed' });
    expect(nobody.message).toContain('127.0.0.1:1');
    // The next portal is tried.
    const session = await login(1, { portals: [...portals, ...options(1).portals] });
    expect(session.portal).toBe(tgtd.portals[0]);
    await session.logout({ timeoutMs: 5000 });
  });

  describe.each([
    ['small segments, R2T only', { InitialR2T: true, ImmediateData: false }],
    ['immediate data', { InitialR2T: true, ImmediateData: true }],
    ['unsolicited data', { InitialR2T: false, ImmediateData: false, FirstBurstLength: 65536 }],
    ['both', { InitialR2T: false, ImmediateData: true }],
  ])('with %s', (_, params) => {
    test('many reads and writes of many sizes at once leave what was written', async () => {
      // tgt says Yes to InitialR2T by default; it follows our No when told to.
      await tgtd.tgtadm(
        '--op',
        'update',
        '--mode',
        'target',
        '--tid',
        '1',
        '-n',
        'InitialR2T',
        '-v',
        params.InitialR2T ? 'Yes' : 'No',
      );
      const session = await login(2, { params });
      expect(session.login.params.InitialR2T).toBe(params.InitialR2T);
      expect(session.login.params.ImmediateData).toBe(params.ImmediateData);
      const lun = await attachLun(session, lunFromNumber(1));
      const rng = seededRng(1);
      const sizes = [512, 1024, 4096, 12288, 65536, 131072 + 512, MIB, 4 * MIB];
      const area = 4 * MIB;
      const workers = Array.from({ length: 12 }, async (__, worker) => {
        const base = worker * area;
        const image = Buffer.alloc(area);
        await lun.write(base, image, 0, NO_DEADLINE);
        for (let round = 0; round < 24; round++) {
          const size = sizes[rng.u32() % sizes.length]!;
          const at = (rng.u32() % ((area - size) / 512 + 1)) * 512;
          if (rng.u32() % 2 === 0) {
            rng.fill(image.subarray(at, at + Math.min(size, 4096)));
            image.fill(rng.u32() & 0xff, at + Math.min(size, 4096), at + size);
            const flags = rng.u32() % 4 === 0 ? WriteFlag.Fua : 0;
            await lun.write(base + at, image.subarray(at, at + size), flags, NO_DEADLINE);
          } else {
            const into = Buffer.alloc(size, 0xee);
            await lun.read(base + at, into, NO_DEADLINE);
            expect(into.equals(image.subarray(at, at + size))).toBe(true);
          }
        }
        const whole = Buffer.alloc(area);
        await lun.read(base, whole, NO_DEADLINE);
        expect(whole.equals(image)).toBe(true);
      });
      await Promise.all(workers);
      await lun.flush(NO_DEADLINE);
      expect(session.stats.inflight).toBe(0);
      await session.logout({ timeoutMs: 5000 });
    });
  });

  test('flush, trim, zeroes, probe', async () => {
    const session = await login(3);
    const lun = await attachLun(session, lunFromNumber(1));
    const data = Buffer.alloc(2 * MIB, 0x5a);
    await lun.write(0, data, 0, NO_DEADLINE);
    await lun.flush(NO_DEADLINE);
    await lun.writeZeroes(512, MIB, 0, NO_DEADLINE);
    await lun.writeZeroes(MIB + 4096, 8192, WriteFlag.NoHole, NO_DEADLINE);
    const into = Buffer.alloc(2 * MIB);
    await lun.read(0, into, NO_DEADLINE);
    data.fill(0, 512, 512 + MIB).fill(0, MIB + 4096, MIB + 4096 + 8192);
    expect(into.equals(data)).toBe(true);
    await lun.trim(0, MIB, 0, NO_DEADLINE);
    await lun.probe(NO_DEADLINE);
    await session.logout({ timeoutMs: 5000 });
  });

  test('a LOGICAL UNIT RESET under load terminates or completes each command, and the path goes on', async () => {
    const session = await login(4);
    const lun = await attachLun(session, lunFromNumber(1));
    const buffer = Buffer.alloc(65536, 1);
    const outcomes = Array.from({ length: 64 }, (_, i) =>
      lun.write((i % 32) * 65536, buffer, 0, NO_DEADLINE).then(
        () => 'done',
        (error: OrionError) => error.outcome,
      ),
    );
    await lun.lunReset(10_000);
    lun.abandon();
    const seen = new Set(await Promise.all(outcomes));
    for (const outcome of seen) expect(['done', 'terminated', 'not-executed']).toContain(outcome);
    await lun.write(0, buffer, 0, NO_DEADLINE);
    const into = Buffer.alloc(65536);
    await lun.read(0, into, NO_DEADLINE);
    expect(into.equals(buffer)).toBe(true);
    expect(session.state).toBe('open');
    await session.logout({ timeoutMs: 5000 });
  });

  test('a login with the same ISID ends the older session; its commands are unknown or done, never silent', async () => {
    const first = await login(5);
    const lun = await attachLun(first, lunFromNumber(1));
    const closed = new Promise<Error>((resolve) => first.onClosed(resolve));
    const seen = Array.from({ length: 32 }, (_, i) =>
      lun.write(i * 65536, Buffer.alloc(65536, 7), 0, NO_DEADLINE).then(
        () => 'done',
        (error: OrionError) => error.outcome,
      ),
    );
    const second = await login(5);
    expect((await closed).message).toMatch(/closed the connection|broke/);
    expect(first.state).toBe('closed');
    for (const outcome of await Promise.all(seen))
      expect(['done', 'unknown', 'not-executed']).toContain(outcome);
    const again = await attachLun(second, lunFromNumber(1));
    expect(again.identity).toEqual(lun.identity);
    // Another slot is another nexus, and disturbs nobody.
    const third = await login(6);
    await again.probe(NO_DEADLINE);
    expect(second.state).toBe('open');
    await third.logout({ timeoutMs: 5000 });
    await second.logout({ timeoutMs: 5000 });
  });

  test('a target that is killed loses the session at once; one that is frozen is found out by pings', async () => {
    // Longer than a busy machine keeps a living target, or us, from an answer.
    const session = await login(7, { timeouts: { nopIntervalMs: 300, nopTimeoutMs: 5000 } });
    const lun = await attachLun(session, lunFromNumber(1));
    const lost = new Promise<Error>((resolve) => lun.onLost(resolve));
    tgtd.kill('SIGSTOP');
    const write = failure(lun.write(0, Buffer.alloc(4096), 0, NO_DEADLINE));
    expect(await lost).toMatchObject({ code: 'ISCSI_NOP_TIMEOUT' });
    expect((await write).outcome).toBe('unknown');
    tgtd.kill('SIGCONT');

    const next = await login(7);
    const killed = new Promise<Error>((resolve) => next.onClosed(resolve));
    await tgtd.restart();
    expect(await killed).toMatchObject({ code: 'ISCSI_CONNECTION_LOST' });
    const after = await login(7);
    await attachLun(after, lunFromNumber(1));
    await after.logout({ timeoutMs: 5000 });
  });
});
