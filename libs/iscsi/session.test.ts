import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { LUN, lastCommand, pattern, read, rig, watch, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

describe('the command window', () => {
  test('is kept: what does not fit waits its turn, and CmdSN has no hole', async () => {
    const r = await rig((t) => {
      t.window = 2;
    });
    const seen = Array.from({ length: 5 }, (_, i) => read(r, i * 512, Buffer.alloc(512)));
    await settle();
    expect(r.commands()).toHaveLength(2);
    r.target.dataIn(r.commands()[1]!, pattern(512), { status: 0 });
    await settle();
    expect(r.commands()).toHaveLength(4);
    for (const i of [0, 2, 3]) r.target.dataIn(r.commands()[i]!, pattern(512), { status: 0 });
    await settle();
    r.target.dataIn(r.commands()[4]!, pattern(512), { status: 0 });
    await settle();
    expect(seen.map((s) => s.state)).toEqual(Array(5).fill('done'));
    const sns = r.commands().map((c) => c.cmdSn);
    expect(sns.map((sn) => (sn - sns[0]!) >>> 0)).toEqual([0, 1, 2, 3, 4]);
    expect(r.commands().map((c) => c.cdb.readUInt32BE(2))).toEqual([0, 1, 2, 3, 4]);
  });

  test('closed at zero lets pings through, and is opened by a NOP-In', async () => {
    const r = await rig((t) => {
      t.window = 0;
    });
    const seen = read(r, 0, Buffer.alloc(512));
    await settle();
    expect(r.commands()).toHaveLength(0);
    await r.clock.advance(5000);
    const [ping] = r.target.of(Opcode.NopOut);
    expect(ping!.pdu).toMatchObject({ immediate: true, ttt: RESERVED_TAG });
    r.target.window = 1;
    r.target.send({
      opcode: Opcode.NopIn,
      lun: LUN,
      itt: RESERVED_TAG,
      ttt: RESERVED_TAG,
      ...r.target.numbers(false),
    });
    r.target.dataIn(await lastCommand(r), pattern(512), { status: 0 });
    await settle();
    expect(seen.state).toBe('done');
  });

  test('is not moved back, and not by numbers that make no sense', async () => {
    const r = await rig((t) => {
      t.window = 3;
    });
    const nop = (expCmdSn: number, maxCmdSn: number) =>
      r.target.send({
        opcode: Opcode.NopIn,
        lun: LUN,
        itt: RESERVED_TAG,
        ttt: RESERVED_TAG,
        statSn: 0,
        expCmdSn: expCmdSn >>> 0,
        maxCmdSn: maxCmdSn >>> 0,
      });
    const first = r.target.expCmdSn;
    nop(first, first - 1); // older: smaller window
    nop(first + 200, first + 100); // MaxCmdSN < ExpCmdSN - 1
    await settle();
    for (let i = 0; i < 5; i++) read(r, 0, Buffer.alloc(512));
    await settle();
    expect(r.commands()).toHaveLength(3);
  });

  test('wraps around at 2^32', async () => {
    const last = { u32: () => 0xffffffff, float: () => 0, fill: () => {} };
    const r = await rig(undefined, { rng: last });
    for (let i = 0; i < 2; i++) {
      const seen = read(r, 0, Buffer.alloc(512));
      r.target.dataIn(await lastCommand(r), pattern(512), { status: 0 });
      await settle();
      expect(seen.state).toBe('done');
    }
    expect(r.commands().map((command) => command.cmdSn)).toEqual([0xffffffff, 0]);
  });
});

describe('when the session is lost', () => {
  test('what waited for the window is not executed, what was sent is unknown', async () => {
    const r = await rig((t) => {
      t.window = 2;
    });
    const seen = [0, 1, 2, 3].map((i) => write(r, i * 512, pattern(512)));
    await settle();
    r.target.close();
    await settle();
    expect(seen.map((s) => s.state)).toEqual([
      'unknown',
      'unknown',
      'not-executed',
      'not-executed',
    ]);
    expect(read(r, 0, Buffer.alloc(512))).toBeDefined();
    await settle();
    expect(watch(r.lun.read(0, Buffer.alloc(512), NO_DEADLINE)).state).toBe('pending');
    expect(r.session.cause?.message).toMatch(/closed the connection/);
  });

  test('a command of this very turn was not handed to the socket, so it is not executed', async () => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    r.session.destroy(new Error('given up'));
    await settle();
    expect(seen.state).toBe('not-executed');
    expect(r.commands()).toHaveLength(0);
  });

  test('what was answered before is done, even while the socket holds its memory', async () => {
    const r = await rig();
    r.target.holdWrites = true;
    const seen = write(r, 0, pattern(8192));
    r.target.respond(await lastCommand(r));
    await settle();
    r.session.destroy(new Error('given up'));
    await settle();
    expect(seen.state).toBe('done');
  });

  test('new commands are refused as not executed, with the first cause', async () => {
    const r = await rig();
    r.session.destroy(new Error('first'));
    r.session.destroy(new Error('second'));
    const seen = read(r, 0, Buffer.alloc(512));
    await settle();
    expect(seen.error).toMatchObject({ code: 'ISCSI_SESSION_CLOSED', outcome: 'not-executed' });
    expect(seen.error!.cause).toMatchObject({ message: 'first' });
  });
});

describe('silence', () => {
  test('is pinged, and after a ping without an answer the session is given up', async () => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    await settle();
    await r.clock.advance(4100);
    expect(r.target.of(Opcode.NopOut)).toHaveLength(1);
    expect(r.session.state).toBe('open');
    await r.clock.advance(2100);
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_NOP_TIMEOUT' });
    expect(seen.state).toBe('unknown');
  });

  test('is not silence when the ping is answered', async () => {
    const r = await rig();
    r.target.onPdu = ({ pdu }) => {
      if (pdu.opcode !== Opcode.NopOut) return;
      r.target.send({
        opcode: Opcode.NopIn,
        lun: pdu.lun,
        itt: pdu.itt,
        ttt: RESERVED_TAG,
        ...r.target.numbers(true),
      });
    };
    await r.clock.advance(60_000);
    expect(r.session.state).toBe('open');
    expect(r.target.of(Opcode.NopOut).length).toBeGreaterThan(5);
  });

  test('no ping goes out while anything comes in', async () => {
    const r = await rig();
    for (let i = 0; i < 20; i++) {
      await r.clock.advance(1000);
      r.target.send({
        opcode: Opcode.NopIn,
        lun: LUN,
        itt: RESERVED_TAG,
        ttt: RESERVED_TAG,
        ...r.target.numbers(false),
      });
      await settle();
    }
    expect(r.target.of(Opcode.NopOut)).toHaveLength(0);
  });

  test('of one command alone, also of its abort, ends the session too, with that command unknown', async () => {
    const timeouts = { nopIntervalMs: 1000, commandMs: 10_000, abortMs: 1000 };
    const r = await rig(undefined, { timeouts });
    r.target.onPdu = ({ pdu }) => {
      if (pdu.opcode !== Opcode.NopOut) return;
      r.target.send({
        opcode: Opcode.NopIn,
        lun: pdu.lun,
        itt: pdu.itt,
        ttt: RESERVED_TAG,
        ...r.target.numbers(true),
      });
    };
    const seen = write(r, 0, pattern(512));
    await r.clock.advance(9000);
    expect(seen.state).toBe('pending');
    await r.clock.advance(3000);
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_COMMAND_TIMEOUT' });
  });

  test('a command that makes progress gets more time', async () => {
    const r = await rig(undefined, { timeouts: { commandMs: 10_000, nopIntervalMs: 60_000 } });
    const seen = read(r, 0, Buffer.alloc(2048));
    const command = await lastCommand(r);
    for (let i = 0; i < 4; i++) {
      await r.clock.advance(8000);
      r.target.dataIn(command, pattern(512), {
        dataSn: i,
        offset: i * 512,
        final: i === 3,
        ...(i === 3 ? { status: 0 } : {}),
      });
      await settle();
    }
    expect(seen.state).toBe('done');
  });
});
