import { describe, expect, test } from 'vitest';
import { ReservationType } from '../scsi/persistent-reserve.ts';
import { LunReservations } from './lun-reservations.ts';
import { Opcode } from './pdu/opcodes.ts';
import { LUN, type Rig, rig } from './testing/fake-session.ts';

const KEY = 0x1122334455667788n;
const OTHER = 0x99n;

interface Sent {
  readonly action: number;
  readonly type: number;
  readonly list: Buffer;
}

/** A unit that takes every PERSISTENT RESERVE OUT, and answers each IN with what `answers` has for its action. */
async function unit(answers: Readonly<Record<number, Buffer>> = {}) {
  const sent: Sent[] = [];
  const asked: number[] = [];
  const status = { next: 0 };
  const r: Rig = await rig((target) => {
    target.onPdu = ({ pdu, data }) => {
      if (pdu.opcode !== Opcode.ScsiCommand) return;
      const action = pdu.cdb[1]! & 0x1f;
      if (pdu.cdb[0] === 0x5f) {
        sent.push({ action, type: pdu.cdb[2]!, list: Buffer.from(data) });
        target.respond(pdu, { status: status.next });
        return;
      }
      const bytes = pdu.cdb.readUInt16BE(7);
      asked.push(bytes);
      const answer = answers[action]!.subarray(0, bytes);
      const residual = pdu.edtl - answer.length;
      target.dataIn(pdu, answer, { status: 0, flags: { underflow: residual > 0, residual } });
    };
  });
  return { r, sent, asked, status, reservations: new LunReservations(r.session, LUN, {}) };
}

const keys = ({ list }: Sent): bigint[] => [list.readBigUInt64BE(0), list.readBigUInt64BE(8)];

describe('a reservation', () => {
  test('each action says its code, its type, our key and the key that it is about', async () => {
    const { sent, reservations } = await unit();
    const type = ReservationType.WriteExclusiveRegistrantsOnly;
    expect(reservations.key).toBeNull();
    await reservations.register(KEY, { aptpl: true });
    expect(reservations.key).toBe(KEY);
    await reservations.reserve(type);
    await reservations.preempt(OTHER, type);
    await reservations.preempt(OTHER, type, { abort: true });
    await reservations.release(type);
    await reservations.replaceKey(OTHER);
    expect(reservations.key).toBe(OTHER);
    const port = { relativePort: 2, initiatorName: 'iqn.2026-11.lab:other' };
    await reservations.registerAndMove({ ...port, actionKey: KEY });
    expect(reservations.key).toBe(OTHER);
    await reservations.registerAndMove({ ...port, actionKey: KEY, unregister: true });
    expect(reservations.key).toBeNull();
    await reservations.register(KEY);
    await reservations.clear();
    expect(reservations.key).toBeNull();
    await reservations.register(KEY);
    await reservations.unregister();
    expect(reservations.key).toBeNull();
    expect(sent.map((one) => [one.action, one.type, ...keys(one)])).toEqual([
      [6, 0, 0n, KEY],
      [1, 5, KEY, 0n],
      [4, 5, KEY, OTHER],
      [5, 5, KEY, OTHER],
      [2, 5, KEY, 0n],
      [0, 0, KEY, OTHER],
      [7, 0, OTHER, KEY],
      [7, 0, OTHER, KEY],
      [6, 0, 0n, KEY],
      [3, 0, KEY, 0n],
      [6, 0, 0n, KEY],
      [0, 0, KEY, 0n],
    ]);
    expect(sent[0]!.list[20]! & 1).toBe(1);
    expect(sent[1]!.list[20]! & 1).toBe(0);
  });

  test('a registration is made again as it was, and not when it was taken away', async () => {
    const { sent, reservations } = await unit();
    await reservations.registerAgain();
    expect(sent).toEqual([]);
    await reservations.register(KEY, { aptpl: true });
    await reservations.registerAgain();
    expect(keys(sent[1]!)).toEqual([0n, KEY]);
    expect(sent[1]!.list[20]! & 1).toBe(1);
    reservations.forget();
    expect(reservations.key).toBeNull();
    await reservations.registerAgain();
    expect(sent).toHaveLength(2);
  });

  test('a conflict is final, is sent once, and changes nothing here', async () => {
    const { sent, status, reservations } = await unit();
    await reservations.register(KEY);
    status.next = 0x18;
    await expect(reservations.replaceKey(OTHER)).rejects.toMatchObject({
      code: 'SCSI_RESERVATION_CONFLICT',
    });
    expect(sent).toHaveLength(2);
    expect(reservations.key).toBe(KEY);
  });

  test('lists are asked for in full when they are longer, and nonsense is told', async () => {
    const count = 300;
    const list = Buffer.alloc(8 + 8 * count);
    list.writeUInt32BE(7, 0);
    list.writeUInt32BE(8 * count, 4);
    for (let i = 0; i < count; i++) list.writeBigUInt64BE(BigInt(i), 8 + 8 * i);
    const reserved = Buffer.alloc(24);
    reserved.writeUInt32BE(16, 4);
    reserved.writeBigUInt64BE(KEY, 8);
    reserved[21] = 5;
    const able = Buffer.alloc(8);
    able.writeUInt16BE(8, 0);
    const { asked, reservations } = await unit({
      0: list,
      1: reserved,
      2: able,
      3: Buffer.alloc(8),
    });
    expect(await reservations.readKeys()).toMatchObject({ generation: 7 });
    expect((await reservations.readKeys()).keys).toHaveLength(count);
    expect(asked).toEqual([1024, 8 + 8 * count, 1024, 8 + 8 * count]);
    expect(
      JSON.stringify(await reservations.readReservation(), (_, v) =>
        typeof v === 'bigint' ? String(v) : v,
      ),
    ).toContain(String(KEY));
    expect(await reservations.capabilities()).toBeDefined();
    expect(await reservations.readFullStatus()).toBeDefined();
    const nothing = await unit({
      0: Buffer.alloc(3),
      1: Buffer.alloc(3),
      2: Buffer.alloc(1),
      3: Buffer.alloc(0),
    });
    for (const ask of ['readKeys', 'readReservation', 'capabilities', 'readFullStatus'] as const) {
      await expect(nothing.reservations[ask]()).rejects.toMatchObject({ code: 'SCSI_BAD_DATA' });
    }
  });
});
