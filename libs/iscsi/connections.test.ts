import { describe, expect, test } from 'vitest';
import { Opcode } from './pdu/opcodes.ts';
import { pattern } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';
import { wires } from './testing/fake-wires.ts';
import { parseText } from './text.ts';

const states = (session: { connections(): { cid: number; state: string }[] }): string[] =>
  session.connections().map(({ cid, state }) => `${cid} ${state}`);

describe('a session with several connections', () => {
  test('adds them under its ISID and TSIH, each with a CID of its own, and says only what is per connection', async () => {
    const r = await wires(3);
    expect(states(r.session)).toEqual(['0 LOGGED_IN', '1 LOGGED_IN', '2 LOGGED_IN']);
    expect(r.session.phase).toBe('LOGGED_IN');
    const leading = r.wire(0).of(Opcode.LoginRequest);
    expect(leading.every(({ pdu }) => pdu.tsih === 0 && pdu.cid === 0)).toBe(true);
    for (const cid of [1, 2]) {
      const logins = r.wire(cid).of(Opcode.LoginRequest);
      expect(logins.length).toBeGreaterThan(0);
      for (const { pdu } of logins) {
        expect(pdu).toMatchObject({ cid, tsih: 0x1234, cmdSn: r.session.cmdSn >>> 0 });
        expect(pdu.isid.equals(r.session.isid)).toBe(true);
      }
      const said = logins.flatMap(({ data }) => parseText(data).pairs!.map(([name]) => name));
      expect(said.sort()).toEqual([
        'AuthMethod',
        'DataDigest',
        'HeaderDigest',
        'InitiatorName',
        'MaxRecvDataSegmentLength',
        'TargetName',
      ]);
    }
    expect(r.events).toMatchObject([
      { kind: 'connection', cid: 1, state: 'LOGGED_IN', reason: null },
      { kind: 'connection', cid: 2, state: 'LOGGED_IN', reason: null },
    ]);
  });

  test('has no more than the target allows', async () => {
    const r = await wires(4, (wire) => {
      wire.wants = { ...wire.wants, MaxConnections: 2 };
    });
    expect(states(r.session)).toEqual(['0 LOGGED_IN', '1 LOGGED_IN']);
    expect(r.net.wires).toHaveLength(2);
  });

  test('shows which connection the target wants logged out, until it is (§8.1.3)', async () => {
    const r = await wires(2);
    const seen = r.read(Buffer.alloc(512));
    await settle();
    const wire = r.wire(1);
    const ask = () =>
      wire.send({
        opcode: Opcode.AsyncMessage,
        lun: Buffer.alloc(8),
        ...wire.numbers(true),
        event: 1,
        vendorCode: 0,
        parameter1: 0,
        parameter2: 0,
        parameter3: 5,
      });
    ask();
    await settle();
    expect(states(r.session)).toEqual(['0 LOGGED_IN', '1 LOGOUT_REQUESTED']);
    ask();
    await settle();
    expect(states(r.session)[1]).toBe('1 LOGOUT_REQUESTED');
    r.wire(0).dataIn(r.commands(0)[0]!, pattern(512), { status: 0 });
    await r.clock.advance(100);
    expect(seen.state).toBe('done');
    expect(states(r.session)).toEqual(['0 IN_LOGOUT', '1 IN_LOGOUT']);
    ask();
    await settle();
    expect(states(r.session)[1]).toBe('1 IN_LOGOUT');
    const [logout] = r.wire(0).of(Opcode.LogoutRequest);
    r.wire(0).send({
      opcode: Opcode.LogoutResponse,
      response: 0,
      itt: logout!.pdu.itt,
      ...r.wire(0).numbers(true),
      time2Wait: 0,
      time2Retain: 0,
    });
    await settle();
    expect(states(r.session)).toEqual(['0 FREE', '1 FREE']);
  });

  test('spreads over the portals it was given', async () => {
    const portals = ['a', 'b'].map((host) => ({ kind: 'tcp' as const, host, port: 3260 }));
    const r = await wires(3, () => {}, { portals });
    expect(r.net.addresses.map((address) => (address as { host: string }).host)).toEqual([
      'a',
      'b',
      'a',
    ]);
    expect(states(r.session)).toHaveLength(3);
  });

  test.each([
    ['0206', 6],
    ['0208', 8],
  ])('stays with fewer when the target answers %s, and says so', async (_, statusDetail) => {
    const r = await wires(2, (wire, index) => {
      if (index !== 1) return;
      wire.onLogin = (request) => {
        wire.loginResponse(request, { statusClass: 2, statusDetail });
        return true;
      };
    });
    expect(states(r.session)).toEqual(['0 LOGGED_IN']);
    expect(r.session.state).toBe('open');
    expect(r.events).toMatchObject([{ kind: 'connection', cid: 1, state: 'FREE' }]);
    await r.clock.advance(60_000);
    expect(r.net.wires).toHaveLength(2);
  });

  test('tries a portal that does not answer again, with growing pauses', async () => {
    const r = await wires(2, (_, index) => {
      if (index >= 1) throw new Error('refused');
    });
    expect(states(r.session)).toEqual(['0 LOGGED_IN', '1 FREE']);
    r.net.setUp = (wire) => {
      wire.wants = { ...wire.wants, MaxConnections: 8 };
    };
    await r.clock.advance(250);
    await settle();
    expect(states(r.session)).toEqual(['0 LOGGED_IN', '1 LOGGED_IN']);
  });

  test('does not take a portal of another group in', async () => {
    const r = await wires(2, (wire, index) => {
      if (index !== 1) return;
      wire.onLogin = (request) => {
        if (request.csg !== 0) return false;
        const pairs = [
          ['AuthMethod', 'None'],
          ['TargetPortalGroupTag', '2'],
        ] as const;
        wire.loginResponse(request, {}, pairs);
        return true;
      };
    });
    expect(states(r.session)).toEqual(['0 LOGGED_IN']);
    expect(r.events).toMatchObject([{ reason: expect.stringMatching(/group 2/) }]);
    expect(r.wire(1).destroyed).not.toBeNull();
  });

  test('does not take up a session that got its handle from the target after it', async () => {
    const r = await wires(2, (wire, index) => {
      if (index !== 1) return;
      wire.onLogin = (request) => {
        if (request.csg !== 1) return false;
        const expCmdSn = (request.cmdSn + 100_000) >>> 0;
        const pairs = [
          ['HeaderDigest', 'None'],
          ['DataDigest', 'None'],
        ] as const;
        wire.loginResponse(request, { expCmdSn, maxCmdSn: expCmdSn + 10 }, pairs);
        return true;
      };
    });
    expect(states(r.session)).toEqual(['0 LOGGED_IN']);
    expect(r.wire(1).destroyed).not.toBeNull();
  });

  test('numbers its commands over all connections, and each connection counts its own status', async () => {
    const r = await wires(3);
    const first = r.session.cmdSn >>> 0;
    const into = [0, 1, 2, 3, 4, 5].map(() => Buffer.alloc(4096));
    const seen = into.map((buffer, i) => r.read(buffer, i * 4096));
    await settle();
    const all = [0, 1, 2].flatMap((index) => r.commands(index));
    expect([0, 1, 2].map((index) => r.commands(index).length)).toEqual([2, 2, 2]);
    expect(all.map(({ cmdSn }) => cmdSn).sort()).toEqual([0, 1, 2, 3, 4, 5].map((i) => first + i));
    expect(new Set(all.map(({ itt }) => itt)).size).toBe(6);
    for (const index of [2, 0, 1]) {
      for (const command of r.commands(index)) {
        r.wire(index).dataIn(command, pattern(4096), { status: 0 });
      }
    }
    await settle();
    expect(seen.every(({ state }) => state === 'done')).toBe(true);
    expect(into.every((buffer) => buffer.equals(pattern(4096)))).toBe(true);
    expect(r.session.stats).toMatchObject({ commands: 6, inflight: 0 });
  });

  test('gives the next command to the connection that has least to do', async () => {
    const r = await wires(2);
    r.write(pattern(65536));
    r.read(Buffer.alloc(4096), 65536);
    r.read(Buffer.alloc(4096), 131072);
    await settle();
    expect([0, 1].map((index) => r.commands(index).length)).toEqual([1, 2]);
  });

  test('keeps what belongs to a write on its connection', async () => {
    const r = await wires(2, (wire) => {
      wire.wants = { ...wire.wants, ImmediateData: false, InitialR2T: true };
    });
    r.read(Buffer.alloc(4096));
    const seen = r.write(pattern(16384), 65536);
    await settle();
    const [command] = r.commands(1);
    r.wire(1).r2t(command!, 0, 16384);
    await settle();
    expect(r.wire(0).of(Opcode.DataOut)).toHaveLength(0);
    const sent = r.wire(1).of(Opcode.DataOut);
    expect(Buffer.concat(sent.map(({ data }) => data)).equals(pattern(16384))).toBe(true);
    r.wire(1).respond(command!);
    await settle();
    expect(seen.state).toBe('done');
  });

  test('takes no PDU of a task from another connection than the one of the task', async () => {
    const r = await wires(2);
    const seen = r.read(Buffer.alloc(512));
    await settle();
    r.wire(1).dataIn(r.commands(0)[0]!, pattern(512), { status: 0 });
    await settle();
    expect(r.session.cause?.message).toMatch(/another connection/);
    expect(seen.state).toBe('unknown');
  });

  test('is over with any of them at level 0, and what was on its way is unknown', async () => {
    const r = await wires(2);
    const seen = [r.write(pattern(512)), r.write(pattern(512), 512)];
    await settle();
    r.wire(1).close();
    await settle();
    expect(r.session.state).toBe('closed');
    expect(r.wire(0).destroyed).not.toBeNull();
    expect(seen.map(({ state }) => state)).toEqual(['unknown', 'unknown']);
    expect(states(r.session)).toEqual(['0 FREE', '1 FREE']);
    expect(r.session.phase).toBe('FREE');
  });

  test('pings only the connection that is silent, and gives it up alone', async () => {
    const r = await wires(2);
    for (const index of [0, 1]) r.wire(index).received.length = 0;
    r.wire(0).onPdu = ({ pdu }) => {
      if (pdu.opcode !== Opcode.NopOut) return;
      const { itt, lun } = pdu;
      const wire = r.wire(0);
      wire.send({ opcode: Opcode.NopIn, lun, itt, ttt: 0xffffffff, ...wire.numbers(true) });
    };
    await r.clock.advance(2000);
    await settle();
    await r.clock.advance(2000);
    await settle();
    expect(r.session.state).toBe('open');
    expect(r.wire(1).of(Opcode.NopOut).length).toBeGreaterThan(0);
    await r.clock.advance(2100);
    await settle();
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_NOP_TIMEOUT' });
  });

  test('is logged out as a whole over one of them', async () => {
    const r = await wires(2);
    r.wire(0).onPdu = ({ pdu }) => {
      if (pdu.opcode !== Opcode.LogoutRequest) return;
      r.wire(1).close();
      const { itt } = pdu;
      const wire = r.wire(0);
      wire.send({
        opcode: Opcode.LogoutResponse,
        response: 0,
        itt,
        ...wire.numbers(true),
        time2Wait: 0,
        time2Retain: 0,
      });
    };
    await r.session.logout({ timeoutMs: 1000 });
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_SESSION_CLOSED' });
    expect(r.wire(0).of(Opcode.LogoutRequest)).toMatchObject([{ pdu: { reason: 0 } }]);
  });

  test('opens no connection once it is over, nor when somebody else may have it', async () => {
    const held = await wires(2, (_, index) => {
      if (index === 1) throw new Error('refused');
    });
    held.session.destroy(new Error('enough'));
    await held.clock.advance(60_000);
    await settle();
    expect(held.net.wires).toHaveLength(1);
    const taken = await wires(2, () => {}, {
      mayLogIn: () => Promise.resolve(false),
    });
    expect(taken.net.wires).toHaveLength(1);
    expect(taken.session.cause?.message).toMatch(/somebody else/);
  });
});
