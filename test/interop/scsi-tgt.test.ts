import { afterAll, beforeAll, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { systemClock } from '#core/clock.ts';
import { isOrionError } from '#core/errors.ts';
import { systemRng } from '#core/rng.ts';
import { makeIsid } from '#iscsi/isid.ts';
import type { IscsiLun } from '#iscsi/lun.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import { reportLuns } from '#iscsi/report-luns.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { ReservationType } from '#scsi/persistent-reserve.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { parseAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';

const MIB = 1024 * 1024;
const TIB = MIB * MIB;

describeWith(['tgtd'], 'SCSI commands against tgtd', () => {
  let tgtd: Tgtd;
  const open: IscsiSession[] = [];

  beforeAll(async () => {
    tgtd = await startTgtd({
      luns: [
        { sizeBytes: 64 * MIB },
        { sizeBytes: 8 * MIB, blockBytes: 4096 },
        { sizeBytes: 3 * TIB },
      ],
    });
    for (const lun of ['1', '2']) {
      const unit = ['--mode', 'logicalunit', '--tid', '1', '--lun', lun];
      await tgtd.tgtadm('--op', 'update', ...unit, '--params', 'thin_provisioning=1');
    }
  });

  afterAll(async () => {
    for (const session of open) session.destroy(new Error('the test is over'));
    await tgtd?.stop();
  });

  async function login(slot: number, initiator = 'a'): Promise<IscsiSession> {
    const session = await openSession({
      network: nodeNetwork,
      clock: systemClock,
      rng: systemRng,
      portals: tgtd.portals.map((portal) => parseAddress(portal)!),
      targetName: tgtd.targetName,
      initiatorName: `iqn.2026-11.lab:${initiator}`,
      isid: makeIsid('scsi', tgtd.targetName, slot),
    });
    open.push(session);
    return session;
  }

  const attach = async (lun: number, slot: number, initiator?: string): Promise<IscsiLun> =>
    attachLun(await login(slot, initiator), lunFromNumber(lun));

  const codeOf = (promise: Promise<unknown>): Promise<string> =>
    promise.then(
      () => 'done',
      (error: unknown) => (isOrionError(error) ? error.code : String(error)),
    );

  test('REPORT LUNS gives LUNs that can be attached as they came', async () => {
    const session = await login(1);
    const luns = await reportLuns(session);
    expect(luns.map((lun) => lun.toString('hex'))).toContain('0001000000000000');
    const lun = await attachLun(session, luns.at(-1)!);
    expect(lun.caps.blockBytes).toBeGreaterThan(0);
  });

  test('the profile is found, and COMPARE AND WRITE is not offered: the command is not there', async () => {
    const lun = await attach(1, 2);
    expect(lun.facts.quirks.profile).toBe('tgt');
    expect(lun.caps.compareAndWriteBytes).toBe(0);
    const believed = await attachLun(lun.session, lunFromNumber(1), { profile: 'standard' });
    expect(believed.caps.compareAndWriteBytes).toBe(128 * 512);
    const block = Buffer.alloc(512);
    const swap = believed.compareAndWrite(0, block, block, NO_DEADLINE);
    expect(await codeOf(swap)).toBe('SCSI_UNSUPPORTED');
  });

  test.each([
    [1, 512],
    [2, 4096],
  ])(
    'LUN %i with blocks of %i: what is written, zeroed and trimmed shows in its extents',
    async (number, blockBytes) => {
      const lun = await attach(number, 3);
      expect(lun.caps).toMatchObject({ blockBytes, trim: true, extents: true });
      const data = Buffer.alloc(MIB, 0x5a);
      await lun.write(MIB, data, 0, NO_DEADLINE);
      await lun.write(3 * MIB, data, 0, NO_DEADLINE);
      await lun.flush(NO_DEADLINE);
      await lun.trim(MIB, MIB / 2, 0, NO_DEADLINE);
      await lun.writeZeroes(3 * MIB, MIB, 0, NO_DEADLINE);
      const into = Buffer.alloc(MIB, 1);
      await lun.read(MIB, into, NO_DEADLINE);
      expect(into.subarray(0, MIB / 2).every((byte) => byte === 0)).toBe(true);
      expect(into.subarray(MIB / 2).equals(data.subarray(MIB / 2))).toBe(true);
      await lun.read(3 * MIB, into, NO_DEADLINE);
      expect(into.every((byte) => byte === 0)).toBe(true);
      const extents = await lun.extents(0, 8 * MIB, NO_DEADLINE);
      expect(extents[0]!.offset).toBe(0);
      extents.slice(1).forEach((extent, i) => {
        expect(extent.offset).toBe(extents[i]!.offset + extents[i]!.length);
      });
      const at = (offset: number) =>
        extents.find((extent) => extent.offset <= offset && offset < extent.offset + extent.length);
      expect(at(MIB + MIB / 2)).toMatchObject({ allocated: true });
      expect(at(MIB)).toMatchObject({ allocated: false, zero: true });
    },
  );

  test('blocks beyond 2 TiB are read and written with 16-byte commands', async () => {
    const lun = await attach(3, 4);
    expect(lun.caps.sizeBytes).toBe(3 * TIB);
    const data = Buffer.from('beyond two tebibytes'.padEnd(4096, '.'));
    const offset = 3 * TIB - 4096;
    await lun.write(offset, data, 0, NO_DEADLINE);
    const into = Buffer.alloc(4096);
    await lun.read(offset, into, NO_DEADLINE);
    expect(into.equals(data)).toBe(true);
    await lun.read(offset % (2 * TIB), into, NO_DEADLINE);
    expect(into.every((byte) => byte === 0)).toBe(true);
  });

  test('a copy goes through us where the target knows no EXTENDED COPY', async () => {
    const from = await attach(1, 5);
    const to = await attachLun(from.session, lunFromNumber(3));
    const data = Buffer.alloc(2 * MIB + 4096, 7);
    await from.write(8 * MIB, data, 0, NO_DEADLINE);
    expect(await from.copyTo(to, 8 * MIB, MIB, data.length, NO_DEADLINE)).toEqual({
      offloadedBytes: 0,
    });
    const into = Buffer.alloc(data.length);
    await to.read(MIB, into, NO_DEADLINE);
    expect(into.equals(data)).toBe(true);
  });

  test('a reservation keeps others from writing, and a preempted path knows that it was fenced', async () => {
    const ours = await attach(1, 6, 'ours');
    const theirs = await attach(1, 7, 'theirs');
    const block = Buffer.alloc(512, 9);
    const write = (lun: IscsiLun) => codeOf(lun.write(0, block, 0, NO_DEADLINE));
    await ours.reservations.register(0xaaaan);
    await theirs.reservations.register(0xbbbbn);
    const { keys } = await ours.reservations.readKeys();
    expect([...keys].sort()).toEqual([0xaaaan, 0xbbbbn]);
    await ours.reservations.reserve(ReservationType.WriteExclusive);
    const { held } = await theirs.reservations.readReservation();
    expect(held).toMatchObject({ key: 0xaaaan, type: ReservationType.WriteExclusive });
    expect(await write(ours)).toBe('done');
    expect(await write(theirs)).toBe('SCSI_RESERVATION_CONFLICT');
    const capabilities = await ours.reservations.capabilities();
    expect(capabilities.types).toContain(ReservationType.WriteExclusive);
    expect(await codeOf(theirs.reservations.release(ReservationType.WriteExclusive))).toBe('done');
    expect(await write(theirs)).toBe('SCSI_RESERVATION_CONFLICT');
    await theirs.reservations.preempt(0xaaaan, ReservationType.WriteExclusive);
    expect(await write(theirs)).toBe('done');
    expect(await write(ours)).toBe('SCSI_RESERVATION_CONFLICT');
    await theirs.reservations.clear();
    expect((await theirs.reservations.readKeys()).keys).toEqual([]);
    expect(await codeOf(theirs.flush(NO_DEADLINE))).toBe('done');
  });
});
