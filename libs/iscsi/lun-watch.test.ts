import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { AccessState } from '../multipath/access.ts';
import type { UnitAttention } from '../multipath/path.ts';
import { ScsiOp } from '../scsi/opcodes.ts';
import { buildSense } from '../scsi/sense.ts';
import { attachLun } from './lun-attach.ts';
import type { LunFacts } from './lun-facts.ts';
import type { ScsiCommand } from './pdu/index.ts';
import { Opcode } from './pdu/opcodes.ts';
import { facts, pattern, type Rig, read, rig, watch, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';
import { FakeUnit } from './testing/fake-unit.ts';

const ALUA: Partial<LunFacts> = {
  tpgs: 1,
  port: { relativePort: 1, group: 7 },
  access: { state: AccessState.Optimized, preferred: false, group: 7 },
};

async function unitRig(over: Partial<LunFacts> = {}) {
  const r = await rig(
    undefined,
    { timeouts: { nopIntervalMs: 1_000_000 } },
    {
      identity: { ...facts.identity, wwid: 'naa:3000000000000001' },
      ...over,
    },
  );
  const unit = new FakeUnit(r.target);
  unit.blocks = facts.caps.sizeBytes / 512;
  r.target.onPdu = ({ pdu }) => {
    if (pdu.opcode === Opcode.ScsiCommand) unit.answer(pdu);
  };
  const heard: UnitAttention[] = [];
  r.lun.onUnitAttention((attention) => heard.push(attention));
  return { r, unit, heard };
}

describe('access states', () => {
  test('after 2A/06 the groups are read before the command goes out again', async () => {
    const { r, unit, heard } = await unitRig(ALUA);
    unit.aluaState = 1;
    unit.senses.push(buildSense(6, 0x2a, 6));
    const seen = write(r, 0, pattern(512));
    await settle();
    expect(unit.ops).toEqual([ScsiOp.Write10, ScsiOp.MaintenanceIn, ScsiOp.Write10]);
    expect(seen.state).toBe('done');
    expect(r.lun.access.state).toBe(AccessState.NonOptimized);
    expect(heard.at(-1)).toMatchObject({ access: { state: AccessState.NonOptimized, group: 7 } });
  });

  test.each([
    [0x0b, 2, AccessState.Standby],
    [0x0c, 3, AccessState.Unavailable],
  ])(
    '02/04/%i fails over at once, and is known before the I/O has failed',
    async (ascq, code, state) => {
      const { r, unit, heard } = await unitRig(ALUA);
      unit.aluaState = code;
      unit.senses.push(buildSense(2, 4, ascq));
      const order: string[] = [];
      r.lun.onUnitAttention(({ access }) => order.push(`access ${access?.state}`));
      const promise = r.lun.write(0, pattern(512), 0, NO_DEADLINE);
      await promise.catch((error) => order.push(`${error.code} ${error.outcome}`));
      expect(order).toEqual([`access ${state}`, 'SCSI_PATH_STANDBY not-executed']);
      await settle();
      expect(r.lun.access.state).toBe(state);
      expect(heard).toHaveLength(1);
      // A probe of it asks for the state and nothing else.
      unit.ops.length = 0;
      await r.lun.probe(NO_DEADLINE);
      expect(unit.ops).toEqual([ScsiOp.MaintenanceIn]);
      unit.aluaState = 0;
      await r.lun.probe(NO_DEADLINE);
      expect(r.lun.access.state).toBe(AccessState.Optimized);
      expect(unit.ops.slice(1)).toEqual([ScsiOp.MaintenanceIn, ScsiOp.TestUnitReady]);
    },
  );

  test('a probe that meets a group on its way into standby finds the path well', async () => {
    const { r, unit } = await unitRig(ALUA);
    // Still active when it was asked for its state, in standby when the TEST UNIT READY came.
    const { onPdu } = r.target;
    r.target.onPdu = (received) => {
      const { pdu } = received;
      const asked = pdu.opcode === Opcode.ScsiCommand && pdu.cdb[0] === ScsiOp.TestUnitReady;
      if (asked) unit.aluaState = 2;
      onPdu(received);
    };
    unit.senses.push(buildSense(2, 4, 0x0b));
    await r.lun.probe(NO_DEADLINE);
    expect(r.lun.access.state).toBe(AccessState.Standby);
  });

  test('02/04/0A is tried again on the same path after a pause, and asked about until it is over', async () => {
    const { r, unit, heard } = await unitRig(ALUA);
    unit.aluaState = 0xf;
    unit.senses.push(buildSense(2, 4, 0x0a), buildSense(2, 4, 0x0a));
    const seen = write(r, 0, pattern(512));
    await settle();
    expect(seen.state).toBe('pending');
    expect(r.lun.access.state).toBe(AccessState.Transitioning);
    await r.clock.advance(100);
    expect(seen.state).toBe('done');
    unit.aluaState = 1;
    await r.clock.advance(1_000);
    expect(r.lun.access.state).toBe(AccessState.NonOptimized);
    expect(heard.map(({ access }) => access?.state)).toEqual([
      AccessState.Transitioning,
      AccessState.NonOptimized,
    ]);
  });

  test('a transition that takes longer than the device said ends as unavailable', async () => {
    const { r, unit } = await unitRig(ALUA);
    unit.aluaState = 0xf; // with ten seconds in the extended header
    await r.lun.probe(NO_DEADLINE);
    await r.clock.advance(9_000);
    expect(r.lun.access.state).toBe(AccessState.Transitioning);
    await r.clock.advance(2_000);
    expect([AccessState.Unavailable, AccessState.Transitioning]).toContain(r.lun.access.state);
    await r.clock.advance(60_000);
    unit.aluaState = 0;
    await r.lun.probe(NO_DEADLINE);
    expect(r.lun.access.state).toBe(AccessState.Optimized);
  });

  test('a device without target port groups is never asked for them', async () => {
    const { r, unit } = await unitRig();
    unit.senses.push(buildSense(6, 0x2a, 6));
    expect(write(r, 0, pattern(512))).toBeDefined();
    await settle();
    expect(unit.ops).toEqual([ScsiOp.Write10, ScsiOp.Write10]);
  });
});

describe('unit attentions', () => {
  test.each([
    [0x28, 0],
    [0x29, 0],
    [0x29, 7],
    [0x2f, 0],
    [0x38, 7],
    [0x3f, 3],
    [0x3f, 0xe],
    [0x2a, 1],
    [0x2a, 9],
    [0x5e, 0],
  ])('%i/%i is told, and the command is sent again', async (asc, ascq) => {
    const { r, unit, heard } = await unitRig();
    unit.senses.push(buildSense(6, asc, ascq));
    const seen = write(r, 0, pattern(512));
    await settle();
    expect(seen.state).toBe('done');
    expect(heard[0]).toMatchObject({ asc, ascq });
  });

  test('that the target sends unasked count as if they had come with an answer, for their unit alone', async () => {
    const { r, unit, heard } = await unitRig();
    unit.blocks *= 2;
    const data = Buffer.concat([Buffer.from([0, 18]), buildSense(6, 0x2a, 9)]);
    const send = (lun: Buffer): void => {
      const parameters = { parameter1: 0, parameter2: 0, parameter3: 0 };
      const event = { opcode: Opcode.AsyncMessage, event: 0, vendorCode: 0, lun, ...parameters };
      r.target.send({ ...event, ...r.target.numbers(true) }, data);
    };
    send(Buffer.alloc(8));
    await settle();
    expect(heard).toEqual([]);
    send(r.lun.lun);
    await settle();
    expect(heard[0]).toMatchObject({ asc: 0x2a, ascq: 9 });
    expect(r.lun.caps.sizeBytes).toBe(2 * facts.caps.sizeBytes);
  });

  test('a unit that grew is larger from then on, one that shrank is told of', async () => {
    const { r, unit, heard } = await unitRig();
    unit.blocks *= 2;
    unit.senses.push(buildSense(6, 0x2a, 9));
    write(r, 0, pattern(512));
    await settle();
    expect(r.lun.caps.sizeBytes).toBe(2 * facts.caps.sizeBytes);
    expect(heard.at(-1)).toMatchObject({ sizeBytes: 2 * facts.caps.sizeBytes });
    unit.blocks /= 4;
    unit.senses.push(buildSense(6, 0x2a, 9));
    write(r, 0, pattern(512));
    await settle();
    expect(r.lun.caps.sizeBytes).toBe(2 * facts.caps.sizeBytes);
    expect(heard.at(-1)!.text).toMatch(/shrunk/);
  });

  test('mode parameters that changed are read again: a cache that was switched on is flushed', async () => {
    const caps = { ...facts.caps, volatileCache: false };
    const { r, unit, heard } = await unitRig({ caps });
    await r.lun.flush(NO_DEADLINE);
    expect(unit.ops).toEqual([]);
    unit.senses.push(buildSense(6, 0x2a, 1));
    write(r, 0, pattern(512));
    await settle();
    expect(heard.at(-1)).toMatchObject({ volatileCache: true });
    await r.lun.flush(NO_DEADLINE);
    expect(unit.ops.at(-1)).toBe(ScsiOp.SynchronizeCache10);
    unit.mode = { device: 0x80, caching: 4 };
    unit.senses.push(buildSense(6, 0x2a, 1));
    write(r, 0, pattern(512));
    await settle();
    expect(write(r, 0, pattern(512))).toBeDefined();
    expect(r.lun.caps.readOnly).toBe(true);
  });

  test('nothing is sent to another unit that stands behind the LUN now', async () => {
    const { r, unit } = await unitRig();
    unit.naa = '3000000000000002';
    unit.senses.push(buildSense(6, 0x3f, 0x0e));
    const first = write(r, 0, pattern(512));
    const others = [write(r, 512, pattern(512)), write(r, 1024, pattern(512))];
    await settle();
    const later = write(r, 2048, pattern(512));
    await settle();
    expect(first.state).toBe('not-executed');
    expect(later.state).toBe('not-executed');
    expect(r.session.cause).toMatchObject({ code: 'SCSI_UNIT_CHANGED' });
    expect(others.every(({ state }) => state !== 'pending')).toBe(true);
    // The writes that were on their way already, and none after the unit attention.
    const writes = unit.ops.filter((op) => op === ScsiOp.Write10);
    expect(writes.length).toBeLessThanOrEqual(3);
  });

  test('while the identity is asked for, writes wait, and go on when it is the same unit', async () => {
    const { r, unit } = await unitRig();
    unit.senses.push(buildSense(6, 0x3f, 3));
    let asked = false;
    const usual = r.target.onPdu;
    const heldBack: ScsiCommand[] = [];
    r.target.onPdu = (received) => {
      const { pdu } = received;
      if (!asked && pdu.opcode === Opcode.ScsiCommand && pdu.cdb[0] === ScsiOp.Inquiry) {
        asked = true;
        heldBack.push(pdu);
      } else usual(received);
    };
    const first = write(r, 0, pattern(512));
    await settle();
    const second = write(r, 512, pattern(512));
    await settle();
    expect(unit.ops).toEqual([ScsiOp.Write10]);
    for (const pdu of heldBack) unit.answer(pdu);
    await settle();
    await settle();
    expect([first.state, second.state]).toEqual(['done', 'done']);
  });
});

describe('while the identity is asked for', () => {
  /** INQUIRY is not answered before `answer`; a unit attention has closed the gate. */
  async function gateRig(setUp?: (r: Rig) => void) {
    const { r, unit } = await unitRig();
    const usual = r.target.onPdu;
    const inquiries: ScsiCommand[] = [];
    r.target.onPdu = (received) => {
      const { pdu } = received;
      const isInquiry = pdu.opcode === Opcode.ScsiCommand && pdu.cdb[0] === ScsiOp.Inquiry;
      if (isInquiry) inquiries.push(pdu);
      else usual(received);
    };
    setUp?.(r);
    unit.senses.push(buildSense(6, 0x3f, 0x0e));
    const first = read(r, 0, Buffer.alloc(512));
    await settle();
    unit.ops.length = 0;
    const answer = async (): Promise<void> => {
      r.target.onPdu = usual;
      for (const pdu of inquiries.splice(0)) unit.answer(pdu);
      for (let turn = 0; turn < 4; turn++) await settle();
    };
    return { r, unit, first, answer };
  }

  const others = (r: Rig) => ({
    zeroes: watch(r.lun.writeZeroes(0, 4096, 0, NO_DEADLINE)),
    trim: watch(r.lun.trim(0, 4096, 0, NO_DEADLINE)),
    compare: watch(r.lun.compareAndWrite(0, pattern(512), pattern(512), NO_DEADLINE)),
    flush: watch(r.lun.flush(NO_DEADLINE)),
    probe: watch(r.lun.probe(NO_DEADLINE)),
  });

  test('no command of any kind is sent, and none is when it is another unit', async () => {
    const { r, unit, first, answer } = await gateRig();
    const seen = others(r);
    await settle();
    expect(unit.ops).toEqual([]);
    unit.naa = '3000000000000002';
    await answer();
    expect(unit.ops.every((op) => op === ScsiOp.Inquiry)).toBe(true);
    expect(r.session.cause).toMatchObject({ code: 'SCSI_UNIT_CHANGED' });
    const states = [first, ...Object.values(seen)].map(({ state }) => state);
    expect(states).toEqual(Array(6).fill('not-executed'));
  });

  test('all of them go on when it is the same unit', async () => {
    const { r, unit, answer } = await gateRig();
    const seen = others(r);
    await answer();
    expect(unit.ops).toContain(ScsiOp.WriteSame16);
    expect(Object.values(seen).map(({ state }) => state)).toEqual(Array(5).fill('done'));
  });

  test('what waits for room in the window of commands comes back, not executed', async () => {
    const waiting: { state: string }[] = [];
    const { r, unit } = await gateRig((rig) => {
      rig.target.window = 1;
      // One of those that fill the window closes the gate with its answer, while another one waits.
      while (rig.session.window.free) write(rig, 0, pattern(512));
      waiting.push(write(rig, 512, pattern(512)));
    });
    await settle();
    r.target.window = 64;
    await r.clock.advance(1_000);
    expect(unit.ops.filter((op) => op === ScsiOp.Write10)).toEqual([]);
    expect(waiting[0]!.state).toBe('not-executed');
  });
});

describe('an auto contingent allegiance', () => {
  test('is cleared, and the command sent again', async () => {
    const r = await rig();
    const seen = write(r, 0, pattern(512));
    await settle();
    r.target.respond(r.commands()[0]!, { status: 0x30 });
    await settle();
    const [tmf] = r.target.of(Opcode.TaskManagementRequest);
    expect(tmf!.pdu.function).toBe(3);
    expect(r.commands()).toHaveLength(1);
    r.target.send({
      opcode: Opcode.TaskManagementResponse,
      response: 0,
      itt: tmf!.pdu.itt,
      ...r.target.numbers(true),
    });
    await settle();
    expect(r.commands()).toHaveLength(2);
    r.target.respond(r.commands()[1]!);
    await settle();
    expect(seen.state).toBe('done');
  });
});

describe('registrations', () => {
  const list = (r: Rig) => r.target.of(Opcode.ScsiCommand).filter(({ pdu }) => pdu.cdb[0] === 0x5f);

  test('are made again after a nexus loss, before any other I/O', async () => {
    const { r, unit } = await unitRig();
    await r.lun.reservations.register(0x1234n, { aptpl: true });
    unit.ops.length = 0;
    unit.senses.push(buildSense(6, 0x29, 7));
    const seen = write(r, 0, pattern(512));
    await settle();
    expect(seen.state).toBe('done');
    expect(unit.ops).toEqual([ScsiOp.Write10, ScsiOp.PersistentReserveOut, ScsiOp.Write10]);
    const again = list(r).at(-1)!;
    expect(again.pdu.cdb[1]).toBe(6);
    expect(again.data.toString('hex')).toMatch(/^00000000000000000000000000001234/);
    expect(again.data[20]).toBe(1);
  });

  test('are made when the unit is attached with a key', async () => {
    const { r, unit } = await unitRig();
    const lun = await attachLun(r.session, r.lun.lun, { reservationKey: 7n });
    expect(lun.reservations.key).toBe(7n);
    expect(unit.ops.at(-1)).toBe(ScsiOp.PersistentReserveOut);
  });

  test.each([[0x03], [0x05]])(
    'that were preempted (2A/%i) are not made again: that would undo a fence',
    async (ascq) => {
      const { r, unit } = await unitRig();
      await r.lun.reservations.register(0x1234n);
      unit.senses.push(buildSense(6, 0x2a, ascq));
      const seen = write(r, 0, pattern(512));
      await settle();
      expect(seen.error).toMatchObject({ code: 'SCSI_RESERVATION_CONFLICT', errno: 'EPERM' });
      expect(r.lun.reservations.key).toBeNull();
      unit.ops.length = 0;
      unit.senses.push(buildSense(6, 0x29, 7));
      const next = watch(r.lun.write(0, pattern(512), 0, NO_DEADLINE));
      await settle();
      expect(next.state).toBe('done');
      expect(unit.ops).toEqual([ScsiOp.Write10, ScsiOp.Write10]);
    },
  );
});
