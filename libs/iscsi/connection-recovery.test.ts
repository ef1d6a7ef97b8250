import { describe, expect, test } from 'vitest';
import type { RequestPdu } from './pdu/index.ts';
import { Opcode, TaskFunction } from './pdu/opcodes.ts';
import type { OpenSessionOptions } from './session-options.ts';
import { LUN, pattern } from './testing/fake-session.ts';
import { type FakeTarget, settle } from './testing/fake-target.ts';
import { type WiresRig, wires } from './testing/fake-wires.ts';

type Of<O extends Opcode> = Extract<RequestPdu, { opcode: O }>;

interface Script {
  /** What it answers; null: nothing. */
  logout: number | null;
  reassign: number | null;
  time2Wait?: number;
  time2Retain?: number;
  /** Hears of each request before the answer. */
  onLogout?: (pdu: Of<typeof Opcode.LogoutRequest>) => void;
  onReassign?: (pdu: Of<typeof Opcode.TaskManagementRequest>, wire: FakeTarget) => void;
  /** Comes right behind the answer, in the same piece. */
  afterReassign?: (pdu: Of<typeof Opcode.TaskManagementRequest>, wire: FakeTarget) => void;
}

/** A target that answers what recovery asks of it. */
async function recovering(
  connections: number,
  errorRecoveryLevel: 1 | 2,
  script: Script,
  options: Partial<OpenSessionOptions> = {},
  setUp: (wire: FakeTarget, index: number) => void = () => {},
): Promise<WiresRig> {
  const answering = (wire: FakeTarget, index: number): void => {
    wire.wants = { ...wire.wants, DefaultTime2Wait: 0, DefaultTime2Retain: 20 };
    setUp(wire, index);
    wire.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.NopOut && pdu.itt !== 0xffffffff) {
        const { lun, itt } = pdu;
        wire.send({ opcode: Opcode.NopIn, lun, itt, ttt: 0xffffffff, ...wire.numbers(true) });
      }
      if (pdu.opcode === Opcode.LogoutRequest) {
        script.onLogout?.(pdu);
        if (script.logout === null) return;
        const { logout, time2Wait = 0, time2Retain = 20 } = script;
        wire.send({
          opcode: Opcode.LogoutResponse,
          response: logout,
          itt: pdu.itt,
          ...wire.numbers(true),
          time2Wait,
          time2Retain,
        });
      }
      if (pdu.opcode === Opcode.TaskManagementRequest) {
        script.onReassign?.(pdu, wire);
        if (script.reassign === null) return;
        wire.send({
          opcode: Opcode.TaskManagementResponse,
          response: script.reassign,
          info: 0,
          itt: pdu.itt,
          ...wire.numbers(true),
        } as never);
        script.afterReassign?.(pdu, wire);
      }
    };
  };
  return wires(connections, answering, { errorRecoveryLevel, ...options });
}

const logouts = (wire: FakeTarget) => wire.of(Opcode.LogoutRequest).map(({ pdu }) => pdu);
const tmfs = (wire: FakeTarget) => wire.of(Opcode.TaskManagementRequest).map(({ pdu }) => pdu);
const reassigns = (wire: FakeTarget) =>
  tmfs(wire).filter((pdu) => pdu.function === TaskFunction.TaskReassign);
const states = (r: WiresRig): string[] =>
  r.session.connections().map(({ cid, state }) => `${cid} ${state}`);

describe('a connection that is lost at recovery level 1, with another left', () => {
  test('is logged out over the other, and only then are its commands terminated', async () => {
    const script: Script = { logout: null, reassign: null };
    const r = await recovering(2, 1, script);
    const seen = [r.write(pattern(512)), r.write(pattern(512), 512)];
    await settle();
    const expStatSn = r.wire(0).statSn;
    r.wire(0).close();
    await settle();
    expect(states(r)[0]).toBe('0 IN_CLEANUP');
    const [logout] = logouts(r.wire(1));
    expect(logout).toMatchObject({ reason: 1, cid: 0, immediate: true, expStatSn });
    expect(seen.map(({ state }) => state)).toEqual(['pending', 'pending']);
    const wire = r.wire(1);
    const answer = { opcode: Opcode.LogoutResponse, response: 0, itt: logout!.itt } as const;
    wire.send({ ...answer, ...wire.numbers(true), time2Wait: 0, time2Retain: 0 });
    await settle();
    expect(seen[0]).toMatchObject({
      state: 'terminated',
      error: { code: 'ISCSI_CONNECTION_ENDED' },
    });
    expect(seen[1]!.state).toBe('pending');
    expect(r.session.state).toBe('open');
    wire.respond(r.commands(1)[0]!);
    await settle();
    expect(seen[1]!.state).toBe('done');
    expect(r.session.stats.inflight).toBe(0);
    await r.clock.advance(300);
    await settle();
    expect(states(r)).toEqual(['0 LOGGED_IN', '1 LOGGED_IN']);
    const [again] = r.wire(2).of(Opcode.LoginRequest);
    expect(again!.pdu).toMatchObject({ cid: 0, tsih: 0x1234 });
  });

  test('leaves a gap of commands that never arrived: they go out again under their numbers', async () => {
    const r = await recovering(2, 1, { logout: 0, reassign: null });
    const lost = r.wire(0);
    const first = r.session.cmdSn >>> 0;
    lost.onCommand = () => {
      lost.expCmdSn = first; // it is thrown away by the network
    };
    const seen = [r.write(pattern(512)), r.write(pattern(1024), 512)];
    await settle();
    const [command] = r.commands(0);
    for (const index of [0, 1]) r.wire(index).expCmdSn = first;
    lost.close();
    await settle();
    const again = r.commands(1).find(({ cmdSn }) => cmdSn === first)!;
    expect({ ...again, expStatSn: 0 }).toEqual({ ...command, expStatSn: 0 });
    const { data } = r.wire(1).of(Opcode.ScsiCommand).at(-1)!;
    expect(data.equals(pattern(512))).toBe(true);
    for (const one of r.commands(1)) r.wire(1).respond(one);
    await settle();
    expect(seen.map(({ state }) => state)).toEqual(['done', 'done']);
    expect(r.commands(1)).toHaveLength(2);
  });

  test.each([1, 2, 3])(
    'ends the session when the logout is answered with %i: its commands are unknown',
    async (logout) => {
      const r = await recovering(2, 1, { logout, reassign: null });
      const seen = [r.write(pattern(512)), r.write(pattern(512), 512)];
      await settle();
      r.wire(0).close();
      await settle();
      expect(r.session.state).toBe('closed');
      expect(seen.map(({ state }) => state)).toEqual(['unknown', 'unknown']);
      expect(r.session.cause?.message).toMatch(/could not go on/);
    },
  );

  test('ends the session when the logout is not answered', async () => {
    const r = await recovering(2, 1, { logout: null, reassign: null });
    const seen = r.write(pattern(512));
    await settle();
    r.wire(0).close();
    await r.clock.advance(11_000);
    expect(seen.state).toBe('unknown');
    expect(r.session.state).toBe('closed');
  });

  test('ends the session when no other is left', async () => {
    const r = await recovering(1, 1, { logout: 0, reassign: null });
    const seen = r.write(pattern(512));
    await settle();
    r.wire(0).close();
    await settle();
    expect(seen.state).toBe('unknown');
  });

  test('ends the session at once when the answer to a logout would not say that its commands have ended', async () => {
    const r = await recovering(3, 1, { logout: 0, reassign: null });
    r.session.logoutEndsCommands = false;
    const seen = [0, 512, 1024].map((offset) => r.write(pattern(512), offset));
    await settle();
    r.wire(1).close();
    await settle();
    expect(r.session.state).toBe('closed');
    expect([0, 2].flatMap((index) => logouts(r.wire(index)))).toEqual([]);
    expect(seen.map(({ state }) => state)).toEqual(['unknown', 'unknown', 'unknown']);
  });

  test('waits as long as the target wants before anything is done about it', async () => {
    const r = await recovering(
      2,
      1,
      { logout: 0, reassign: null },
      { params: { DefaultTime2Wait: 3 } },
    );
    r.write(pattern(512));
    await settle();
    r.wire(0).close();
    await r.clock.advance(2900);
    expect(logouts(r.wire(1))).toHaveLength(0);
    expect(states(r)[0]).toBe('0 CLEANUP_WAIT');
    await r.clock.advance(200);
    await settle();
    expect(logouts(r.wire(1))).toHaveLength(1);
  });

  test('takes a damaged header for a lost connection, and a broken protocol for the end of the session', async () => {
    const r = await recovering(2, 1, { logout: 0, reassign: null });
    r.write(pattern(512));
    await settle();
    r.wire(0).r2t(r.commands(0)[0]!, 0, 1 << 24);
    await settle();
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_PROTOCOL' });
  });
});

describe('a connection that is lost at recovery level 2', () => {
  test('has its commands go on over another one, and nobody hears of it', async () => {
    const script: Script = { logout: 0, reassign: 0 };
    const r = await recovering(2, 2, script);
    const into = Buffer.alloc(4096);
    const reading = r.read(into);
    const writing = r.write(pattern(4096), 65536);
    await settle();
    const [command] = r.commands(0);
    r.wire(0).dataIn(command!, pattern(4096).subarray(0, 1024), { final: false });
    await settle();
    r.wire(0).close();
    await settle();
    expect(logouts(r.wire(1))).toMatchObject([{ reason: 2, cid: 0 }]);
    expect(reassigns(r.wire(1))).toMatchObject([
      { immediate: true, referencedTag: command!.itt, expDataSn: 1 },
    ]);
    expect(reading.state).toBe('pending');
    const rest = pattern(4096).subarray(1024);
    r.wire(1).dataIn(command!, rest, { dataSn: 1, offset: 1024, status: 0 });
    r.wire(1).respond(r.commands(1)[0]!);
    await settle();
    expect([reading.state, writing.state]).toEqual(['done', 'done']);
    expect(into.equals(pattern(4096))).toBe(true);
    expect(r.session.stats.inflight).toBe(0);
    await r.clock.advance(300);
    await settle();
    expect(states(r)).toEqual(['0 LOGGED_IN', '1 LOGGED_IN']);
  });

  test('lets a write begin with whatever R2T the target goes on with', async () => {
    const wants = { ImmediateData: false, InitialR2T: true };
    for (const r2tSn of [0, 1, 2]) {
      const r = await recovering(2, 2, { logout: 0, reassign: 0 }, {}, (wire) => {
        wire.wants = { ...wire.wants, ...wants };
      });
      const seen = r.write(pattern(4096));
      await settle();
      const [command] = r.commands(0);
      r.wire(0).r2t(command!, 0, 2048);
      await settle();
      r.wire(0).close();
      await settle();
      r.wire(1).r2t(command!, 0, 4096, { r2tSn, ttt: 99 });
      await settle();
      const sent = r.wire(1).of(Opcode.DataOut);
      expect(Buffer.concat(sent.map(({ data }) => data)).equals(pattern(4096))).toBe(true);
      expect(sent.every(({ pdu }) => pdu.ttt === 99)).toBe(true);
      r.wire(1).respond(command!);
      await settle();
      expect(seen.state).toBe('done');
    }
  });

  test('takes what comes right behind the answer to the reassignment', async () => {
    const r = await recovering(2, 2, {
      logout: 0,
      reassign: 0,
      afterReassign: (pdu, wire) => {
        const command = r.commands(0).find(({ itt }) => itt === pdu.referencedTag)!;
        wire.respond(command);
      },
    });
    const seen = r.write(pattern(512));
    await settle();
    r.wire(0).close();
    await settle();
    expect(seen.state).toBe('done');
  });

  test('is logged in again in its own place when it was the only one', async () => {
    const r = await recovering(1, 2, { logout: null, reassign: 0 });
    const seen = r.write(pattern(512));
    await settle();
    const expStatSn = r.wire(0).statSn;
    r.wire(0).close();
    await settle();
    await settle();
    const [login] = r.wire(1).of(Opcode.LoginRequest);
    expect(login!.pdu).toMatchObject({ cid: 0, tsih: 0x1234, expStatSn });
    expect(logouts(r.wire(1))).toHaveLength(0);
    expect(reassigns(r.wire(1))).toHaveLength(1);
    const later = r.read(Buffer.alloc(512));
    await settle();
    r.wire(1).respond(r.commands(0)[0]!);
    r.wire(1).dataIn(r.commands(1)[0]!, pattern(512), { status: 0 });
    await settle();
    expect([seen.state, later.state]).toEqual(['done', 'done']);
    expect(states(r)).toEqual(['0 LOGGED_IN']);
  });

  test('keeps commands that come meanwhile until there is a connection again', async () => {
    let refuse = true;
    const r = await recovering(1, 2, { logout: null, reassign: 0 }, {}, (_, index) => {
      if (index > 0 && refuse) throw new Error('unreachable');
    });
    r.wire(0).close();
    await settle();
    expect(r.session.phase).toBe('FAILED');
    const seen = r.read(Buffer.alloc(512));
    await r.clock.advance(500);
    expect(seen.state).toBe('pending');
    refuse = false;
    await r.clock.advance(2000);
    await settle();
    expect(r.session.phase).toBe('LOGGED_IN');
    const wire = r.wire(1);
    wire.dataIn(r.commands(1)[0]!, pattern(512), { status: 0 });
    await settle();
    expect(seen.state).toBe('done');
  });

  test.each([1, 3, 4, 255])(
    'ends the session when a reassignment is answered with %i',
    async (reassign) => {
      const r = await recovering(2, 2, { logout: 0, reassign });
      const seen = [r.write(pattern(512)), r.write(pattern(512), 512)];
      await settle();
      r.wire(0).close();
      await settle();
      expect(seen.map(({ state }) => state)).toEqual(['unknown', 'unknown']);
      expect(r.session.cause?.message).toMatch(/TaskReassign/);
      expect(r.wire(1).destroyed).not.toBeNull();
    },
  );

  test('ends the session when a reassignment is not answered, or the time of the target is over', async () => {
    const silent = await recovering(2, 2, { logout: 0, reassign: null });
    const first = silent.write(pattern(512));
    await settle();
    silent.wire(0).close();
    await silent.clock.advance(11_000);
    expect(first.state).toBe('unknown');
    const r = await recovering(1, 2, { logout: 0, reassign: 0 }, {}, (_, index) => {
      if (index > 0) throw new Error('unreachable');
    });
    const second = r.write(pattern(512));
    await settle();
    r.wire(0).close();
    await r.clock.advance(19_000);
    expect(second.state).toBe('pending');
    await r.clock.advance(3000);
    expect(second.state).toBe('unknown');
    expect(r.session.state).toBe('closed');
  });

  test('ends the session when the answer to the logout names a longer wait than anybody waits', async () => {
    const r = await recovering(2, 2, { logout: 0, reassign: 0, time2Wait: 3600 });
    const seen = r.write(pattern(512));
    await settle();
    r.wire(0).close();
    await settle();
    expect(seen.state).toBe('unknown');
    expect(r.session.cause?.message).toMatch(/left alone for 3600000 ms/);
  });

  test('is recovered once more when the connection that helped is lost too', async () => {
    let fail = true;
    const r = await recovering(2, 2, {
      logout: 0,
      reassign: 0,
      onReassign: (_, wire) => {
        if (!fail) return;
        fail = false;
        wire.send = () => {};
        wire.close();
      },
    });
    const seen = [r.write(pattern(512)), r.write(pattern(512), 512)];
    await settle();
    r.wire(0).close();
    await settle();
    await r.clock.advance(3000);
    await settle();
    expect(r.session.state).toBe('open');
    const tags = [r.commands(0)[0]!.itt, r.commands(1)[0]!.itt];
    const newest = r.net.wires.filter((wire) => reassigns(wire).length === 2).at(-1)!;
    expect(
      reassigns(newest)
        .map(({ referencedTag }) => referencedTag)
        .sort(),
    ).toEqual(tags.sort());
    newest.respond(r.commands(0)[0]!);
    newest.respond(r.commands(1)[0]!);
    await settle();
    expect(seen.map(({ state }) => state)).toEqual(['done', 'done']);
  });

  test('is not continued in a session that the target gave to somebody else', async () => {
    const r = await recovering(1, 2, { logout: null, reassign: 0 }, {}, (wire, index) => {
      if (index === 0) return;
      wire.onLogin = (request) => {
        wire.loginResponse(request, { statusClass: 2, statusDetail: 0x0a });
        return true;
      };
    });
    const seen = r.write(pattern(512));
    await settle();
    r.wire(0).close();
    await settle();
    expect(seen.state).toBe('unknown');
    expect(r.session.state).toBe('closed');
    expect(r.net.wires).toHaveLength(2);
  });

  test('is not continued by who lost the right to it: not by a login, and by nothing once the session is destroyed', async () => {
    let mine = true;
    const mayLogIn = () => Promise.resolve(mine);
    const taken = await recovering(1, 2, { logout: null, reassign: 0 }, { mayLogIn });
    const first = taken.write(pattern(512));
    await settle();
    mine = false;
    taken.wire(0).close();
    await settle();
    expect(taken.net.wires).toHaveLength(1);
    expect(first.state).toBe('unknown');
    const r = await recovering(2, 2, { logout: null, reassign: 0 });
    const second = r.write(pattern(512));
    await settle();
    r.wire(0).close();
    await settle();
    const [logout] = logouts(r.wire(1));
    r.session.destroy(new Error('superseded'));
    const wire = r.wire(1);
    const answer = { opcode: Opcode.LogoutResponse, response: 0, itt: logout!.itt } as const;
    wire.send({ ...answer, ...wire.numbers(true), time2Wait: 0, time2Retain: 20 });
    await r.clock.advance(60_000);
    expect(second.state).toBe('unknown');
    expect(r.net.wires).toHaveLength(2);
    expect(r.net.wires.flatMap(reassigns)).toHaveLength(0);
  });
});

describe('a connection that the target says it drops (§11.9.1, event 2)', () => {
  const drop = (wire: FakeTarget, cid: number, waitS: number, retainS: number): void => {
    wire.send({
      opcode: Opcode.AsyncMessage,
      lun: LUN,
      ...wire.numbers(true),
      event: 2,
      vendorCode: 0,
      parameter1: cid,
      parameter2: waitS,
      parameter3: retainS,
    });
  };

  test.each([
    ['on itself', 0],
    ['on another one', 1],
  ])('%s has its commands go on after the time to wait that goes with it', async (_, on) => {
    const r = await recovering(2, 2, { logout: 0, reassign: 0 });
    const seen = [r.write(pattern(512)), r.write(pattern(512), 512)];
    await settle();
    drop(r.wire(on), 0, 3, 10);
    await settle();
    if (on === 1) r.wire(0).close();
    await settle();
    expect(r.session.state).toBe('open');
    expect(states(r)).toEqual(['0 CLEANUP_WAIT', '1 LOGGED_IN']);
    expect(r.wire(0).destroyed).not.toBeNull();
    r.wire(1).respond(r.commands(1)[0]!);
    await r.clock.advance(2900);
    expect(seen.map(({ state }) => state)).toEqual(['pending', 'done']);
    expect(logouts(r.wire(1))).toHaveLength(0);
    await r.clock.advance(200);
    await settle();
    expect(logouts(r.wire(1))).toMatchObject([{ reason: 2, cid: 0 }]);
    r.wire(1).respond(r.commands(0)[0]!);
    await settle();
    expect(seen.map(({ state }) => state)).toEqual(['done', 'done']);
  });

  test('is not dropped for news that may be about the one before it', async () => {
    const r = await recovering(2, 2, { logout: 0, reassign: 0 });
    const seen = r.write(pattern(512));
    await settle();
    drop(r.wire(1), 0, 3, 10);
    await settle();
    expect(states(r)).toEqual(['0 LOGGED_IN', '1 LOGGED_IN']);
    r.wire(0).respond(r.commands(0)[0]!);
    await settle();
    expect(seen.state).toBe('done');
    // Long after it the end of this connection is another matter.
    await r.clock.advance(11_000);
    r.wire(0).close();
    await r.clock.advance(100);
    expect(logouts(r.wire(1))).toHaveLength(1);
  });

  test('keeps the times that are named once its end was noticed already', async () => {
    const r = await recovering(
      2,
      2,
      { logout: 0, reassign: 0 },
      { params: { DefaultTime2Wait: 1 } },
    );
    r.wire(0).close();
    await settle();
    drop(r.wire(1), 0, 4, 10);
    await r.clock.advance(3900);
    expect(logouts(r.wire(1))).toHaveLength(0);
    await r.clock.advance(200);
    await settle();
    expect(logouts(r.wire(1))).toHaveLength(1);
  });

  test('is waited for no longer than the target keeps its commands', async () => {
    const r = await recovering(1, 2, { logout: 0, reassign: 0 }, {}, (_, index) => {
      if (index > 0) throw new Error('unreachable');
    });
    const seen = r.write(pattern(512));
    await settle();
    drop(r.wire(0), 0, 2, 5);
    await r.clock.advance(6500);
    expect(seen.state).toBe('pending');
    await r.clock.advance(2000);
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({ fields: { waitMs: 2000, retainMs: 5000 } });
  });

  test.each([false, true])(
    'for longer than anybody waits ends the session (noticed before: %s)',
    async (noticed) => {
      const r = await recovering(2, 2, { logout: null, reassign: 0 });
      const seen = r.write(pattern(512));
      await settle();
      if (noticed) r.wire(0).close();
      await settle();
      drop(r.wire(1), 0, 3600, 10);
      await settle();
      if (!noticed) r.wire(0).close();
      await settle();
      expect(seen.state).toBe('unknown');
      expect(r.session.cause).toMatchObject({
        code: 'ISCSI_CONNECTION_DROPPED',
        fields: { waitMs: 3_600_000 },
      });
    },
  );
});

describe('the time of a command whose connection is lost at recovery level 2', () => {
  const options = {
    params: { DefaultTime2Wait: 20 },
    timeouts: { commandMs: 30_000, nopIntervalMs: 1_000_000 },
  };

  test('does not run out while it waits for another one, and begins anew there', async () => {
    const r = await recovering(2, 2, { logout: 0, reassign: 0 }, options);
    const into = Buffer.alloc(512);
    const seen = r.read(into);
    await settle();
    await r.clock.advance(15_000);
    r.wire(0).close();
    await r.clock.advance(19_000);
    expect(seen.state).toBe('pending');
    expect(r.session.state).toBe('open');
    await r.clock.advance(2000);
    await settle();
    expect(reassigns(r.wire(1))).toHaveLength(1);
    await r.clock.advance(28_000);
    expect(tmfs(r.wire(1))).toHaveLength(1);
    r.wire(1).dataIn(r.commands(0)[0]!, pattern(512), { status: 0 });
    await settle();
    expect(seen.state).toBe('done');
    expect(into.equals(pattern(512))).toBe(true);
  });

  test('runs out on the new one as on any other', async () => {
    const r = await recovering(2, 2, { logout: 0, reassign: 0 }, options);
    const seen = r.read(Buffer.alloc(512));
    await settle();
    r.wire(0).close();
    await r.clock.advance(21_000);
    await r.clock.advance(31_000);
    expect(tmfs(r.wire(1)).map((pdu) => pdu.function)).toEqual([
      TaskFunction.TaskReassign,
      TaskFunction.AbortTask,
    ]);
    await settle();
    expect(seen.state).toBe('terminated');
  });

  test('that had run out is given again: an abort on its way is lost with the connection', async () => {
    const script: Script = { logout: 0, reassign: null };
    const r = await recovering(2, 2, script, options);
    const seen = r.read(Buffer.alloc(512));
    await settle();
    await r.clock.advance(31_000);
    expect(tmfs(r.wire(0)).map((pdu) => pdu.function)).toEqual([TaskFunction.AbortTask]);
    script.reassign = 0;
    r.wire(0).close();
    await r.clock.advance(21_000);
    await settle();
    expect(reassigns(r.wire(1))).toHaveLength(1);
    r.wire(1).dataIn(r.commands(0)[0]!, pattern(512), { status: 0 });
    await settle();
    expect(seen.state).toBe('done');
    expect(r.session.state).toBe('open');
  });

  test('does not run out for one that waits until there is a connection', async () => {
    let refuse = true;
    const r = await recovering(1, 2, { logout: null, reassign: 0 }, options, (_, index) => {
      if (index > 0 && refuse) throw new Error('unreachable');
    });
    r.wire(0).close();
    await settle();
    const seen = r.read(Buffer.alloc(512));
    await r.clock.advance(35_000);
    expect(seen.state).toBe('pending');
    refuse = false;
    await r.clock.advance(2000);
    await settle();
    r.wire(1).dataIn(r.commands(1)[0]!, pattern(512), { status: 0 });
    await settle();
    expect(seen.state).toBe('done');
  });
});

test('a reset waits until the target has what was sent over the other connections', async () => {
  const r = await recovering(2, 2, { logout: 0, reassign: 0 });
  const [first, second] = [r.wire(0), r.wire(1)];
  const before = r.session.cmdSn >>> 0;
  for (const wire of [first, second]) {
    wire.onCommand = () => {
      wire.expCmdSn = before; // still on its way
    };
  }
  r.write(pattern(512));
  r.write(pattern(512), 512);
  await settle();
  const reset = r.session.taskManagement(TaskFunction.LogicalUnitReset, LUN, { timeoutMs: 5000 });
  await settle();
  expect(first.of(Opcode.TaskManagementRequest)).toHaveLength(0);
  for (const wire of [first, second]) wire.expCmdSn = before + 2;
  await r.clock.advance(1000);
  await settle();
  expect(first.of(Opcode.TaskManagementRequest)).toHaveLength(1);
  expect((await reset).response).toBe(0);
});
