import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { ScsiOp } from '../scsi/opcodes.ts';
import { buildSense } from '../scsi/sense.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import type { IscsiLun } from './lun.ts';
import { attachLun } from './lun-attach.ts';
import { openSession } from './open-session.ts';
import type { ScsiCommand } from './pdu/index.ts';
import { Opcode } from './pdu/opcodes.ts';
import { LUN, openOptions, watch } from './testing/fake-session.ts';
import { FakeTarget } from './testing/fake-target.ts';

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

/** What a device answers to one command: data, sense, or another status. */
type Answer = Buffer | { readonly sense: Buffer } | { readonly status: number };
type Device = Record<number, (command: ScsiCommand, tries: number) => Answer>;

const NOTHING = Buffer.alloc(0);
const UNSUPPORTED = { sense: buildSense(5, 0x20, 0) };
const BAD_FIELD = { sense: buildSense(5, 0x24, 0) };

/** A page of the given length, filled from the start. */
function page(number: number, body: string, bytes = body.length / 2): Buffer {
  const whole = Buffer.alloc(4 + bytes);
  whole[1] = number;
  whole.writeUInt16BE(bytes, 2);
  whole.write(body, 4, 'hex');
  return whole;
}

const PAGES: Record<number, Buffer> = {
  0: page(0x00, '008083b0b2'),
  128: page(0x80, '53455249'),
  131: page(0x83, '0103000860000000000000ff'),
  176: page(0xb0, '0008', 60),
  178: page(0xb2, '00e40200'),
};

/** A thin disk of 64 MiB with blocks of 512 bytes, a write cache and FUA. */
function disk(over: Device = {}): Device {
  const inquiry = Buffer.alloc(36);
  inquiry[2] = 5;
  inquiry.write('ACME    DISK            1.0 ', 8, 'latin1');
  return {
    [ScsiOp.TestUnitReady]: () => NOTHING,
    [ScsiOp.Inquiry]: ({ cdb }) => {
      if ((cdb[1]! & 1) === 0) return inquiry;
      return PAGES[cdb[2]!] ?? BAD_FIELD;
    },
    [ScsiOp.ServiceActionIn16]: () => hex('000000000001ffff0000020000008000').subarray(0, 16),
    [ScsiOp.ModeSense6]: () => mode(0x10, CACHE_ON),
    ...over,
  };
}

function respond(target: FakeTarget, command: ScsiCommand, answer: Answer): void {
  if (!Buffer.isBuffer(answer)) return target.respond(command, answer);
  if (!command.read) return target.respond(command);
  const data = answer.subarray(0, command.edtl);
  const residual = command.edtl - data.length;
  target.dataIn(command, data, { status: 0, flags: { underflow: residual > 0, residual } });
}

async function attach(device: Device) {
  const target = new FakeTarget();
  const tries = new Map<number, number>();
  target.onPdu = ({ pdu }) => {
    if (pdu.opcode !== Opcode.ScsiCommand) return;
    const op = pdu.cdb[0]!;
    const number = (tries.get(op) ?? 0) + 1;
    tries.set(op, number);
    const answer = device[op]?.(pdu, number) ?? UNSUPPORTED;
    // A write is answered when its data are here; FakeTarget gets them with the command.
    respond(target, pdu, answer);
  };
  const clock = new VirtualClock();
  const session = await openSession(openOptions(target, clock));
  const attached = attachLun(session, LUN);
  attached.catch(() => {});
  await clock.advance(1000);
  const ops = (): number[] => target.of(Opcode.ScsiCommand).map(({ pdu }) => pdu.cdb[0]!);
  return { target, clock, attached, ops };
}

const mode = (specific: number, caching: string): Buffer =>
  Buffer.concat([Buffer.from([3 + caching.length / 2, 0, specific, 0]), hex(caching)]);
const CACHE_ON = '0812040000000000000000000000000000000000';

describe('an attach', () => {
  test.each([
    ['a unit that is not connected', 0x20, 'SCSI_NO_LUN'],
    ['a unit that there is not', 0x7f, 'SCSI_NO_LUN'],
    ['a controller', 0x0c, 'SCSI_NO_LUN'],
    ['a tape', 0x01, 'SCSI_NO_LUN'],
  ])('%s is no disk', async (_, first, code) => {
    const inquiry = Buffer.alloc(36);
    inquiry[0] = first;
    const { attached } = await attach(disk({ [ScsiOp.Inquiry]: () => inquiry }));
    await expect(attached).rejects.toMatchObject({ code });
    const short = await attach(disk({ [ScsiOp.Inquiry]: () => Buffer.alloc(20) }));
    await expect(short.attached).rejects.toMatchObject({ code: 'SCSI_BAD_DATA' });
  });

  test('a unit without pages is known by its serial number, or by its place', async () => {
    const only = (pages: Record<number, Buffer>): Device =>
      disk({
        [ScsiOp.Inquiry]: (command, tries) =>
          (command.cdb[1]! & 1) === 0
            ? disk()[ScsiOp.Inquiry]!(command, tries)
            : (pages[command.cdb[2]!] ?? BAD_FIELD),
      });
    const serial = only({ 0: page(0, '0080'), 128: page(0x80, '53455249') });
    expect((await (await attach(serial)).attached).identity.wwid).toBe('serial:ACME:DISK:SERI');
    const nothing = (await (await attach(only({}))).attached).identity.wwid;
    expect(nothing).toBe(`place:iqn.2026-11.lab:disk1:${LUN.toString('hex')}`);
  });
});

describe('an attached unit', () => {
  test('a flush takes the longer form where the shorter is unknown, and its error is told', async () => {
    let fails = false;
    const { attached, clock, ops } = await attach(
      disk({
        [ScsiOp.ModeSense6]: () => mode(0x10, CACHE_ON),
        [ScsiOp.SynchronizeCache16]: () => (fails ? { sense: buildSense(3, 0x0c, 0) } : NOTHING),
      }),
    );
    const lun: IscsiLun = await attached;
    const flush = watch(lun.flush(NO_DEADLINE));
    await clock.advance(10);
    expect(flush.state).toBe('done');
    const before = ops().length;
    fails = true;
    const second = watch(lun.flush(NO_DEADLINE));
    await clock.advance(10);
    expect(second.error).toMatchObject({ code: 'SCSI_MEDIUM_ERROR', outcome: 'final' });
    expect(ops().slice(before)).toEqual([ScsiOp.SynchronizeCache16]);
  });
});
