import { afterAll, beforeAll, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { sleep, systemClock } from '#core/clock.ts';
import { seededRng, systemRng } from '#core/rng.ts';
import type { IscsiLun } from '#iscsi/lun.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { AccessState } from '#multipath/access.ts';
import { MultipathDevice } from '#multipath/device.ts';
import { PathState } from '#multipath/path.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { ReservationType } from '#scsi/persistent-reserve.ts';
import { AluaState } from '#scsi/target-port-groups.ts';
import { type Lio, LioAccess, startLio, whyNoLio } from '#testkit/lio.ts';
import { describeUnless } from '#testkit/requires.ts';
import { failureOf, sessionOptions } from './real-session.ts';

const MIB = 1024 * 1024;

/** A change of state must have reached both paths in this time: a probe a second, and a slow machine. */
const FOLLOW_MS = 60_000;

describeUnless(await whyNoLio(), 'SCSI commands against LIO', () => {
  let lio: Lio;
  const open: IscsiSession[] = [];

  beforeAll(async () => {
    lio = await startLio({
      portals: 2,
      groups: [{ portals: [0] }, { portals: [1] }],
      alua: true,
      luns: [
        { sizeBytes: 64 * MIB, attributes: { emulate_tpu: 1, emulate_tpws: 1, emulate_3pc: 1 } },
        { sizeBytes: 64 * MIB, attributes: { emulate_3pc: 1 } },
      ],
    });
  });

  afterAll(async () => {
    for (const session of open) session.destroy(new Error('the test is over'));
    await lio?.stop();
  });

  async function attach(portal: number, slot: number, lun = 0, who = 'a'): Promise<IscsiLun> {
    const at = { targetName: lio.targetName, portals: [lio.portals[portal]!] };
    const initiatorName = `iqn.2026-11.lab:${who}`;
    const session = await openSession(sessionOptions(at, slot, { initiatorName }));
    open.push(session);
    return attachLun(session, lunFromNumber(lun));
  }

  function volumeOver(...paths: IscsiLun[]): MultipathDevice {
    const volume = new MultipathDevice({
      name: 'v',
      caps: paths[0]!.caps,
      clock: systemClock,
      rng: systemRng,
      policy: 'round-robin',
      noPathRetryMs: FOLLOW_MS,
      noPathQueueBytes: 16 * MIB,
      probeIdleMs: 1_000,
      onPathLost: () => {},
    });
    paths.forEach((path, slot) => {
      volume.addPath(slot, path, { portal: path.session.portal, worker: 'here' });
    });
    return volume;
  }

  async function until(what: string, done: () => boolean): Promise<void> {
    const end = systemClock.nowMs() + FOLLOW_MS;
    while (!done()) {
      expect(systemClock.nowMs(), what).toBeLessThan(end);
      await sleep(systemClock, 20);
    }
  }

  test('the port group of each portal is known from the login', async () => {
    await lio.setAccess(LioAccess.ActiveOptimized, 1);
    await lio.setAccess(LioAccess.Standby, 2);
    const [one, two] = [await attach(0, 1), await attach(1, 2)];
    expect(one.facts.quirks.profile).toBe('lio');
    expect(one.facts.tpgs).toBe(3);
    expect(one.access.state).toBe(AccessState.Optimized);
    expect(two.access.state).toBe(AccessState.Standby);
    expect(one.access.group).not.toBe(two.access.group);
    expect(one.identity.wwid).toBe(two.identity.wwid);
  });

  test('two port groups change places under load: no client sees an error, and no byte is wrong', async () => {
    await lio.setAccess(LioAccess.ActiveOptimized, 1);
    await lio.setAccess(LioAccess.Standby, 2);
    const paths = [await attach(0, 3), await attach(1, 4)];
    const volume = volumeOver(...paths);
    let stop = false;
    let done = 0;
    /** Writes a block of its own again and again, and reads it back. */
    const client = async (index: number): Promise<void> => {
      const rng = seededRng(index);
      const data = Buffer.alloc(4096);
      const into = Buffer.alloc(4096);
      while (!stop) {
        rng.fill(data);
        await volume.write(index * 4096, data, 0, NO_DEADLINE);
        await volume.read(index * 4096, into, NO_DEADLINE);
        expect(into.equals(data)).toBe(true);
        done += 1;
      }
    };
    const clients = Array.from({ length: 8 }, (_, index) => client(index));
    const failed = Promise.race(clients);
    const states = (): string[] => volume.paths.map(({ access }) => access.state);
    const follow = async (first: LioAccess, second: LioAccess, wanted: string[]): Promise<void> => {
      // First the better one is opened, as an array does it.
      const order = first === LioAccess.ActiveOptimized ? [1, 2] : [2, 1];
      for (const tag of order) await lio.setAccess(tag === 1 ? first : second, tag);
      await Promise.race([
        failed,
        until(`access ${wanted}`, () => states().join() === wanted.join()),
      ]);
      const before = done;
      await Promise.race([failed, until('I/O goes on', () => done > before + 20)]);
    };
    try {
      await follow(LioAccess.Standby, LioAccess.ActiveOptimized, [
        AccessState.Standby,
        AccessState.Optimized,
      ]);
      expect(volume.paths[0]!.state).toBe(PathState.Ghost);
      const idle = volume.paths[0]!.writes;
      const busy = volume.paths[1]!.writes;
      await Promise.race([failed, sleep(systemClock, 300)]);
      await Promise.race([failed, until('writes', () => volume.paths[1]!.writes > busy)]);
      expect(volume.paths[0]!.writes).toBe(idle);
      await follow(LioAccess.ActiveNonOptimized, LioAccess.Unavailable, [
        AccessState.NonOptimized,
        AccessState.Unavailable,
      ]);
      await follow(LioAccess.ActiveOptimized, LioAccess.ActiveNonOptimized, [
        AccessState.Optimized,
        AccessState.NonOptimized,
      ]);
    } finally {
      stop = true;
      await Promise.all(clients);
      await volume.close();
    }
    expect(volume.counters.unknownWrites).toBe(0);
    expect(paths.map(({ session }) => session.state)).toEqual(['open', 'open']);
  });

  test('SET TARGET PORT GROUPS moves a group, and the path knows', async () => {
    await lio.setAccess(LioAccess.ActiveOptimized, 1);
    const lun = await attach(0, 5);
    const group = lun.access.group!;
    const set = (state: AluaState) => lun.setTargetPortGroups([{ group, state }], NO_DEADLINE);
    await set(AluaState.ActiveNonOptimized);
    expect(lun.access.state).toBe(AccessState.NonOptimized);
    await set(AluaState.ActiveOptimized);
    expect(lun.access.state).toBe(AccessState.Optimized);
  });

  test('PREEMPT AND ABORT fences a registered path: its writes fail, and it does not register again', async () => {
    await lio.setAccess(LioAccess.ActiveOptimized, 1);
    await lio.setAccess(LioAccess.ActiveOptimized, 2);
    const old = await attach(0, 6, 0, 'old');
    const next = await attach(1, 7, 0, 'next');
    const type = ReservationType.WriteExclusiveRegistrantsOnly;
    const block = Buffer.alloc(512, 1);
    await old.reservations.register(0x1n);
    await next.reservations.register(0x2n);
    await old.reservations.reserve(type);
    await old.write(0, block, 0, NO_DEADLINE);
    const { types } = await old.reservations.capabilities();
    expect(types === null || types.includes(type)).toBe(true);
    const { registrations } = await next.reservations.readFullStatus();
    expect(registrations.map(({ key }) => key).sort()).toEqual([1n, 2n]);
    expect(registrations.find(({ holder }) => holder)).toMatchObject({ key: 1n, type });
    expect(registrations.find(({ key }) => key === 1n)!.initiator).toContain('iqn.2026-11.lab:old');
    await next.reservations.preempt(0x1n, type, { abort: true });
    const error = await failureOf(old.write(0, block, 0, NO_DEADLINE));
    expect(error).toMatchObject({ code: 'SCSI_RESERVATION_CONFLICT', outcome: 'not-executed' });
    expect((await failureOf(old.write(0, block, 0, NO_DEADLINE))).code).toBe(error.code);
    await next.write(0, block, 0, NO_DEADLINE);
    expect((await next.reservations.readKeys()).keys).toEqual([2n]);
    const { held } = await next.reservations.readReservation();
    expect(held).toMatchObject({ key: 2n, type });
    await next.reservations.replaceKey(0x3n);
    await next.reservations.release(type);
    await next.reservations.unregister();
    expect((await next.reservations.readKeys()).keys).toEqual([]);
  });

  test('EXTENDED COPY is done by the target, without a byte of it through us', async () => {
    await lio.setAccess(LioAccess.ActiveOptimized, 1);
    const from = await attach(0, 8);
    const to = await attachLun(from.session, lunFromNumber(1));
    const data = Buffer.alloc(3 * MIB + 512);
    seededRng(9).fill(data);
    await from.write(MIB, data, 0, NO_DEADLINE);
    const { bytesRead } = from.session.stats;
    const result = await from.copyTo(to, MIB, 2 * MIB, data.length, NO_DEADLINE);
    expect(result).toEqual({ offloadedBytes: data.length });
    expect(from.session.stats.bytesRead - bytesRead).toBeLessThan(1024);
    const into = Buffer.alloc(data.length);
    await to.read(2 * MIB, into, NO_DEADLINE);
    expect(into.equals(data)).toBe(true);
  });

  test('COMPARE AND WRITE exchanges what is equal, and says where the first difference is', async () => {
    const lun = await attach(0, 9);
    expect(lun.caps.compareAndWriteBytes).toBeGreaterThanOrEqual(512);
    const [old, next] = [Buffer.alloc(512, 3), Buffer.alloc(512, 4)];
    await lun.write(0, old, 0, NO_DEADLINE);
    expect(await lun.compareAndWrite(0, old, next, NO_DEADLINE)).toBe(-1);
    const wrong = Buffer.from(next);
    wrong[77] = 5;
    expect(await lun.compareAndWrite(0, wrong, old, NO_DEADLINE)).toBe(77);
    const into = Buffer.alloc(512);
    await lun.read(0, into, NO_DEADLINE);
    expect(into.equals(next)).toBe(true);
  });

  test('trims, zeroes and extents do as the limits of the unit say', async () => {
    const lun = await attach(0, 10);
    const data = Buffer.alloc(4 * MIB, 8);
    await lun.write(16 * MIB, data, 0, NO_DEADLINE);
    await lun.writeZeroes(16 * MIB, 4 * MIB, 0, NO_DEADLINE);
    if (lun.caps.trim) await lun.trim(20 * MIB, 4 * MIB, 0, NO_DEADLINE);
    const into = Buffer.alloc(4 * MIB, 1);
    await lun.read(16 * MIB, into, NO_DEADLINE);
    expect(into.every((byte) => byte === 0)).toBe(true);
    const extents = await lun.extents(0, MIB, NO_DEADLINE);
    expect(extents[0]!.offset).toBe(0);
  });
});
