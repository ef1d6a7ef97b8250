import { describe, expect, test } from 'vitest';
import { execute } from './execute.ts';
import { Opcode, TaskFunction, TmfResponse } from './pdu/opcodes.ts';
import type { SessionTimeouts } from './session-options.ts';
import { answerTmf } from './testing/control-script.ts';
import {
  LUN,
  lastCommand,
  pattern,
  type Rig,
  read,
  rig,
  watch,
  write,
} from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const COMMAND_MS = 5000;

const laddered = (over: Partial<SessionTimeouts> = {}, setUp?: Parameters<typeof rig>[0]) =>
  rig(setUp, {
    timeouts: { commandMs: COMMAND_MS, nopIntervalMs: 1_000_000, abortMs: 1000, ...over },
  });

/** Past the timeout of a command; the wheel is coarse. */
const expire = (r: Rig) => r.clock.advance(COMMAND_MS + 800);

const tmfs = (r: Rig) => r.target.of(Opcode.TaskManagementRequest).map(({ pdu }) => pdu);

describe('a command that makes no progress', () => {
  test('is aborted by its tag and CmdSN, and is terminated when the target says so', async () => {
    const r = await laddered();
    const seen = write(r, 0, pattern(512));
    const command = await lastCommand(r);
    const other = read(r, 0, Buffer.alloc(512));
    const second = await lastCommand(r);
    await expire(r);
    const abort = tmfs(r).find(({ referencedTag }) => referencedTag === command.itt)!;
    expect(abort).toMatchObject({
      function: TaskFunction.AbortTask,
      lun: LUN,
      refCmdSn: command.cmdSn,
    });
    r.target.dataIn(second, pattern(512), { status: 0 });
    await settle();
    expect(seen.state).toBe('pending');
    r.target.send({
      opcode: Opcode.TaskManagementResponse,
      response: 0,
      itt: abort.itt,
      ...r.target.numbers(true),
    });
    await settle();
    expect(seen.error).toMatchObject({ code: 'ISCSI_COMMAND_ABORTED', outcome: 'terminated' });
    expect(other.state).toBe('done');
    expect(r.session.state).toBe('open');
    expect(r.session.stats.inflight).toBe(0);
  });

  test.each([
    TmfResponse.LunDoesNotExist,
    TmfResponse.FunctionNotSupported,
    TmfResponse.AuthorizationFailed,
    TmfResponse.FunctionRejected,
    99,
  ])(
    'is unknown when the target answers the abort with %i: nothing says that it has ended',
    async (response) => {
      const r = await laddered();
      const seen = write(r, 0, pattern(512));
      await expire(r);
      await answerTmf(r, response);
      expect(seen.error).toMatchObject({ outcome: 'unknown' });
      expect(r.session.cause).toMatchObject({ code: 'ISCSI_COMMAND_TIMEOUT' });
    },
  );

  test('is unknown when the abort is not answered, within a bounded time', async () => {
    const r = await laddered();
    const seen = write(r, 0, pattern(512));
    await expire(r);
    expect(seen.state).toBe('pending');
    await r.clock.advance(1000);
    expect(seen.error).toMatchObject({ outcome: 'unknown' });
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_COMMAND_TIMEOUT' });
  });

  test('that the target does not know any more is a race: its answer may come behind', async () => {
    const r = await laddered();
    const seen = write(r, 0, pattern(512));
    const command = await lastCommand(r);
    await expire(r);
    await answerTmf(r, TmfResponse.TaskDoesNotExist);
    expect(seen.state).toBe('pending');
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
    await r.clock.advance(10_000);
    expect(r.session.state).toBe('open');
  });

  test('that the target does not know, and has no answer for, is terminated (§11.6.1)', async () => {
    const r = await laddered();
    const seen = write(r, 0, pattern(512));
    await expire(r);
    await answerTmf(r, TmfResponse.TaskDoesNotExist);
    await r.clock.advance(300);
    expect(seen.error).toMatchObject({ code: 'ISCSI_COMMAND_ABORTED', outcome: 'terminated' });
    expect(r.session.state).toBe('open');
  });

  test('that the target says it does not know, but asks for data of, goes on: it will execute that', async () => {
    const r = await laddered();
    const seen = write(r, 0, pattern(1 << 20));
    const command = await lastCommand(r);
    await expire(r);
    r.target.r2t(command, 8192, 4096);
    await settle();
    await answerTmf(r, TmfResponse.TaskDoesNotExist);
    await r.clock.advance(300);
    expect(seen.state).toBe('pending');
    // And has its time again, at the end of which it is aborted again.
    await expire(r);
    expect(tmfs(r)).toHaveLength(2);
    await answerTmf(r, TmfResponse.TaskDoesNotExist);
    await r.clock.advance(300);
    expect(seen.state).toBe('terminated');
    expect(r.session.state).toBe('open');
  });

  test('does not go on like that for ever: the session ends, and its outcome is unknown', async () => {
    const r = await laddered();
    const seen = write(r, 0, pattern(1 << 20));
    const command = await lastCommand(r);
    let rounds = 0;
    for (; rounds < 40 && r.session.state === 'open'; rounds++) {
      await expire(r);
      r.target.r2t(command, 8192 + rounds * 512, 512, { r2tSn: rounds });
      await settle();
      await answerTmf(r, TmfResponse.TaskDoesNotExist);
      await r.clock.advance(300);
    }
    expect(rounds).toBe(17);
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_COMMAND_TIMEOUT' });
  });

  test('and is answered while the abort is on its way is simply done', async () => {
    const r = await laddered();
    const seen = write(r, 0, pattern(512));
    const command = await lastCommand(r);
    await expire(r);
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
    await answerTmf(r, TmfResponse.TaskDoesNotExist);
    await r.clock.advance(10_000);
    expect(r.session.state).toBe('open');
  });

  test('keeps its memory until the socket has let go of it, whatever the target says', async () => {
    const r = await laddered();
    r.target.holdWrites = true;
    const seen = write(r, 0, pattern(8192));
    await expire(r);
    await answerTmf(r, TmfResponse.FunctionComplete);
    await r.clock.advance(1000);
    expect(seen.state).toBe('pending');
    r.target.releaseWrites();
    await settle();
    expect(seen.state).toBe('terminated');
  });

  test('and whose memory the socket never lets go of ends the session', async () => {
    const r = await laddered();
    r.target.holdWrites = true;
    const seen = write(r, 0, pattern(8192));
    await expire(r);
    await answerTmf(r, TmfResponse.FunctionComplete);
    await expire(r);
    expect(r.session.state).toBe('closed');
    // The target had ended it: that stays true.
    expect(seen.state).toBe('terminated');
  });

  test('keeps its memory for R2Ts that come before the abort is answered', async () => {
    const r = await laddered();
    const seen = write(r, 0, pattern(1 << 20));
    const command = await lastCommand(r);
    await expire(r);
    r.target.r2t(command, 8192, 4096);
    await settle();
    expect(r.target.of(Opcode.DataOut).at(-1)!.data).toEqual(
      pattern(1 << 20).subarray(8192, 8192 + 4096),
    );
    expect(seen.state).toBe('pending');
    await answerTmf(r, 0);
    expect(seen.state).toBe('terminated');
    // Not any more after it.
    const sent = r.target.of(Opcode.DataOut).length;
    r.target.r2t(command, 12_288, 4096, { r2tSn: 1 });
    await settle();
    expect(r.target.of(Opcode.DataOut)).toHaveLength(sent);
    expect(r.session.state).toBe('open');
  });

  test('gets more time as long as data move', async () => {
    const r = await laddered();
    const into = Buffer.alloc(8192);
    const seen = read(r, 0, into);
    const command = await lastCommand(r);
    for (let i = 0; i < 4; i++) {
      await r.clock.advance(COMMAND_MS - 1000);
      r.target.dataIn(command, pattern(512), { dataSn: i, offset: i * 512, final: false });
      await settle();
    }
    expect(tmfs(r)).toEqual([]);
    await r.clock.advance(2 * COMMAND_MS + 2000);
    expect(tmfs(r)).toHaveLength(1);
    expect(seen.state).toBe('unknown');
  });

  /** One byte or block after the other, just before the time is up each time; until the command is aborted. */
  const drip = async (r: Rig, one: (i: number) => void): Promise<number> => {
    for (let i = 0; i < 40; i++) {
      await r.clock.advance(COMMAND_MS - 1000);
      if (tmfs(r).length > 0) return i;
      one(i);
      await settle();
    }
    return 40;
  };

  test('is aborted when its data come drop by drop', async () => {
    const r = await laddered();
    read(r, 0, Buffer.alloc(8192));
    const command = await lastCommand(r);
    const drops = await drip(r, (i) =>
      r.target.dataIn(command, pattern(1), { dataSn: i, offset: i, final: false }),
    );
    expect(drops).toBeLessThan(4);
  });

  test('is aborted when its data are asked for drop by drop', async () => {
    const r = await laddered();
    write(r, 0, pattern(1 << 20));
    const command = await lastCommand(r);
    const drops = await drip(r, (i) => r.target.r2t(command, 8192 + i * 512, 512, { r2tSn: i }));
    expect(drops).toBeLessThan(4);
  });

  test('has a bounded time, also when it goes just fast enough', async () => {
    const r = await laddered();
    read(r, 0, Buffer.alloc(1 << 20));
    const command = await lastCommand(r);
    // A little more than a sixteenth in each time, of which some are a tick longer.
    const bytes = 68 * 1024;
    let sent = 0;
    const drops = await drip(r, (i) => {
      const length = Math.min(bytes, (1 << 20) - sent);
      if (length === 0) return;
      r.target.dataIn(command, pattern(length), { dataSn: i, offset: sent, final: false });
      sent += length;
    });
    expect(sent).toBe(1 << 20);
    expect(drops).toBeLessThan(24);
  });

  test('counts both directions of a bidirectional command', async () => {
    const r = await laddered({}, (target) => {
      target.wants = { ...target.wants, InitialR2T: true, ImmediateData: false };
    });
    const send = pattern(8192);
    watch(execute(r.session, LUN, { cdb: Buffer.alloc(16), send, receiveBytes: 8192 }));
    const command = await lastCommand(r);
    let [sn, at] = [0, 0];
    const drops = await drip(r, (i) => {
      if (i < 8) r.target.r2t(command, i * 1024, 1024, { r2tSn: sn++ });
      else if (i < 12) {
        r.target.dataIn(command, pattern(1024), { dataSn: sn++, offset: at, final: false });
        at += 1024;
      }
    });
    expect(r.target.of(Opcode.DataOut)).toHaveLength(8);
    expect(at).toBe(4096);
    expect(drops).toBeGreaterThan(12);
    expect(drops).toBeLessThan(16);
  });

  test('without an abort (abortMs 0) ends the session at once', async () => {
    const r = await laddered({ abortMs: 0 });
    const seen = write(r, 0, pattern(512));
    await expire(r);
    expect(tmfs(r)).toEqual([]);
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_COMMAND_TIMEOUT' });
  });

  test('that waits for a window which never opens ends the session, and was not executed', async () => {
    const r = await laddered({}, (target) => {
      target.window = 1;
    });
    const first = write(r, 0, pattern(512));
    const command = await lastCommand(r);
    const waits = write(r, 0, pattern(512));
    await r.clock.advance(3000);
    r.target.expCmdSn = command.cmdSn;
    r.target.respond(command);
    await expire(r);
    expect(first.state).toBe('done');
    expect(tmfs(r)).toEqual([]);
    expect(waits.state).toBe('not-executed');
    expect(r.session.state).toBe('closed');
  });
});

describe('the steps after an abort that fails', () => {
  test('are a reset of the unit where that is allowed: once for all its commands, and those after it go on', async () => {
    const r = await laddered({ lunResetMs: 1000 });
    const before = [write(r, 0, pattern(512)), write(r, 4096, pattern(512))];
    await expire(r);
    for (const { itt } of tmfs(r)) {
      const numbers = r.target.numbers(true);
      r.target.send({ opcode: Opcode.TaskManagementResponse, response: 5, itt, ...numbers });
    }
    await settle();
    const resets = tmfs(r).filter((pdu) => pdu.function === TaskFunction.LogicalUnitReset);
    expect(resets).toHaveLength(1);
    const after = write(r, 8192, pattern(512));
    await settle();
    await answerTmf(r, 0);
    expect(before.map(({ state }) => state)).toEqual(['terminated', 'terminated']);
    expect(before[0]!.error?.code).toBe('ISCSI_LUN_RESET');
    r.target.respond(await lastCommand(r));
    await settle();
    expect(after.state).toBe('done');
    expect(r.session.state).toBe('open');
  });

  test('are a reset of the target after that, and in the end the session is given up', async () => {
    const r = await laddered({ lunResetMs: 1000, targetResetMs: 1000 });
    const seen = write(r, 0, pattern(512));
    await expire(r);
    await answerTmf(r, TmfResponse.FunctionRejected);
    await answerTmf(r, TmfResponse.FunctionRejected);
    expect(tmfs(r).map((pdu) => pdu.function)).toEqual([1, 5, 6]);
    expect(seen.state).toBe('pending');
    await r.clock.advance(1100);
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_COMMAND_TIMEOUT' });
  });

  test('end the commands of all units when the target was reset', async () => {
    const r = await laddered({ targetResetMs: 1000 });
    const seen = [write(r, 0, pattern(512)), read(r, 0, Buffer.alloc(512))];
    await expire(r);
    await r.clock.advance(1000);
    expect(tmfs(r).at(-1)).toMatchObject({ function: TaskFunction.TargetWarmReset });
    await answerTmf(r, 0);
    expect(seen.map(({ state }) => state)).toEqual(['terminated', 'terminated']);
    expect(r.session.state).toBe('open');
  });

  test('do not outlive the session', async () => {
    const r = await laddered({ lunResetMs: 1000 });
    const seen = write(r, 0, pattern(512));
    await expire(r);
    r.target.close();
    await settle();
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_CONNECTION_LOST' });
    await r.clock.advance(10_000);
    expect(r.clock.pending).toBe(0);
  });
});

describe('R2Ts of what is aborted', () => {
  const aborting = async (options: object, setUp?: Parameters<typeof rig>[0]) => {
    const r = await rig(setUp, { timeouts: { nopIntervalMs: 1_000_000 }, ...options });
    const seen = write(r, 0, pattern(1 << 20));
    const command = await lastCommand(r);
    const before = r.target.of(Opcode.DataOut).length;
    const reset = watch(r.lun.lunReset(1000));
    await settle();
    r.target.r2t(command, 8192, 4096);
    await settle();
    const answered = r.target.of(Opcode.DataOut).length - before;
    await answerTmf(r, 0);
    r.lun.abandon();
    await settle();
    expect(reset.state).toBe('done');
    return { r, seen, command, answered };
  };

  test('are answered to the end (§4.2.3.3), and then only the answer of the command tells that it has ended', async () => {
    const { r, seen, command, answered } = await aborting({});
    expect([answered, seen.state]).toEqual([1, 'pending']);
    r.target.respond(command, { status: 0x40 });
    await settle();
    // TASK ABORTED: it is sent again.
    expect(r.commands()).toHaveLength(2);
    expect(r.session.state).toBe('open');
  });

  test('are not, for a target that wants no data any more', async () => {
    const { seen, answered } = await aborting({ stopDataOnAbort: true });
    expect([answered, seen.state]).toEqual([0, 'terminated']);
  });

  test('are not, where FastAbort was negotiated (§4.2.3.4)', async () => {
    const fast = { params: { TaskReporting: 'FastAbort' } };
    const { seen, answered } = await aborting(fast, (target) => {
      target.wants = { ...target.wants, TaskReporting: 'FastAbort' };
    });
    expect([answered, seen.state]).toEqual([0, 'terminated']);
  });
});
