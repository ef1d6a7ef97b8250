import { describe, expect, test } from 'vitest';
import { ControlChannel } from './control-channel.ts';
import { requestLogout } from './logout.ts';
import { LogoutAnswer, LogoutReason, Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { answerLogout, sendAsync } from './testing/control-script.ts';
import { LUN, type Rig, read, rig, watch } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const quiet = { timeouts: { nopIntervalMs: 1_000_000 } };

const ask = (r: Rig, reason: LogoutReason, cid: number, errorRecoveryLevel: number) => {
  const channel = new ControlChannel(r.session, r.session.members.live[0]!);
  const outcome = requestLogout(channel, { reason, cid, timeoutMs: 1000, errorRecoveryLevel });
  outcome.catch(() => {});
  return { channel, outcome };
};

describe('a logout request', () => {
  test.each([
    [LogoutReason.CloseSession, 0],
    [LogoutReason.CloseConnection, 3],
    [LogoutReason.RemoveForRecovery, 3],
  ])('with reason %i names the connection %i', async (reason, cid) => {
    const r = await rig(undefined, quiet);
    ask(r, reason, 3, 2);
    await settle();
    expect(r.target.of(Opcode.LogoutRequest)[0]!.pdu).toMatchObject({
      immediate: true,
      reason,
      cid,
      cmdSn: r.session.cmdSn >>> 0,
    });
  });

  test('for recovery is not sent below ErrorRecoveryLevel 2', async () => {
    const r = await rig(undefined, quiet);
    await expect(ask(r, LogoutReason.RemoveForRecovery, 0, 1).outcome).rejects.toMatchObject({
      code: 'ISCSI_LOGOUT_FAILED',
    });
    expect(r.target.of(Opcode.LogoutRequest)).toEqual([]);
  });

  const { CloseConnection, CloseSession, RemoveForRecovery } = LogoutReason;
  test.each([
    // §11.15.3: of a logout that was carried out the times are for reassignment, which is for level 2.
    [CloseConnection, 2, LogoutAnswer.Closed, null],
    [CloseSession, 0, LogoutAnswer.Closed, null],
    [RemoveForRecovery, 2, LogoutAnswer.Closed, 3000],
    [RemoveForRecovery, 2, LogoutAnswer.CidNotFound, null],
    [RemoveForRecovery, 2, LogoutAnswer.RecoveryNotSupported, 3000],
    [CloseConnection, 0, LogoutAnswer.CleanupFailed, 3000],
  ])(
    'with reason %i at level %i that is answered with %i gives a time to wait of %s',
    async (reason, level, response, waitMs) => {
      const r = await rig(undefined, quiet);
      const { outcome } = ask(r, reason, 3, level);
      await settle();
      await answerLogout(r, response, { time2Wait: 3, time2Retain: 20 });
      const retainMs = waitMs === null ? null : 20_000;
      expect(await outcome).toEqual({ response, waitMs, retainMs });
    },
  );

  test('is the last thing that is sent on its connection', async () => {
    const r = await rig(undefined, quiet);
    const logout = watch(r.session.logout({ timeoutMs: 1000 }));
    await settle();
    const { length } = r.target.received;
    const refused = [
      read(r, 0, Buffer.alloc(512)),
      watch(r.session.text(Buffer.from('X-a=1\0'), 100)),
      watch(r.session.taskManagement(5, LUN, { timeoutMs: 100 })),
    ];
    const nop = { opcode: Opcode.NopIn, lun: LUN, itt: RESERVED_TAG, ttt: 7 } as const;
    r.target.send({ ...nop, ...r.target.numbers(false) });
    await sendAsync(r, { event: 1, parameter3: 1 });
    await settle();
    expect(r.target.received).toHaveLength(length);
    expect(refused.map(({ state }) => state)).toEqual([
      'not-executed',
      'not-executed',
      'not-executed',
    ]);
    await answerLogout(r, 0);
    expect(logout.state).toBe('done');
  });

  test('that the target does not carry out says how it is called, and ends the session all the same', async () => {
    const r = await rig(undefined, quiet);
    const seen = watch(r.session.logout({ timeoutMs: 1000 }));
    await settle();
    await answerLogout(r, 3);
    expect(seen.error).toMatchObject({ code: 'ISCSI_LOGOUT_FAILED' });
    expect(seen.error?.message).toMatch(/CleanupFailed/);
    expect(r.session.state).toBe('closed');
  });

  test('that the target asked for comes within its time, and ends in time when it is not answered', async () => {
    const r = await rig(undefined, quiet);
    const seen = read(r, 0, Buffer.alloc(512));
    await settle();
    await sendAsync(r, { event: 1, parameter3: 2 });
    expect(r.target.of(Opcode.LogoutRequest)).toEqual([]);
    await r.clock.advance(1100);
    expect(r.target.of(Opcode.LogoutRequest)).toHaveLength(1);
    expect(seen.state).toBe('pending');
    await r.clock.advance(2500);
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_DROPPED_BY_TARGET' });
  });
});
