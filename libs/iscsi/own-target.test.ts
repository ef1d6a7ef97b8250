import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { seededRng } from '../core/rng.ts';
import { lunFromNumber } from '../scsi/lun.ts';
import { TARGET_NAME, targetFixture } from '../testkit/target-fixture.ts';
import { discover } from './discovery.ts';
import { makeIsid } from './isid.ts';
import { attachLun } from './lun-attach.ts';
import { openSession } from './open-session.ts';

const MIB = 1024 * 1024;

/** Runs the clock until the promise has settled. */
async function driven<T>(
  clock: { advance(ms: number): Promise<void> },
  promise: Promise<T>,
): Promise<T> {
  let over = false;
  const watched = promise.finally(() => {
    over = true;
  });
  watched.catch(() => {});
  for (let i = 0; i < 10_000 && !over; i++) await clock.advance(10);
  return watched;
}

describe('the initiator against our own target, in memory', () => {
  test('logs in over a slow network that cuts the stream anywhere, and reads what it wrote', async () => {
    const fixture = await targetFixture({ seed: 42 });
    const { clock } = fixture;
    const options = {
      network: fixture.network.host('initiator'),
      clock,
      rng: seededRng(3),
      portals: [fixture.target.addresses[0]!],
      initiatorName: 'iqn.2026-11.test:initiator',
      isid: makeIsid('test', TARGET_NAME, 0),
    };
    const found = await driven(clock, discover(options));
    expect(found.map(({ name }) => name)).toEqual([TARGET_NAME]);
    const session = await driven(clock, openSession({ ...options, targetName: TARGET_NAME }));
    const lun = await driven(clock, attachLun(session, lunFromNumber(0)));
    expect(lun.caps.sizeBytes).toBe(16 * MIB);
    const data = Buffer.alloc(3 * MIB);
    seededRng(9).fill(data);
    await driven(clock, lun.write(4096, data, 1, NO_DEADLINE));
    const into = Buffer.alloc(data.length);
    await driven(clock, lun.read(4096, into, NO_DEADLINE));
    expect(into.equals(data)).toBe(true);
    await driven(clock, lun.writeZeroes(4096, MIB, 0, NO_DEADLINE));
    await driven(clock, lun.trim(0, 4096, 0, NO_DEADLINE));
    await driven(clock, lun.flush(NO_DEADLINE));
    await driven(clock, lun.read(4096, into.subarray(0, MIB), NO_DEADLINE));
    expect(into.subarray(0, MIB).every((byte) => byte === 0)).toBe(true);
    if (lun.caps.compareAndWriteBytes > 0) {
      const old = Buffer.from(data.subarray(MIB, MIB + 512));
      const swap = () => lun.compareAndWrite(4096 + MIB, old, Buffer.alloc(512, 1), NO_DEADLINE);
      expect(await driven(clock, swap())).toBe(-1);
      expect(await driven(clock, swap())).toBeGreaterThanOrEqual(0);
    }
    await driven(clock, lun.lunReset(5000));
    lun.abandon();
    await driven(clock, lun.probe(NO_DEADLINE));
    // A login with the same ISID ends this session.
    const second = await driven(clock, openSession({ ...options, targetName: TARGET_NAME }));
    await clock.advance(1000);
    expect(session.state).toBe('closed');
    await driven(clock, second.logout({ timeoutMs: 5000 }));
    await driven(clock, fixture.target.close());
  });

  /** A session whose command times out soon, and a write that the target does not execute. */
  const stuck = async (onLunReset: 'wait' | 'abort') => {
    const fixture = await targetFixture({ seed: 43, behaviour: { onLunReset } });
    const { clock, target } = fixture;
    const opened = openSession({
      network: fixture.network.host('initiator'),
      clock,
      rng: seededRng(3),
      portals: [target.addresses[0]!],
      initiatorName: 'iqn.2026-11.test:initiator',
      isid: makeIsid('test', TARGET_NAME, 0),
      targetName: TARGET_NAME,
      timeouts: { commandMs: 1000, abortMs: 1000 },
    });
    const session = await driven(clock, opened);
    const lun = await driven(clock, attachLun(session, lunFromNumber(0)));
    const hold = target.faults.holdWrites();
    const written = driven(clock, lun.write(0, Buffer.alloc(4096, 7), 0, NO_DEADLINE));
    return { clock, target, session, lun, hold, written };
  };

  test('aborts a write that hangs: where the target ends it, it is terminated and never executed', async () => {
    const { clock, target, session, lun, hold, written } = await stuck('abort');
    await expect(written).rejects.toMatchObject({
      code: 'ISCSI_COMMAND_ABORTED',
      outcome: 'terminated',
    });
    hold.remove();
    await clock.advance(1000);
    const into = Buffer.alloc(4096, 1);
    await driven(clock, lun.read(0, into, NO_DEADLINE));
    expect(into.every((byte) => byte === 0)).toBe(true);
    await driven(clock, session.logout({ timeoutMs: 5000 }));
    await driven(clock, target.close());
  });

  test('aborts a write that hangs: where the target goes on executing it, its outcome is unknown', async () => {
    const { clock, target, session, hold, written } = await stuck('wait');
    await expect(written).rejects.toMatchObject({ outcome: 'unknown' });
    expect(session.cause).toMatchObject({ code: 'ISCSI_COMMAND_TIMEOUT' });
    hold.remove();
    await driven(clock, target.close());
  });
});
