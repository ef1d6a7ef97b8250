import { describe, expect, test } from 'vitest';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { answerText } from './testing/control-script.ts';
import { LUN, type Rig, rig, watch } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const quiet = { timeouts: { nopIntervalMs: 1_000_000 } };
const open = () => rig(undefined, quiet);

const ask = async (r: Rig, text: string, timeoutMs = 1000) => {
  const promise = r.session.text(Buffer.from(text), timeoutMs);
  const seen = watch(promise);
  await settle();
  return { promise, seen };
};

const requests = (r: Rig) => r.target.of(Opcode.TextRequest);

describe('text in full feature phase', () => {
  test('goes under one tag, and the parts of an answer are asked for with the tag and LUN of the target', async () => {
    const r = await open();
    const { promise } = await ask(r, 'SendTargets=All\0');
    expect(requests(r)[0]!.pdu).toMatchObject({
      immediate: true,
      final: true,
      continue: false,
      ttt: RESERVED_TAG,
    });
    // With the C bit, and cut in the middle of a pair.
    await answerText(r, 'TargetName=iqn.20', { final: false, continue: true });
    // Without it, as some targets do, cut anywhere.
    await answerText(r, '26-11.lab:a\0TargetAdd', { final: false });
    await answerText(r, 'ress=1.2.3.4:3260,1\0');
    expect(String(await promise)).toBe(
      'TargetName=iqn.2026-11.lab:a\0TargetAddress=1.2.3.4:3260,1\0',
    );
    const pdus = requests(r).map(({ pdu }) => pdu);
    expect(pdus).toHaveLength(3);
    expect(new Set(pdus.map(({ itt }) => itt)).size).toBe(1);
    for (const { pdu, data } of requests(r).slice(1)) {
      expect(pdu).toMatchObject({ final: true, immediate: true, ttt: 0x77 });
      expect(pdu.lun.equals(LUN)).toBe(true);
      expect(data).toHaveLength(0);
    }
  });

  test('that is longer than a segment of the target is sent in parts with the C bit', async () => {
    const r = await rig((target) => {
      target.wants = { MaxRecvDataSegmentLength: 512 };
    }, quiet);
    const text = Array.from({ length: 40 }, (_, i) => `X-com.example.key${i}=value${i}\0`).join('');
    const { promise } = await ask(r, text);
    for (let left = Math.ceil(text.length / 512) - 1; left > 0; left--) {
      expect(requests(r).at(-1)!.pdu).toMatchObject({ continue: true, final: false });
      await answerText(r, '', { final: false });
    }
    expect(requests(r).at(-1)!.pdu).toMatchObject({ continue: false, final: true });
    await answerText(r, 'X-com.example.key1=NotUnderstood\0');
    expect(String(await promise)).toBe('X-com.example.key1=NotUnderstood\0');
    expect(Buffer.concat(requests(r).map(({ data }) => data)).toString()).toBe(text);
  });

  test('of two askers goes one after the other', async () => {
    const r = await open();
    const first = await ask(r, 'X-a=1\0');
    const second = await ask(r, 'X-b=1\0');
    expect(requests(r)).toHaveLength(1);
    await answerText(r, 'X-a=NotUnderstood\0');
    expect(first.seen.state).toBe('done');
    expect(requests(r)[1]!.data.toString()).toBe('X-b=1\0');
    // What comes back about a key of ours is an answer, also in the middle: it is not answered again.
    await answerText(r, 'X-b=NotUnderstood\0', { final: false });
    expect(requests(r)[2]!.data).toHaveLength(0);
    await answerText(r, '');
    expect(String(await second.promise)).toBe('X-b=NotUnderstood\0');
  });

  test('that is not answered fails, and the next one goes', async () => {
    const r = await open();
    const { seen } = await ask(r, 'X-a=1\0');
    await r.clock.advance(1100);
    expect(seen.error).toMatchObject({ code: 'ISCSI_COMMAND_TIMEOUT' });
    const next = await ask(r, 'X-b=1\0');
    await answerText(r, '');
    expect(next.seen.state).toBe('done');
  });

  test.each([
    ['ends before we have said all', { final: true }, 'X-a='.padEnd(600, 'x')],
    ['goes on without a tag', { final: false, ttt: RESERVED_TAG }, 'X-a=1'],
    ['has F and C', { final: true, continue: true, ttt: RESERVED_TAG }, 'X-a=1'],
  ])('that %s is a violation', async (_what, over, text) => {
    const r = await rig((target) => {
      target.wants = { MaxRecvDataSegmentLength: 512 };
    }, quiet);
    const { seen } = await ask(r, `${text}\0`);
    await answerText(r, '', over);
    expect(seen.error).toMatchObject({
      code: expect.stringMatching(/ISCSI_(SESSION_LOST|PROTOCOL)/),
    });
    expect(r.session.cause?.message).toMatch(/§11\.1[01]|§6/);
  });

  test('without end is a violation', async () => {
    const r = await open();
    const { seen } = await ask(r, 'SendTargets=All\0', 60_000);
    for (let i = 0; i < 70 && r.session.state === 'open'; i++) {
      await answerText(r, `TargetName=iqn.2026-11.lab:${i}\0`, { final: false });
    }
    expect(r.session.cause?.message).toMatch(/§11\.11/);
    expect(seen.state).toBe('unknown');
  });

  test('with a target tag in its last part is taken: the tag is to be ignored (§11.10.4)', async () => {
    const r = await open();
    const { seen } = await ask(r, 'X-a=1\0');
    await answerText(r, 'X-a=2\0', { ttt: 5 });
    expect(seen.state).toBe('done');
  });

  test('queues no more than a few', async () => {
    const r = await open();
    const all = await Promise.all(Array.from({ length: 20 }, () => ask(r, 'X-a=1\0', 100)));
    expect(all.filter(({ seen }) => seen.error?.code === 'ISCSI_QUEUE_FULL')).toHaveLength(4);
  });
});
