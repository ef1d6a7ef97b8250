import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { buildSense } from '../scsi/sense.ts';
import type { Params } from './keys.ts';
import type { ScsiCommand } from './pdu/index.ts';
import { encodeHeader } from './pdu/index.ts';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { withDataDigest } from './testing/damaging.ts';
import { LUN, pattern } from './testing/fake-session.ts';
import { type FakeTarget, settle } from './testing/fake-target.ts';
import { type WiresRig, wires } from './testing/fake-wires.ts';

const SEGMENT = 1024;

interface Level1 extends WiresRig {
  readonly target: FakeTarget;
  snacks(): object[];
  last(): ScsiCommand;
}

async function level1(wants: Partial<Params> = {}, params: Partial<Params> = {}): Promise<Level1> {
  const setUp = (wire: FakeTarget): void => {
    wire.wants = { ...wire.wants, ...wants };
  };
  const r = await wires(1, setUp, { errorRecoveryLevel: 1, params });
  return {
    ...r,
    target: r.wire(0),
    snacks: () =>
      r
        .wire(0)
        .of(Opcode.SnackRequest)
        .map(({ pdu: { type, itt, ttt, begRun, runLength } }) => ({
          type,
          itt,
          ttt,
          begRun,
          runLength,
        })),
    last: () => r.commands(0).at(-1)!,
  };
}

/** Segment `dataSn` of the answer to a read of `pattern`. */
function segment(
  r: Level1,
  command: ScsiCommand,
  dataSn: number,
  over: { status?: number; final?: boolean; flags?: object } = {},
): void {
  const offset = dataSn * SEGMENT;
  const data = pattern(command.edtl).subarray(offset, offset + SEGMENT);
  r.target.dataIn(command, data, { dataSn, offset, final: false, ...over });
}

async function reading(r: Level1, segments: number) {
  const into = Buffer.alloc(segments * SEGMENT);
  const seen = r.read(into);
  await settle();
  return { into, seen, command: r.last(), whole: () => into.equals(pattern(into.length)) };
}

const ping = (target: FakeTarget): void => {
  target.send({
    opcode: Opcode.NopIn,
    lun: LUN,
    itt: RESERVED_TAG,
    ttt: 7,
    ...target.numbers(false),
  });
};

describe('a read at recovery level 1', () => {
  test('asks for the Data-In that is missing, and is done when it came', async () => {
    const r = await level1();
    const { seen, command, whole } = await reading(r, 4);
    segment(r, command, 0);
    segment(r, command, 2);
    segment(r, command, 3, { status: 0, final: true });
    await settle();
    const { itt } = command;
    expect(r.snacks()).toEqual([{ type: 0, itt, ttt: RESERVED_TAG, begRun: 1, runLength: 1 }]);
    expect(seen.state).toBe('pending');
    segment(r, command, 1);
    await settle();
    expect(seen.state).toBe('done');
    expect(whole()).toBe(true);
    expect(r.session.stats.bytesRead).toBe(4 * SEGMENT);
  });

  test('does not acknowledge its status, nor any behind it, before its data are whole', async () => {
    const r = await level1();
    const expStatSn = r.target.statSn;
    const first = await reading(r, 2);
    segment(r, first.command, 1, { status: 0, final: true });
    const second = await reading(r, 1);
    segment(r, second.command, 0, { status: 0, final: true });
    await settle();
    expect(second.seen.state).toBe('done');
    ping(r.target);
    await settle();
    expect(r.target.of(Opcode.NopOut).at(-1)!.pdu.expStatSn).toBe(expStatSn);
    expect(r.target.of(Opcode.SnackRequest)[0]!.pdu.expStatSn).toBe(expStatSn);
    segment(r, first.command, 0);
    await settle();
    expect(first.seen.state).toBe('done');
    ping(r.target);
    await settle();
    expect(r.target.of(Opcode.NopOut).at(-1)!.pdu.expStatSn).toBe(expStatSn + 2);
  });

  test('sees from ExpDataSN that the end is missing', async () => {
    const r = await level1();
    const { seen, command, whole } = await reading(r, 3);
    segment(r, command, 0);
    const response = r.target.send.bind(r.target);
    r.target.send = (pdu, data) => response({ ...pdu, expDataSn: 3 } as never, data);
    r.target.respond(command);
    r.target.send = response;
    await settle();
    expect(r.snacks()).toMatchObject([{ type: 0, begRun: 1, runLength: 2 }]);
    segment(r, command, 2);
    segment(r, command, 1);
    await settle();
    expect(seen.state).toBe('done');
    expect(whole()).toBe(true);
  });

  test('never takes a damaged segment, and asks for it at once', async () => {
    const r = await level1({ DataDigest: 'CRC32C' }, { DataDigest: 'CRC32C' });
    const digests = withDataDigest(r.target);
    const { seen, command, whole } = await reading(r, 2);
    segment(r, command, 0);
    digests.damageNext();
    segment(r, command, 1, { status: 0, final: true });
    await settle();
    expect(r.snacks()).toMatchObject([{ type: 0, begRun: 1, runLength: 1 }]);
    expect(seen.state).toBe('pending');
    r.target.statSn -= 1;
    digests.damageNext();
    segment(r, command, 1, { status: 0, final: true });
    await settle();
    expect(seen.state).toBe('pending');
    expect(r.snacks()).toHaveLength(2);
    r.target.statSn -= 1;
    segment(r, command, 1, { status: 0, final: true });
    await settle();
    expect(seen.state).toBe('done');
    expect(whole()).toBe(true);
  });

  test('takes the data that come again beside a status that came by itself', async () => {
    const r = await level1();
    const statSn = r.target.statSn;
    const { seen, command, whole } = await reading(r, 2);
    segment(r, command, 0);
    const send = r.target.send.bind(r.target);
    r.target.send = (pdu, data) => send({ ...pdu, expDataSn: 2 } as never, data);
    r.target.respond(command);
    r.target.send = send;
    await settle();
    expect(seen.state).toBe('pending');
    r.target.statSn = statSn;
    segment(r, command, 1, { status: 0, final: true });
    await settle();
    expect(seen.state).toBe('done');
    expect(whole()).toBe(true);
  });

  test('lets no repetition overwrite what came whole, and takes late ones for what they are', async () => {
    const r = await level1({ DataDigest: 'CRC32C' }, { DataDigest: 'CRC32C' });
    const digests = withDataDigest(r.target);
    const { into, seen, command, whole } = await reading(r, 3);
    segment(r, command, 0);
    digests.damageNext();
    segment(r, command, 0);
    segment(r, command, 2);
    digests.damageNext();
    segment(r, command, 2);
    await settle();
    expect(into.subarray(0, SEGMENT).equals(pattern(3 * SEGMENT).subarray(0, SEGMENT))).toBe(true);
    segment(r, command, 1);
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
    expect(whole()).toBe(true);
    segment(r, command, 1); // asked for twice, answered twice
    await settle();
    expect(r.session.state).toBe('open');
  });

  test('acknowledges data that the target wants acknowledged, but not over a gap', async () => {
    const r = await level1();
    const { seen, command } = await reading(r, 4);
    const flags = { acknowledge: true, ttt: 0x55 };
    segment(r, command, 0, { flags });
    await settle();
    const ack = { type: 2, itt: RESERVED_TAG, ttt: 0x55, runLength: 0 };
    expect(r.snacks()).toEqual([{ ...ack, begRun: 1 }]);
    expect(r.target.of(Opcode.SnackRequest)[0]!.pdu.lun.equals(LUN)).toBe(true);
    segment(r, command, 2, { flags });
    await settle();
    expect(r.snacks()).toHaveLength(2); // the SNACK for number 1
    segment(r, command, 1);
    await settle();
    expect(r.snacks()[2]).toEqual({ ...ack, begRun: 3 });
    segment(r, command, 3, { status: 0, final: true });
    await settle();
    expect(seen.state).toBe('done');
  });

  test('asks for all of it when it takes other segments now, and believes only the answer to that', async () => {
    const r = await level1();
    const { seen, command, whole } = await reading(r, 4);
    segment(r, command, 0);
    await settle();
    r.session.members.live[0]!.ownSegmentBytes = 2 * SEGMENT;
    segment(r, command, 2);
    await settle();
    const { itt } = command;
    expect(r.snacks()).toEqual([{ type: 3, itt, ttt: 1, begRun: 0, runLength: 0 }]);
    const statSn = r.target.statSn;
    r.target.respond(command); // from before
    r.target.statSn = statSn;
    const data = pattern(4 * SEGMENT);
    r.target.dataIn(command, data.subarray(0, 2048), { final: false });
    r.target.dataIn(command, data.subarray(2048), { dataSn: 1, offset: 2048 });
    await settle();
    expect(seen.state).toBe('pending');
    const send = r.target.send.bind(r.target);
    r.target.send = (pdu, more) => send({ ...pdu, snackTag: 1 } as never, more);
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
    expect(whole()).toBe(true);
  });

  test('fails alone when the target will not send the data again', async () => {
    const r = await level1();
    const { seen, command } = await reading(r, 2);
    segment(r, command, 1, { status: 0, final: true });
    await settle();
    reject(r.target, 3, r.target.of(Opcode.SnackRequest)[0]!.pdu);
    await settle();
    expect(seen.error).toMatchObject({ code: 'ISCSI_NOT_RESENT', outcome: 'terminated' });
    expect(r.session.state).toBe('open');
    expect(r.session.stats.inflight).toBe(0);
  });

  test('asks again when nothing comes, a bounded number of times, and then gives the connection up', async () => {
    const r = await level1();
    r.target.onPdu = ({ pdu }) => {
      if (pdu.opcode !== Opcode.NopOut || pdu.itt === RESERVED_TAG) return;
      const { lun, itt } = pdu;
      r.target.send({
        opcode: Opcode.NopIn,
        lun,
        itt,
        ttt: RESERVED_TAG,
        ...r.target.numbers(true),
      });
    };
    const { seen, command } = await reading(r, 2);
    segment(r, command, 1);
    await settle();
    for (let s = 0; s < 30 && r.session.state === 'open'; s++) await r.clock.advance(1000);
    expect(r.snacks()).toHaveLength(8);
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_NOT_RESENT' });
    expect(seen.state).toBe('unknown');
  });

  test('that is given up meanwhile keeps no status from being acknowledged', async () => {
    const r = await level1();
    const expStatSn = r.target.statSn;
    const { seen, command } = await reading(r, 2);
    segment(r, command, 1, { status: 0, final: true });
    await settle();
    r.lun.abandon();
    await settle();
    expect(seen.state).toBe('terminated');
    await r.clock.advance(1100);
    ping(r.target);
    await settle();
    expect(r.target.of(Opcode.NopOut).at(-1)!.pdu.expStatSn).toBe(expStatSn + 1);
  });
});

function reject(target: FakeTarget, reason: number, pdu: Parameters<typeof encodeHeader>[0]): void {
  const bad = Buffer.alloc(48);
  encodeHeader(pdu, bad, 0);
  target.send(
    { opcode: Opcode.Reject, reason, ...target.numbers(true), dataSnOrR2tSn: 0 } as never,
    bad,
  );
}

describe('a status at recovery level 1', () => {
  test('that is missing is asked for, and those behind it count meanwhile but are not acknowledged', async () => {
    const r = await level1();
    const statSn = r.target.statSn;
    const first = await reading(r, 1);
    segment(r, first.command, 0);
    r.target.statSn += 1;
    const second = await reading(r, 1);
    segment(r, second.command, 0, { status: 0, final: true });
    await settle();
    expect(second.seen.state).toBe('done');
    expect(r.snacks()).toEqual([
      { type: 1, itt: RESERVED_TAG, ttt: RESERVED_TAG, begRun: statSn, runLength: 1 },
    ]);
    const third = await reading(r, 1);
    expect(third.command.expStatSn).toBe(statSn);
    r.target.statSn = statSn;
    r.target.respond(first.command);
    r.target.statSn = statSn + 2;
    segment(r, third.command, 0, { status: 0, final: true });
    await settle();
    expect([first.seen.state, third.seen.state]).toEqual(['done', 'done']);
    ping(r.target);
    await settle();
    expect(r.target.of(Opcode.NopOut).at(-1)!.pdu.expStatSn).toBe(statSn + 3);
  });

  test('that is the last of all is seen to be missing when the target says which one comes next', async () => {
    const r = await level1();
    const statSn = r.target.statSn;
    const { seen, command } = await reading(r, 1);
    segment(r, command, 0);
    r.target.statSn += 1;
    ping(r.target);
    await settle();
    expect(r.snacks()).toMatchObject([{ type: 1, begRun: statSn, runLength: 1 }]);
    r.target.statSn = statSn;
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
  });

  test('with sense that came damaged is asked for', async () => {
    const r = await level1({ DataDigest: 'CRC32C' }, { DataDigest: 'CRC32C' });
    const digests = withDataDigest(r.target);
    const statSn = r.target.statSn;
    const { seen, command } = await reading(r, 1);
    const sense = buildSense(3, 0x11, 0);
    digests.damageNext();
    r.target.respond(command, { sense });
    await settle();
    expect(r.snacks()).toMatchObject([{ type: 1, begRun: statSn, runLength: 1 }]);
    expect(seen.state).toBe('pending');
    r.target.statSn = statSn;
    r.target.respond(command, { sense });
    await settle();
    expect(seen.state).toBe('final');
  });

  test('that comes twice counts once', async () => {
    const r = await level1();
    const statSn = r.target.statSn;
    const { seen, command } = await reading(r, 1);
    segment(r, command, 0, { status: 0, final: true });
    r.target.statSn = statSn;
    segment(r, command, 0, { status: 0, final: true });
    r.target.statSn = statSn;
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
    expect(r.session.state).toBe('open');
  });

  test('that the target will not send again ends the connection', async () => {
    const r = await level1();
    const { seen, command } = await reading(r, 1);
    segment(r, command, 0);
    r.target.statSn += 1;
    ping(r.target);
    await settle();
    reject(r.target, 4, r.target.of(Opcode.SnackRequest)[0]!.pdu);
    await settle();
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_NOT_RESENT' });
    expect(seen.state).toBe('unknown');
  });

  test('far ahead of what is expected is a failed connection', async () => {
    const r = await level1();
    const { command } = await reading(r, 1);
    r.target.statSn += 5000;
    r.target.respond(command);
    await settle();
    expect(r.session.cause?.message).toMatch(/too many are missing/);
  });
});

describe('a write at recovery level 1', () => {
  const writing = async (r: Level1, bytes: number) => {
    const seen = r.write(pattern(bytes));
    await settle();
    return { seen, command: r.last() };
  };
  const sent = (r: Level1): Buffer =>
    Buffer.concat(r.target.of(Opcode.DataOut).map(({ data }) => data));
  const noUnsolicited = { ImmediateData: false, InitialR2T: true };

  test('sends again what a recovery R2T asks for', async () => {
    const r = await level1(noUnsolicited);
    const { seen, command } = await writing(r, 4096);
    r.target.r2t(command, 0, 4096);
    r.target.r2t(command, 1024, 1024, { r2tSn: 1, ttt: 78 });
    await settle();
    const data = pattern(4096);
    expect(sent(r).equals(Buffer.concat([data, data.subarray(1024, 2048)]))).toBe(true);
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
  });

  test('asks for an R2T that is missing, and serves one that comes twice once', async () => {
    const r = await level1(noUnsolicited);
    const { seen, command } = await writing(r, 4096);
    r.target.r2t(command, 2048, 2048, { r2tSn: 1 });
    await settle();
    const { itt } = command;
    expect(r.snacks()).toEqual([{ type: 0, itt, ttt: RESERVED_TAG, begRun: 0, runLength: 1 }]);
    r.target.r2t(command, 0, 2048, { r2tSn: 0 });
    r.target.r2t(command, 2048, 2048, { r2tSn: 1 });
    await settle();
    expect(sent(r)).toHaveLength(4096);
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
  });

  test('is not asked for bytes beyond those that come next', async () => {
    const r = await level1(noUnsolicited);
    const { seen, command } = await writing(r, 4096);
    r.target.r2t(command, 0, 1024);
    r.target.r2t(command, 3584, 512, { r2tSn: 1 });
    await settle();
    expect(r.session.cause?.message).toMatch(/R2T at 3584, expected 1024/);
    expect(seen.state).toBe('unknown');
  });

  test('is short where the R2T that was missing asks for less than the gap', async () => {
    const r = await level1(noUnsolicited);
    const { seen, command } = await writing(r, 4096);
    r.target.r2t(command, 2048, 2048, { r2tSn: 1 });
    r.target.r2t(command, 0, 1024, { r2tSn: 0 });
    await settle();
    r.target.respond(command);
    await settle();
    expect(seen.error).toMatchObject({
      code: 'ISCSI_SHORT_TRANSFER',
      fields: { moved: 3072, asked: 4096 },
    });
  });

  test('does not send without end', async () => {
    const r = await level1(noUnsolicited);
    const { command } = await writing(r, 4096);
    for (let r2tSn = 0; r2tSn < 70; r2tSn++) r.target.r2t(command, 0, 4096, { r2tSn });
    await settle();
    expect(r.session.cause?.message).toMatch(/R2T of a command for bytes that were sent/);
  });

  test('goes out again under its number when the target could not read it, and only then', async () => {
    const r = await level1();
    const { seen, command } = await writing(r, 4096);
    r.target.expCmdSn = command.cmdSn;
    reject(r.target, 2, command);
    await settle();
    const again = r.commands(0);
    expect(again).toHaveLength(2);
    expect({ ...again[1], expStatSn: 0 }).toEqual({ ...command, expStatSn: 0 });
    r.target.expCmdSn = command.cmdSn + 1;
    reject(r.target, 2, command);
    await settle();
    expect(r.commands(0)).toHaveLength(2);
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
  });

  test('leaves it to the target when it could not read a Data-Out', async () => {
    const r = await level1(noUnsolicited);
    const { seen, command } = await writing(r, 2048);
    r.target.r2t(command, 0, 2048);
    await settle();
    reject(r.target, 2, r.target.of(Opcode.DataOut)[0]!.pdu);
    r.target.r2t(command, 0, 2048, { r2tSn: 1 });
    await settle();
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
    expect(sent(r)).toHaveLength(4096);
  });
});

describe('data in any order', () => {
  const anyOrder = { DataPDUInOrder: false, DataSequenceInOrder: false };
  test.each([0, 1] as const)(
    'are put where they belong at level %i',
    async (errorRecoveryLevel) => {
      const setUp = (wire: FakeTarget): void => {
        wire.wants = { ...wire.wants, ...anyOrder };
      };
      const options = { errorRecoveryLevel, params: anyOrder };
      const r = await wires(1, setUp, options);
      const into = Buffer.alloc(4096);
      const seen = r.read(into);
      await settle();
      const command = r.commands(0)[0]!;
      const data = pattern(4096);
      [3, 0, 2, 1].forEach((part, dataSn) => {
        const offset = part * 1024;
        r.wire(0).dataIn(command, data.subarray(offset, offset + 1024), { dataSn, offset });
      });
      r.wire(0).respond(command);
      await settle();
      expect(seen.state).toBe('done');
      expect(into.equals(data)).toBe(true);
      r.read(Buffer.alloc(4096));
      await settle();
      const second = r.commands(0)[1]!;
      r.wire(0).dataIn(second, data.subarray(0, 2048), { offset: 1024 });
      r.wire(0).dataIn(second, data.subarray(0, 1024), { dataSn: 1, offset: 2048 });
      await settle();
      expect(r.session.cause?.message).toMatch(/brings bytes again/);
    },
  );
});

describe('R2Ts in any order', () => {
  const anyOrder = { DataPDUInOrder: false, DataSequenceInOrder: false };
  const writing = async (errorRecoveryLevel: 0 | 1, bytes: number) => {
    const setUp = (wire: FakeTarget): void => {
      wire.wants = { ...wire.wants, ...anyOrder, ImmediateData: false };
    };
    const r = await wires(1, setUp, { errorRecoveryLevel, params: anyOrder });
    const seen = r.write(pattern(bytes));
    await settle();
    const command = r.commands(0)[0]!;
    const ask = async (...ranges: [number, number][]) => {
      ranges.forEach(([offset, length], r2tSn) => {
        r.wire(0).r2t(command, offset, length, { r2tSn });
      });
      await settle();
    };
    return { r, seen, command, ask };
  };

  test.each([0, 1] as const)(
    'are served until every byte was sent at level %i, and GOOD before that is short',
    async (level) => {
      for (const last of [1024, 512]) {
        const { r, seen, command, ask } = await writing(level, 4096);
        await ask([2048, 2048], [0, 1024], [1024, last]);
        r.wire(0).respond(command);
        await settle();
        expect(seen.error?.code ?? seen.state).toBe(
          last === 1024 ? 'done' : 'ISCSI_SHORT_TRANSFER',
        );
      }
    },
  );

  test('that ask for bytes again do not make up for others at level 1, and are a violation at level 0', async () => {
    for (const level of [0, 1] as const) {
      const { r, seen, command, ask } = await writing(level, 4096);
      await ask([2048, 2048], [1024, 2048]);
      if (level === 0) {
        expect(r.session.cause?.message).toMatch(/sent already/);
        continue;
      }
      r.wire(0).respond(command);
      await settle();
      expect(seen.error).toMatchObject({
        code: 'ISCSI_SHORT_TRANSFER',
        fields: { moved: 3072, asked: 4096 },
      });
    }
  });

  test('go back as often as there are bursts without being taken for repetitions', async () => {
    const { r, seen, command, ask } = await writing(1, 512 * 100);
    await ask(...Array.from({ length: 100 }, (_, i): [number, number] => [512 * (99 - i), 512]));
    r.wire(0).respond(command);
    await settle();
    expect(seen.state).toBe('done');
  });
});

test('a target that does not recover is held to level 0', async () => {
  const r = await level1({ ErrorRecoveryLevel: 0 });
  const { command } = await reading(r, 2);
  segment(r, command, 1);
  await settle();
  expect(r.session.cause).toMatchObject({ code: 'ISCSI_PROTOCOL' });
});

test('whatever of a read and of its repetitions is lost, it is done with the right bytes or not at all', async () => {
  const plan = fc.record({
    segments: fc.integer({ min: 1, max: 12 }),
    lost: fc.infiniteStream(fc.integer({ min: 0, max: 3 })),
  });
  await fc.assert(
    fc.asyncProperty(plan, async ({ segments, lost }) => {
      const r = await level1();
      const { seen, command, whole } = await reading(r, segments);
      const status = r.target.statSn;
      const isLost = (): boolean => lost.next().value === 0;
      const one = (sn: number): void => {
        if (isLost()) return;
        const end = sn === segments - 1;
        r.target.statSn = status;
        segment(r, command, sn, end ? { status: 0, final: true } : {});
        r.target.statSn = status + 1;
      };
      r.target.onPdu = ({ pdu }) => {
        if (pdu.opcode !== Opcode.SnackRequest) return;
        if (pdu.type === 1) return one(segments - 1);
        const end = pdu.runLength === 0 ? segments : pdu.begRun + pdu.runLength;
        for (let sn = pdu.begRun; sn < end; sn++) one(sn);
      };
      for (let sn = 0; sn < segments; sn++) one(sn);
      r.target.statSn = status + 1;
      ping(r.target);
      await settle();
      for (let s = 0; s < 20 && seen.state === 'pending'; s++) {
        await r.clock.advance(1000);
        await settle();
      }
      if (seen.state === 'done') expect(whole()).toBe(true);
      else expect(r.session.cause).not.toBeNull();
    }),
    { numRuns: 60 },
  );
});
