import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { AccessState } from '../multipath/access.ts';
import { buildSense } from '../scsi/sense.ts';
import { AluaState } from '../scsi/target-port-groups.ts';
import { learnAccess, readAccess, readTargetPortGroups } from './lun-access.ts';
import type { ScsiCommand } from './pdu/index.ts';
import { Opcode } from './pdu/opcodes.ts';
import { LUN, rig } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

/** Target port groups as devices tell them (I18), where LIO and our own target tell them in one way only. */

interface Group {
  readonly group: number;
  readonly state: number;
  readonly preferred?: boolean;
  readonly ports?: readonly number[];
}

function descriptors(groups: readonly Group[]): Buffer {
  return Buffer.concat(
    groups.map(({ group, state, preferred, ports = [] }) => {
      const bytes = Buffer.alloc(8 + 4 * ports.length);
      bytes[0] = state | (preferred === true ? 0x80 : 0);
      bytes.writeUInt16BE(group, 2);
      bytes[7] = ports.length;
      for (const [i, port] of ports.entries()) bytes.writeUInt16BE(port, 10 + 4 * i);
      return bytes;
    }),
  );
}

/** The answer with the extended header, which has the transition time, or without. */
function answerOf(groups: readonly Group[], seconds: number | null = null): Buffer {
  const list = descriptors(groups);
  const extended = seconds === null ? [] : [0x10, seconds, 0, 0];
  const header = Buffer.alloc(4);
  header.writeUInt32BE(list.length + extended.length);
  return Buffer.concat([header, Buffer.from(extended), list]);
}

const isExtended = ({ cdb }: ScsiCommand): boolean => (cdb[1]! & 0x20) !== 0;
const askedBytes = ({ cdb }: ScsiCommand): number => Buffer.from(cdb).readUInt32BE(6);

/** A device that has this to say; null: it does not know the command. */
async function device(say: (command: ScsiCommand) => Buffer | null) {
  const r = await rig();
  r.target.onPdu = ({ pdu }) => {
    if (pdu.opcode !== Opcode.ScsiCommand) return;
    if (pdu.write) {
      r.target.respond(pdu);
      return;
    }
    const answer = say(pdu);
    if (answer === null) {
      r.target.respond(pdu, { sense: buildSense(5, 0x24, 0) });
      return;
    }
    const data = answer.subarray(0, askedBytes(pdu));
    const underflow = data.length < pdu.edtl;
    r.target.dataIn(pdu, data, {
      status: 0,
      flags: { underflow, residual: pdu.edtl - data.length },
    });
  };
  return r;
}

const NO_PORT = { relativePort: null, group: null };
const OPTIONS = {};

describe('the groups of target ports', () => {
  test('are told with the time that a transition takes, where the device has it', async () => {
    const { session, commands } = await device(() =>
      answerOf([{ group: 7, state: 1, preferred: true, ports: [1, 2] }], 30),
    );
    const report = await readAccess(session, LUN, { relativePort: 1, group: 7 }, OPTIONS);
    expect(report).toEqual({
      access: { state: AccessState.NonOptimized, preferred: true, group: 7 },
      transitionSeconds: 30,
    });
    expect(commands().map(isExtended)).toEqual([true]);
  });

  test('are asked for without the extended header where the device does not know it', async () => {
    const { session, commands } = await device((command) =>
      isExtended(command) ? null : answerOf([{ group: 1, state: 0 }]),
    );
    const { access, transitionSeconds } = await readAccess(session, LUN, NO_PORT, OPTIONS);
    expect(access).toMatchObject({ state: AccessState.Optimized, group: 1 });
    expect(transitionSeconds).toBeNull();
    expect(commands().map(isExtended)).toEqual([true, false]);
  });

  test.each([true, false])(
    'are asked for once more when there are many (extended: %s)',
    async (extended) => {
      const many = Array.from({ length: 200 }, (_, group) => ({ group, state: 0, ports: [group] }));
      const whole = answerOf(many, extended ? 5 : null);
      const { session, commands } = await device((command) =>
        isExtended(command) === extended ? whole : null,
      );
      const { groups } = await readTargetPortGroups(session, LUN, OPTIONS);
      expect(groups).toHaveLength(200);
      expect(askedBytes(commands().at(-1)!)).toBe(whole.length);
      expect(isExtended(commands().at(-1)!)).toBe(extended);
    },
  );

  test('are as many as fit into 64 KiB, whatever length the device tells', async () => {
    const { session, commands } = await device(() => {
      const lie = answerOf([{ group: 1, state: 0 }], 0);
      lie.writeUInt32BE(0xffffff00);
      return lie;
    });
    const { groups } = await readTargetPortGroups(session, LUN, OPTIONS);
    expect(groups).toHaveLength(1);
    expect(askedBytes(commands().at(-1)!)).toBe(65_536);
  });

  test('that cannot be read are an error', async () => {
    const { session } = await device(() => Buffer.alloc(2));
    await expect(readTargetPortGroups(session, LUN, OPTIONS)).rejects.toMatchObject({
      code: expect.stringMatching(/^SCSI_/),
    });
  });
});

describe('the group of a path', () => {
  const two = [
    { group: 1, state: AluaState.ActiveOptimized, ports: [1] },
    { group: 2, state: AluaState.Standby, ports: [5] },
  ];

  test.each([
    ['by its number', { relativePort: 5, group: 1 }, two, AccessState.Optimized],
    ['else by the port in it', { relativePort: 5, group: 9 }, two, AccessState.Standby],
    ['else is the only one', NO_PORT, two.slice(1), AccessState.Standby],
    ['and is any when nobody knows', NO_PORT, two, AccessState.Any],
    ['and is any when its port is in none', { relativePort: 8, group: null }, two, AccessState.Any],
  ])('is found %s', async (_, port, groups, state) => {
    const { session } = await device(() => answerOf(groups, 0));
    expect((await readAccess(session, LUN, port, OPTIONS)).access.state).toBe(state);
  });

  test('is not asked for where a device has none', async () => {
    const { session, commands } = await device(() => null);
    expect(await learnAccess(session, LUN, 0, NO_PORT, OPTIONS)).toBeNull();
    expect(commands()).toEqual([]);
  });

  test('is nothing where a device claims groups and does not know the command', async () => {
    const { session } = await device(() => null);
    expect(await learnAccess(session, LUN, 1, NO_PORT, OPTIONS)).toBeNull();
  });

  test('is not known when the question fails for another reason', async () => {
    const { session, target } = await rig();
    const learning = learnAccess(session, LUN, 1, NO_PORT, OPTIONS);
    learning.catch(() => {});
    await settle();
    target.close();
    await expect(learning).rejects.toMatchObject({ code: 'ISCSI_SESSION_LOST' });
  });
});

test('groups are moved with the list of what is wanted, and asked for again', async () => {
  const r = await device(() => answerOf([{ group: 1, state: AluaState.Standby }], 0));
  const wanted = [
    { group: 1, state: AluaState.Standby },
    { group: 0x102, state: AluaState.ActiveOptimized },
  ];
  await r.lun.setTargetPortGroups(wanted, NO_DEADLINE);
  const [set, asked] = r.target.of(Opcode.ScsiCommand);
  const cdb = Buffer.from(set!.pdu.cdb);
  expect(cdb.subarray(0, 2).toString('hex')).toBe('a40a');
  expect(cdb.readUInt32BE(6)).toBe(12);
  expect(set!.data.toString('hex')).toBe('000000000200000100000102');
  expect(asked!.pdu.cdb[0]).toBe(0xa3);
  expect(r.lun.access.state).toBe(AccessState.Standby);
});
