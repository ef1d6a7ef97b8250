import { describe, expect, test } from 'vitest';
import { nameOf, Opcode, RESERVED_TAG, RejectReason } from './pdu/opcodes.ts';
import type { SessionEvent } from './session-control.ts';
import { answerText, sendAsync, sendReject } from './testing/control-script.ts';
import { LUN, lastCommand, pattern, read, rig, watch, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

const quiet = { timeouts: { nopIntervalMs: 1_000_000 } };

describe('a Reject', () => {
  test('has a name for each reason, which is told with what was rejected', async () => {
    const names = Array.from({ length: 13 }, (_, i) => nameOf(RejectReason, i));
    expect(names).toEqual([
      'unknown (0x00)',
      'Reserved',
      'DataDigestError',
      'SnackReject',
      'ProtocolError',
      'CommandNotSupported',
      'ImmediateCommandReject',
      'TaskInProgress',
      'InvalidDataAck',
      'InvalidPduField',
      'LongOperationReject',
      'NegotiationReset',
      'WaitingForLogout',
    ]);
    const r = await rig();
    const events: SessionEvent[] = [];
    r.session.onEvent((event) => events.push(event));
    write(r, 0, pattern(512));
    await sendReject(r, 9, await lastCommand(r));
    expect(events).toEqual([{ kind: 'reject', reason: 'InvalidPduField', pdu: 'ScsiCommand' }]);
  });

  test('of write data leaves the command to its own answer', async () => {
    const r = await rig((target) => {
      target.wants = { ...target.wants, InitialR2T: false };
    });
    const seen = write(r, 0, pattern(32_768));
    const command = await lastCommand(r);
    await sendReject(r, 9, r.target.of(Opcode.DataOut)[0]!.pdu);
    expect(seen.state).toBe('pending');
    r.target.respond(command);
    await settle();
    expect(seen.state).toBe('done');
  });

  test('of a command whose data were damaged has the same command sent again: same tag, same CmdSN, same bytes', async () => {
    const r = await rig();
    const data = pattern(4096);
    const seen = write(r, 0, data);
    const command = await lastCommand(r);
    const next = read(r, 0, Buffer.alloc(512));
    const second = await lastCommand(r);
    // The target goes on waiting for it.
    r.target.expCmdSn = command.cmdSn;
    await sendReject(r, 2, command);
    const [first, , again] = r.target.of(Opcode.ScsiCommand);
    expect(again!.data.equals(data)).toBe(true);
    expect({ ...again!.pdu, expStatSn: 0 }).toEqual({ ...first!.pdu, expStatSn: 0 });
    expect(second.cmdSn).toBe((command.cmdSn + 1) >>> 0);
    // The first one did arrive after all.
    await sendReject(r, 7, command);
    expect(r.session.state).toBe('open');
    r.target.respond(command);
    r.target.dataIn(second, pattern(512), { status: 0 });
    await settle();
    expect([seen.state, next.state]).toEqual(['done', 'done']);
  });

  test('of a command whose data are damaged again and again ends the session', async () => {
    const r = await rig();
    const seen = write(r, 0, pattern(4096));
    const command = await lastCommand(r);
    for (let i = 0; i < 4; i++) {
      r.target.expCmdSn = command.cmdSn;
      await sendReject(r, 2, command);
    }
    expect(r.target.of(Opcode.ScsiCommand)).toHaveLength(4);
    expect(seen.state).toBe('unknown');
    expect(r.session.state).toBe('closed');
  });

  test('because the target waits for our logout means that the command was not executed', async () => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    const command = await lastCommand(r);
    await sendAsync(r, { event: 1, parameter3: 5 });
    await sendReject(r, 12, command);
    expect(seen.error).toMatchObject({ code: 'ISCSI_REJECTED', outcome: 'not-executed' });
    expect(r.session.state).toBe('closing');
  });

  test('of an answer to its own ping has that sent again', async () => {
    const r = await rig(undefined, quiet);
    const ping = { lun: LUN, itt: RESERVED_TAG, ttt: 0xabcd };
    r.target.send({ opcode: Opcode.NopIn, ...ping, ...r.target.numbers(false) });
    await settle();
    await sendReject(r, 6, r.target.of(Opcode.NopOut)[0]!.pdu);
    await r.clock.advance(100);
    expect(r.target.of(Opcode.NopOut).at(-1)!.pdu).toMatchObject(ping);
    expect(r.target.of(Opcode.NopOut)).toHaveLength(2);
  });

  test('of a text request fails that, or has it sent again where the target was short of room', async () => {
    const r = await rig(undefined, quiet);
    const seen = watch(r.session.text(Buffer.from('X-a=1\0'), 5000));
    await settle();
    await sendReject(r, 10, r.target.of(Opcode.TextRequest)[0]!.pdu);
    await r.clock.advance(100);
    expect(r.target.of(Opcode.TextRequest)).toHaveLength(2);
    await answerText(r, 'X-a=NotUnderstood\0');
    expect(seen.state).toBe('done');
    const other = watch(r.session.text(Buffer.from('X-a=1\0'), 5000));
    await settle();
    await sendReject(r, 5, r.target.of(Opcode.TextRequest).at(-1)!.pdu);
    expect(other.error).toMatchObject({ code: 'ISCSI_REJECTED', outcome: 'not-executed' });
    expect(r.session.state).toBe('open');
  });

  test('of a task that there is not, or is over, does no harm', async () => {
    const r = await rig();
    const seen = read(r, 0, Buffer.alloc(512));
    const command = await lastCommand(r);
    r.target.dataIn(command, pattern(512), { status: 0 });
    await settle();
    await sendReject(r, 9, command);
    await sendReject(r, 9, { ...command, itt: 0x12345678 });
    expect(seen.state).toBe('done');
    expect(r.session.state).toBe('open');
  });

  test.each([1, 3, 8, 11, 13, 255])('for reason %i ends the session', async (reason) => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    await sendReject(r, reason, await lastCommand(r));
    expect(seen.state).toBe('unknown');
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_PROTOCOL' });
  });
});
