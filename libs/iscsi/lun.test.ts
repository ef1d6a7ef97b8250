import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { buildSense } from '../scsi/sense.ts';
import { Opcode } from './pdu/opcodes.ts';
import { lastCommand, pattern, read, rig, watch, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

describe('what the device answers', () => {
  test.each([
    ['a unit attention', { sense: buildSense(6, 0x29, 0) }],
    ['BUSY', { status: 8 }],
    ['TASK SET FULL', { status: 0x28 }],
    ['becoming ready', { sense: buildSense(2, 4, 1) }],
    ['an aborted command', { sense: buildSense(0xb, 0, 0) }],
  ])('%s is tried again under a new tag', async (_, over) => {
    const r = await rig();
    const attentions: string[] = [];
    r.lun.onUnitAttention(({ text }) => attentions.push(text));
    const seen = write(r, 0, pattern(512));
    const first = await lastCommand(r);
    r.target.respond(first, over);
    await r.clock.advance(20);
    const second = await lastCommand(r);
    expect(second.itt).not.toBe(first.itt);
    expect(second.cdb.equals(first.cdb)).toBe(true);
    r.target.respond(second);
    await settle();
    expect(seen.state).toBe('done');
    expect(attentions.length).toBe('sense' in over && over.sense![2] === 6 ? 1 : 0);
  });

  test.each([
    ['medium error', { sense: buildSense(3, 0x11, 0) }, 'SCSI_MEDIUM_ERROR', 'final'],
    ['out of range', { sense: buildSense(5, 0x21, 0) }, 'SCSI_OUT_OF_RANGE', 'final'],
    ['write protected', { sense: buildSense(7, 0x27, 0) }, 'SCSI_WRITE_PROTECTED', 'final'],
    ['no space', { sense: buildSense(7, 0x27, 7) }, 'SCSI_NO_SPACE', 'final'],
    ['standby', { sense: buildSense(2, 4, 0x0b) }, 'SCSI_PATH_STANDBY', 'not-executed'],
    ['reservation conflict', { status: 0x18 }, 'SCSI_RESERVATION_CONFLICT', 'not-executed'],
    ['no sense at all', { status: 2 }, 'SCSI_CHECK_CONDITION', 'final'],
    ['a target failure', { response: 1 }, 'ISCSI_TARGET_FAILURE', 'terminated'],
  ])('%s is told at once', async (_, over, code, outcome) => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    r.target.respond(await lastCommand(r), over);
    await settle();
    expect(seen.error).toMatchObject({ code, outcome });
    expect(r.commands()).toHaveLength(1);
  });

  test('BUSY for ever is given up after a bounded number of tries, as not executed', async () => {
    const r = await rig(undefined, { timeouts: { nopIntervalMs: 1_000_000 } });
    r.target.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.ScsiCommand) r.target.respond(pdu, { status: 8 });
    };
    const seen = write(r, 0, pattern(512));
    await r.clock.advance(60_000);
    expect(seen.error).toMatchObject({ code: 'SCSI_BUSY', outcome: 'not-executed' });
    expect(r.commands().length).toBe(12);
  });

  test('a deadline ends the tries', async () => {
    const r = await rig();
    r.target.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.ScsiCommand) r.target.respond(pdu, { status: 8 });
    };
    const seen = watch(r.lun.write(0, pattern(512), 0, { deadlineMs: 100 }));
    await r.clock.advance(300);
    expect(seen.error?.code).toBe('SCSI_BUSY');
  });

  test('what may have run once is never called not executed afterwards', async () => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    r.target.respond(await lastCommand(r), { status: 0x40 }); // TASK ABORTED
    await settle();
    r.target.window = 0;
    r.target.respond(r.commands().at(-1)!, { status: 8 });
    await settle();
    r.session.destroy(new Error('over'));
    await settle();
    expect(seen.state).toBe('terminated');
  });

  test('a deferred error is kept for the next flush, once', async () => {
    const r = await rig();
    const sense = buildSense(3, 0x0c, 0);
    sense[0] = 0x71;
    const seen = write(r, 0, pattern(512));
    r.target.respond(await lastCommand(r), { sense });
    r.target.respond(await lastCommand(r));
    await settle();
    expect(seen.state).toBe('done');
    const flush = watch(r.lun.flush(NO_DEADLINE));
    await settle();
    expect(flush.error?.code).toBe('SCSI_DEFERRED_ERROR');
    const next = watch(r.lun.flush(NO_DEADLINE));
    r.target.respond(await lastCommand(r));
    await settle();
    expect(next.state).toBe('done');
  });

  test('COMPARE AND WRITE tells where the difference is, and is not sent again when it may have run', async () => {
    const r = await rig();
    const caw = () => r.lun.compareAndWrite(0, pattern(512), pattern(512), NO_DEADLINE);
    const miss = caw();
    const command = await lastCommand(r);
    expect(command).toMatchObject({ edtl: 1024 });
    r.target.respond(command, { sense: buildSense(0xe, 0x1d, 0, 17) });
    expect(await miss).toBe(17);
    const hit = caw();
    r.target.respond(await lastCommand(r));
    expect(await hit).toBe(-1);
    const aborted = watch(caw());
    const sent = await lastCommand(r);
    r.target.respond(sent, { sense: buildSense(0xb, 0, 0) });
    await settle();
    expect(aborted.state).toBe('terminated');
    expect(r.commands().at(-1)!.itt).toBe(sent.itt);
  });

  test('trim and zeroes are cut to what the LUN takes; zeroes are written where it knows no command for it', async () => {
    const r = await rig();
    const ops: number[] = [];
    let knowsWriteSame = true;
    r.target.onPdu = ({ pdu }) => {
      if (pdu.opcode !== Opcode.ScsiCommand) return;
      ops.push(pdu.cdb[0]!);
      if ([0x93, 0x41].includes(pdu.cdb[0]!) && !knowsWriteSame) {
        r.target.respond(pdu, { sense: buildSense(5, 0x20, 0) });
      } else r.target.respond(pdu);
    };
    await r.lun.trim(0, 2500 * 512, 0, NO_DEADLINE);
    await r.lun.writeZeroes(0, 2500 * 512, 0, NO_DEADLINE);
    expect(ops).toEqual([0x42, 0x42, 0x42, 0x93, 0x93, 0x93]);
    ops.length = 0;
    knowsWriteSame = false;
    await r.lun.writeZeroes(0, 8192, 0, NO_DEADLINE);
    await r.lun.writeZeroes(0, 8192, 0, NO_DEADLINE);
    expect(ops).toEqual([0x93, 0x41, 0x2a, 0x2a]);
  });

  test('a full session refuses further commands as not executed, and still resets', async () => {
    const r = await rig((t) => {
      t.window = 1;
    });
    const seen = Array.from({ length: 4096 }, () => read(r, 0, Buffer.alloc(512)));
    await settle();
    expect(seen.filter((s) => s.error?.code === 'ISCSI_QUEUE_FULL')).toHaveLength(16);
    const reset = watch(r.lun.lunReset(1000));
    await settle();
    expect(r.target.of(Opcode.TaskManagementRequest)).toHaveLength(1);
    expect(reset.state).toBe('pending');
  });
});
