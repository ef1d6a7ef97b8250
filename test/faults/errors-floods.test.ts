import { describe, expect, test } from 'vitest';
import { discover } from '#iscsi/discovery.ts';
import type { Pdu, ScsiCommand } from '#iscsi/pdu/index.ts';
import { Opcode, RESERVED_TAG } from '#iscsi/pdu/opcodes.ts';
import { LUN, openOptions, type Rig, read, rig } from '#iscsi/testing/fake-session.ts';
import { FakeTarget, settle } from '#iscsi/testing/fake-target.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { memory } from './abuse-run.ts';
import { internalFault } from './hostile-ledger.ts';

/** Targets that never stop: nothing of it may pile up here, and what goes on beside it still works. */

const FLOOD = 20_000;
/** Below the pings that may wait for their answers to leave. */
const STEP = 100;
const MIB = 1024 * 1024;
const GROWTH_MAX = 24 * MIB;
/** After collecting. */
const HELD_MAX = 4 * MIB;

type Draft = Omit<Pdu, 'statSn' | 'expCmdSn' | 'maxCmdSn' | 'dataSegmentLength'>;

/**
 * Bytes in use. Of a session that goes on, without the garbage: how much of that lies about depends on when the runtime
 * finds the time to collect it. What one held that has ended is garbage itself, and counts.
 */
async function used({ session }: Rig): Promise<number> {
  if (session.state === 'open') return memory();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

type One = (i: number) => { pdu: Draft; counted: boolean; data?: Buffer };

/**
 * Sends PDUs without end, `step` at a time, and forgets what came in answer. Returns how far the memory grew, and how many
 * answers came.
 */
async function flood(
  r: Rig,
  one: One,
  { step = STEP, pauseMs = 0 } = {},
): Promise<{ growth: number; answers: number }> {
  let answers = 0;
  r.target.received.length = 0;
  const before = await used(r);
  for (let i = 0; i < FLOOD && r.session.state === 'open'; i++) {
    const { pdu, counted, data } = one(i);
    r.target.send({ ...pdu, ...r.target.numbers(counted) } as never, data);
    if (i % step !== 0) continue;
    await settle();
    if (pauseMs > 0) await r.clock.advance(pauseMs);
    answers += r.target.received.length;
    r.target.received.length = 0;
  }
  await settle();
  return { growth: (await used(r)) - before, answers: answers + r.target.received.length };
}

const ping = { opcode: Opcode.NopIn, lun: LUN, itt: RESERVED_TAG } as const;
const event = { opcode: Opcode.AsyncMessage, lun: LUN, vendorCode: 1 } as const;
const noParameters = { parameter1: 0, parameter2: 0, parameter3: 0 } as const;

async function stillReads(r: Rig): Promise<void> {
  const into = Buffer.alloc(512);
  const seen = read(r, 0, into);
  await settle();
  const { pdu } = r.target.of(Opcode.ScsiCommand).at(-1)!;
  r.target.dataIn(pdu, Buffer.alloc(512, 7), { status: 0 });
  await settle();
  expect(seen.state).toBe('done');
  expect(into.every((byte) => byte === 7)).toBe(true);
}

describe('nothing piles up when a target sends without end', () => {
  test('pings, and reads the answers', async () => {
    const r = await rig();
    const { growth, answers } = await flood(r, (i) => ({
      pdu: { ...ping, ttt: i } as unknown as Draft,
      counted: false,
    }));
    expect(answers).toBe(FLOOD);
    expect(growth).toBeLessThan(GROWTH_MAX);
    await stillReads(r);
  });

  test('news of its window', async () => {
    const r = await rig();
    const { growth, answers } = await flood(r, () => ({
      pdu: { ...ping, ttt: RESERVED_TAG } as unknown as Draft,
      counted: false,
    }));
    expect(answers).toBe(0);
    expect(growth).toBeLessThan(GROWTH_MAX);
    await stillReads(r);
  });

  test.each([
    ['vendor events', 255],
    ['events that there are not', 99],
    ['SCSI events', 0],
  ])('%s', async (_, number) => {
    const r = await rig();
    let heard = 0;
    r.session.onEvent(() => {
      heard += 1;
    });
    const { growth } = await flood(r, () => ({
      pdu: { ...event, event: number, ...noParameters } as unknown as Draft,
      counted: true,
      data: number === 0 ? Buffer.from([0, 4, 0x70, 0, 6, 0]) : Buffer.alloc(0),
    }));
    expect(heard).toBe(FLOOD);
    expect(growth).toBeLessThan(GROWTH_MAX);
    await stillReads(r);
  });

  test('news of tasks that it has ended (FastAbort)', async () => {
    const r = await rig((t) => {
      t.wants = { ...t.wants, TaskReporting: 'FastAbort' };
    });
    const { growth } = await flood(r, () => ({
      pdu: { ...event, event: 5, ...noParameters } as unknown as Draft,
      counted: true,
    }));
    expect(r.session.login.params.TaskReporting).toBe('FastAbort');
    expect(growth).toBeLessThan(GROWTH_MAX);
    await stillReads(r);
  });

  test.each([1, 2])(
    'events, each behind a status that it leaves out, at level %i',
    async (level) => {
      const r = await rig(
        (t) => {
          t.wants = { ...t.wants, ErrorRecoveryLevel: level };
        },
        { errorRecoveryLevel: level as 1 | 2 },
      );
      expect(r.session.login.params.ErrorRecoveryLevel).toBe(level);
      // Where connections are replaced again and again much is thrown away: what counts is what is held.
      const before = await memory();
      for (let i = 0; i < FLOOD && r.session.state === 'open'; i++) {
        // Each leaves a gap, which asks for a SNACK; none is ever answered.
        r.target.statSn = (r.target.statSn + 1) >>> 0;
        const numbers = r.target.numbers(true);
        r.target.send({ ...event, event: 255, ...noParameters, ...numbers } as never);
        if (i % STEP === 0) await settle();
        r.target.received.length = 0;
      }
      await r.clock.advance(200_000);
      r.target.received.length = 0;
      expect((await memory()) - before).toBeLessThan(HELD_MAX);
      expect(internalFault(r.session.cause)).toBeNull();
      r.session.destroy(new Error('the end of the test'));
      await r.clock.advance(60_000);
      expect(r.clock.pending).toBe(0);
    },
  );

  test('rejects of what was never sent', async () => {
    const r = await rig();
    const { growth } = await flood(r, (i) => ({
      pdu: { opcode: Opcode.Reject, reason: 9, dataSn: 0 } as unknown as Draft,
      counted: true,
      data: Buffer.concat([
        Buffer.from([Opcode.ScsiCommand]),
        Buffer.alloc(15),
        u32(i),
        Buffer.alloc(28),
      ]),
    }));
    expect(growth).toBeLessThan(GROWTH_MAX);
    await stillReads(r);
  });

  test('wishes for a logout: one is sent', async () => {
    const r = await rig();
    await flood(r, () => ({
      pdu: { ...event, event: 1, ...noParameters, parameter3: 3 } as unknown as Draft,
      counted: true,
    }));
    await r.clock.advance(60_000);
    expect(r.session.state).toBe('closed');
    expect(r.target.of(Opcode.LogoutRequest).length).toBeLessThanOrEqual(1);
    expect(internalFault(r.session.cause)).toBeNull();
    expect(r.clock.pending).toBe(0);
  });

  test('rejects of our answers to its pings: few are sent again, after one pause', async () => {
    const r = await rig();
    const timers = r.clock.pending;
    const { growth } = await flood(r, rejectedPong);
    expect(growth).toBeLessThan(GROWTH_MAX);
    expect(r.clock.pending).toBeLessThanOrEqual(timers + 1);
    await r.clock.advance(100);
    const again = r.target.of(Opcode.NopOut).map(({ pdu }) => pdu.ttt);
    expect(again).toEqual(Array.from({ length: 16 }, (_, i) => i));
    await stillReads(r);
  });

  test('wishes for an acknowledgement of no data: there is none', async () => {
    const r = await levelOne();
    read(r, 0, Buffer.alloc(4096));
    await settle();
    const { pdu: command } = r.target.of(Opcode.ScsiCommand).at(-1)!;
    const { answers, growth } = await flood(r, (i) => wish(command, i, 0));
    expect(answers).toBe(0);
    expect(growth).toBeLessThan(GROWTH_MAX);
    expect(r.session.state).toBe('open');
  });

  test('and never answers what was given up', async () => {
    const r = await rig();
    const into = Buffer.alloc(512);
    const before = await used(r);
    for (let i = 0; i < 3000 && r.session.state === 'open'; i++) {
      const seen = read(r, 0, into);
      await settle();
      // Room for the next one, and never an answer.
      r.target.send({ ...ping, ttt: RESERVED_TAG, ...r.target.numbers(false) });
      r.lun.abandon();
      await settle();
      expect(seen.state).toBe('terminated');
      r.target.received.length = 0;
    }
    expect(r.session.state).toBe('open');
    expect((await used(r)) - before).toBeLessThan(GROWTH_MAX);
    await stillReads(r);
  });
});

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/** No room for the answer to a ping of the target with tag `ttt` (§11.17.1, reason 06). */
function rejectedPong(ttt: number): ReturnType<One> {
  const data = Buffer.concat([Buffer.alloc(16), u32(RESERVED_TAG), u32(ttt), Buffer.alloc(24)]);
  data[0] = Opcode.NopOut | 0x40;
  const pdu = { opcode: Opcode.Reject, reason: 6, dataSn: 0 } as unknown as Draft;
  return { pdu, counted: true, data };
}

const levelOne = (): Promise<Rig> =>
  rig(
    (target) => {
      target.wants = { ...target.wants, ErrorRecoveryLevel: 1 };
    },
    { errorRecoveryLevel: 1 },
  );

/** A Data-In that wants to be acknowledged (§11.7.2), one of a row with `bytes` each. */
function wish(command: ScsiCommand, dataSn: number, bytes: number) {
  const { lun, itt } = command;
  const pdu = {
    ...{ opcode: Opcode.DataIn, final: false, acknowledge: true, overflow: false },
    ...{ underflow: false, statusPresent: false, status: 0, lun, itt, ttt: 7, residual: 0 },
    ...{ dataSn, bufferOffset: dataSn * bytes },
  };
  return { pdu: pdu as unknown as Draft, counted: false, data: Buffer.alloc(bytes) };
}

describe('a target that does not read our answers is given up, when it sends without end', () => {
  async function deaf(r: Rig, one: One, pace: Parameters<typeof flood>[2] = {}): Promise<void> {
    r.target.holdWrites = true;
    const { growth, answers } = await flood(r, one, pace);
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_PROTOCOL' });
    expect(r.session.cause!.message).toMatch(/does not read our answers/);
    expect(answers).toBeLessThan(1000);
    expect(growth).toBeLessThan(GROWTH_MAX);
    expect(internalFault(r.session.cause)).toBeNull();
  }

  test('pings', async () => {
    const r = await rig();
    await deaf(r, (i) => ({ pdu: { ...ping, ttt: i } as unknown as Draft, counted: false }));
  });

  test('news of tasks that it has ended', async () => {
    const r = await rig((target) => {
      target.wants = { ...target.wants, TaskReporting: 'FastAbort' };
    });
    await deaf(r, () => ({
      pdu: { ...event, event: 5, ...noParameters } as unknown as Draft,
      counted: true,
    }));
  });

  test('rejects of our answers to its pings', async () => {
    const r = await rig(undefined, { timeouts: { nopIntervalMs: 1_000_000 } });
    await deaf(r, rejectedPong, { pauseMs: 60 });
  });

  test('data of which it wants each byte acknowledged', async () => {
    const r = await levelOne();
    read(r, 0, Buffer.alloc(MIB));
    await settle();
    const { pdu: command } = r.target.of(Opcode.ScsiCommand).at(-1)!;
    await deaf(r, (i) => wish(command, i, 1));
  });

  test('wishes to negotiate, and answers to requests that it did not read', async () => {
    const r = await rig();
    let itt = 0;
    r.target.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.TextRequest) itt = pdu.itt;
    };
    const one: One = (i) =>
      i % 2 === 0
        ? { pdu: { ...event, event: 4, ...noParameters } as unknown as Draft, counted: true }
        : {
            pdu: {
              ...{
                opcode: Opcode.TextResponse,
                final: true,
                continue: false,
                lun: Buffer.alloc(8),
              },
              ...{ itt, ttt: RESERVED_TAG },
            } as unknown as Draft,
            counted: true,
          };
    await deaf(r, one, { step: 1 });
  });
});

describe('a discovery ends in bounds when the target', () => {
  async function failing(answer: (target: FakeTarget, itt: number, round: number) => void) {
    const target = new FakeTarget();
    const clock = new VirtualClock();
    let round = 0;
    target.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.TextRequest) answer(target, pdu.itt, round++);
    };
    const { targetName: _, ...options } = openOptions(target, clock);
    let outcome: unknown = null;
    discover(options).then(
      (found) => {
        outcome = found;
      },
      (error: unknown) => {
        outcome = error;
      },
    );
    await clock.runUntil(() => outcome !== null, 300_000);
    await clock.advance(60_000);
    expect(clock.pending).toBe(0);
    return { outcome, rounds: target.of(Opcode.TextRequest).length };
  }

  const text = (target: FakeTarget, itt: number, over: object, data: Buffer): void => {
    target.send(
      {
        ...{ opcode: Opcode.TextResponse, final: false, continue: true, lun: Buffer.alloc(8), itt },
        ...{ ttt: 7, ...target.numbers(true), ...over },
      } as never,
      data,
    );
  };

  test('never comes to the end of its text', async () => {
    for (const bytes of [0, 100, 8000]) {
      const { outcome, rounds } = await failing((target, itt) =>
        text(target, itt, {}, Buffer.alloc(bytes, 'a')),
      );
      expect(outcome).toMatchObject({
        code: expect.stringMatching(/^ISCSI_(PROTOCOL|SESSION_LOST)$/),
      });
      expect(rounds).toBeLessThan(80);
    }
  });

  test('goes on without a tag to ask with', async () => {
    const { outcome } = await failing((target, itt) =>
      text(target, itt, { ttt: RESERVED_TAG }, Buffer.alloc(0)),
    );
    expect(outcome).toMatchObject({
      code: expect.stringMatching(/^ISCSI_(PROTOCOL|SESSION_LOST)$/),
    });
  });

  test('does not answer', async () => {
    const { outcome } = await failing(() => {});
    expect((outcome as { code: string }).code).toMatch(/^ISCSI_/);
  });

  test.each([
    ['text that is none', Buffer.from('nonsense\0')],
    ['no text', Buffer.from([0xff, 0xfe, 0])],
    ['an address without a target', Buffer.from('TargetAddress=10.0.0.1:3260,1\0')],
    ['an address that is none', Buffer.from('TargetName=iqn.2026-11.lab:a\0TargetAddress=[::1\0')],
  ])('sends %s', async (_, data) => {
    const { outcome } = await failing((target, itt) =>
      text(target, itt, { final: true, continue: false, ttt: RESERVED_TAG }, data),
    );
    expect(outcome).toMatchObject({
      code: expect.stringMatching(/^ISCSI_(PROTOCOL|SESSION_LOST)$/),
    });
  });
});
