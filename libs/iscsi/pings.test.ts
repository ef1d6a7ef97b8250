import { describe, expect, test } from 'vitest';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { type Rig, rig } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const INTERVAL = { timeouts: { nopIntervalMs: 1000, nopTimeoutMs: 1000 } };

const answer = async (r: Rig, echo: (data: Buffer) => Buffer) => {
  const { pdu, data } = r.target.of(Opcode.NopOut).at(-1)!;
  r.target.send(
    {
      opcode: Opcode.NopIn,
      lun: pdu.lun,
      itt: pdu.itt,
      ttt: RESERVED_TAG,
      ...r.target.numbers(true),
    },
    echo(data),
  );
  await settle();
};

describe('a ping of ours', () => {
  test('comes after silence, is immediate, takes no CmdSN, and carries data that are new each time', async () => {
    const r = await rig(undefined, INTERVAL);
    const { cmdSn } = r.session;
    await r.clock.advance(2100);
    await answer(r, (data) => data);
    await r.clock.advance(2100);
    const [first, second] = r.target.of(Opcode.NopOut);
    expect(first!.pdu).toMatchObject({ immediate: true, ttt: RESERVED_TAG, cmdSn: cmdSn >>> 0 });
    expect(first!.pdu.itt).not.toBe(RESERVED_TAG);
    expect(first!.data.length).toBeGreaterThan(0);
    expect(second!.data.equals(first!.data)).toBe(false);
    expect(r.session.cmdSn).toBe(cmdSn);
  });

  test('whose echo is another is a violation: bytes change on this connection', async () => {
    const r = await rig(undefined, INTERVAL);
    await r.clock.advance(2100);
    await answer(r, (data) => Buffer.from(data.map((byte, i) => (i === 3 ? byte ^ 1 : byte))));
    expect(r.session.cause?.message).toMatch(/§11\.18\.3/);
  });

  test('whose echo has no data at all is taken for an answer', async () => {
    const r = await rig(undefined, INTERVAL);
    await r.clock.advance(2100);
    await answer(r, () => Buffer.alloc(0));
    expect(r.session.state).toBe('open');
  });

  test('is not sent while anything arrives, and goes through a closed window', async () => {
    const r = await rig(undefined, INTERVAL);
    for (let i = 0; i < 10; i++) {
      await r.clock.advance(900);
      r.target.send({
        opcode: Opcode.NopIn,
        lun: Buffer.alloc(8),
        itt: RESERVED_TAG,
        ttt: RESERVED_TAG,
        ...r.target.numbers(false),
      });
    }
    expect(r.target.of(Opcode.NopOut)).toEqual([]);
    r.target.window = 0;
    await r.clock.advance(2100);
    expect(r.target.of(Opcode.NopOut)).toHaveLength(1);
  });
});
