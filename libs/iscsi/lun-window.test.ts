import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { IscsiLun } from './lun.ts';
import { Opcode } from './pdu/opcodes.ts';
import { facts, pattern, type Rig, rig, watch, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const BUSY = 0x08;
const TASK_SET_FULL = 0x28;

/** A target that takes `depth` commands at once and says TASK SET FULL to more, and that answers when it is told to. */
async function narrow(depth: number, status = TASK_SET_FULL) {
  const r = await rig(undefined, { timeouts: { nopIntervalMs: 1_000_000 } });
  const taken: Parameters<Rig['target']['respond']>[0][] = [];
  const seen = { refused: 0, most: 0 };
  r.target.onPdu = ({ pdu }) => {
    if (pdu.opcode !== Opcode.ScsiCommand) return;
    if (taken.length >= depth) {
      seen.refused += 1;
      return r.target.respond(pdu, { status });
    }
    taken.push(pdu);
    seen.most = Math.max(seen.most, taken.length);
  };
  const answerAll = async (): Promise<void> => {
    for (const pdu of taken.splice(0)) r.target.respond(pdu);
    await settle();
  };
  return { r, seen, answerAll };
}

describe('the window of a logical unit', () => {
  test.each([
    ['TASK SET FULL', TASK_SET_FULL],
    ['BUSY', BUSY],
  ])(
    'shrinks by half at %s, and what does not fit waits instead of being refused',
    async (_, status) => {
      const { r, seen, answerAll } = await narrow(8, status);
      const all = Array.from({ length: 32 }, (_, i) => write(r, i * 512, pattern(512)));
      await settle();
      const atFirst = seen.refused;
      expect(atFirst).toBe(24);
      for (let i = 0; i < 200 && all.some(({ state }) => state === 'pending'); i++) {
        await answerAll();
        await r.clock.advance(50);
      }
      expect(all.every(({ state }) => state === 'done')).toBe(true);
      // Once the window is narrow enough hardly anything is refused any more.
      const more = Array.from({ length: 64 }, (_, i) => write(r, i * 512, pattern(512)));
      const before = seen.refused;
      for (let i = 0; i < 400 && more.some(({ state }) => state === 'pending'); i++) {
        await answerAll();
        await r.clock.advance(50);
      }
      expect(more.every(({ state }) => state === 'done')).toBe(true);
      expect(seen.refused - before).toBeLessThan(16);
    },
  );

  test('grows by one for each window of good answers', async () => {
    const { r, seen, answerAll } = await narrow(4);
    const all = Array.from({ length: 16 }, () => write(r, 0, pattern(512)));
    for (let i = 0; i < 100 && all.some(({ state }) => state === 'pending'); i++) {
      await answerAll();
      await r.clock.advance(50);
    }
    // The unit takes more from now on.
    r.target.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.ScsiCommand) r.target.respond(pdu);
    };
    for (let round = 0; round < 60; round++) {
      await Promise.all(
        Array.from({ length: 8 }, () => r.lun.write(0, pattern(512), 0, { deadlineMs: 1e9 })),
      );
    }
    const inflight: number[] = [];
    const held: Parameters<Rig['target']['respond']>[0][] = [];
    r.target.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.ScsiCommand) held.push(pdu);
      inflight.push(held.length);
    };
    const last = Array.from({ length: 64 }, () => write(r, 0, pattern(512)));
    await settle();
    expect(Math.max(...inflight)).toBeGreaterThan(16);
    expect(Math.max(...inflight)).toBeLessThan(64);
    for (let i = 0; i < 64; i++) {
      for (const pdu of held.splice(0)) r.target.respond(pdu);
      await settle();
    }
    expect(last.every(({ state }) => state === 'done')).toBe(true);
    expect(seen.most).toBeLessThanOrEqual(4);
  });

  test('what waits is lost with the session as not executed, and nothing is sent any more', async () => {
    const { r } = await narrow(2);
    const all = Array.from({ length: 8 }, () => write(r, 0, pattern(512)));
    await settle();
    const waiting = Array.from({ length: 8 }, () => write(r, 0, pattern(512)));
    await settle();
    const sent = r.commands().length;
    r.session.destroy(new Error('over'));
    await r.clock.advance(5_000);
    expect(all.filter(({ state }) => state === 'unknown')).toHaveLength(2);
    expect([...all, ...waiting].filter(({ state }) => state === 'not-executed')).toHaveLength(14);
    expect(r.commands()).toHaveLength(sent);
    expect(r.session.stats.inflight).toBe(0);
  });

  test('what was given up while it waited is not sent when its task serves another unit', async () => {
    const { r, answerAll } = await narrow(1);
    const first = Array.from({ length: 4 }, () => write(r, 0, pattern(512)));
    await settle();
    const waiting = Array.from({ length: 4 }, () => write(r, 512, pattern(512)));
    r.lun.abandon();
    await settle();
    expect(waiting.every(({ state }) => state === 'not-executed')).toBe(true);
    const other = new IscsiLun(r.session, Buffer.from('0002000000000000', 'hex'), facts);
    const sent = r.commands().length;
    const others = Array.from({ length: 8 }, () =>
      watch(other.write(0, pattern(512), 0, NO_DEADLINE)),
    );
    const last = write(r, 1024, pattern(512));
    for (let i = 0; i < 100; i++) {
      await answerAll();
      await r.clock.advance(50);
    }
    expect([...others, last].every(({ state }) => state === 'done')).toBe(true);
    expect(first.every(({ state }) => state !== 'pending')).toBe(true);
    const luns = r.commands().slice(sent);
    expect(luns.filter(({ cdb }) => cdb.readUInt32BE(2) === 1)).toHaveLength(0);
    expect(r.session.stats.inflight).toBe(0);
  });

  test('an unlimited one sends everything at once', async () => {
    const { r } = await narrow(64);
    Array.from({ length: 48 }, () => write(r, 0, pattern(512)));
    await settle();
    expect(r.commands()).toHaveLength(48);
  });
});
