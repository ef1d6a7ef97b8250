import { expect, test } from 'vitest';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { answerInvalidReason } from './keys.ts';
import { openSession } from './open-session.ts';
import { AsyncEvent, Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { LUN, openOptions, rig } from './testing/fake-session.ts';
import { FakeTarget, settle } from './testing/fake-target.ts';

/** Errors quote values of the target, and errors are written to logs and terminals. */

const ESCAPES = '\x1b[2J\x1b]0;owned\x07\x9b1m';
const SHOWN = '?[2J?]0;owned??1m';

test('an answer that is no value is quoted without what moves a cursor', () => {
  const reason = answerInvalidReason('MaxBurstLength', '65536', ESCAPES);
  expect(reason).toBe(`MaxBurstLength=${SHOWN} is not a value of that key (§13.13)`);
});

test('what a target declares in its login is quoted without what moves a cursor', async () => {
  const target = new FakeTarget();
  target.wants = { MaxRecvDataSegmentLength: ESCAPES as never };
  const login = openSession(openOptions(target, new VirtualClock()));
  await expect(login).rejects.toThrow(`MaxRecvDataSegmentLength=${SHOWN} is no value`);
});

test('what a target declares later is quoted without what moves a cursor', async () => {
  const r = await rig();
  const none = { vendorCode: 0, parameter1: 0, parameter2: 0, parameter3: 5 };
  const event = AsyncEvent.RenegotiationRequested;
  r.target.send({
    ...{ opcode: Opcode.AsyncMessage, lun: LUN, ...r.target.numbers(true), event, ...none },
  });
  await settle();
  const { pdu } = r.target.of(Opcode.TextRequest).at(-1)!;
  const text = { final: true, continue: false, lun: LUN, itt: pdu.itt, ttt: RESERVED_TAG };
  r.target.send(
    { opcode: Opcode.TextResponse, ...text, ...r.target.numbers(true) },
    Buffer.from(`MaxRecvDataSegmentLength=${ESCAPES}\0`),
  );
  await settle();
  expect(r.session.cause?.message).toContain(`MaxRecvDataSegmentLength=${SHOWN}`);
});
