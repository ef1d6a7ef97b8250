import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { execute } from './execute.ts';
import { BHS_BYTES, type PduCodec } from './pdu/bhs.ts';
import { codecs, decodePdu, encodePdu, type Pdu } from './pdu/index.ts';
import { Opcode, RESERVED_TAG, TaskAttribute } from './pdu/opcodes.ts';
import { LUN, lastCommand, pattern, type Rig, read, rig, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

/** Rules of RFC 7143 that no other test beside this one shows. */

const opcodes = Object.values(Opcode);
const header = (opcode: Opcode, fill: number): Buffer => {
  const bytes = Buffer.alloc(BHS_BYTES, fill);
  bytes[0] = opcode;
  return bytes;
};

describe('PDUs', () => {
  test.each(opcodes.map((opcode) => [opcode] as const))(
    'bits that belong to no field are sent as 0 and mean nothing on receipt',
    (opcode) => {
      const codec = codecs[opcode] as PduCodec<Pdu>;
      const value = (bytes: Buffer): string => JSON.stringify(codec.decode(bytes, 0));
      const ones = header(opcode, 0xff);
      const sent = Buffer.alloc(BHS_BYTES, 0xa5);
      codec.encode(codec.decode(ones, 0), sent, 0);
      const zeros = header(opcode, 0);
      // From byte 1 on: the first byte has the opcode, and the immediate bit of requests.
      for (let bit = 8; bit < BHS_BYTES * 8; bit++) {
        const [at, mask] = [bit >> 3, 0x80 >> (bit & 7)];
        const flipped = Buffer.from(zeros);
        flipped[at]! |= mask;
        const means = value(flipped) !== value(zeros);
        // The length of additional header segments is the receiver's to see; byte 1 begins with F where it is fixed.
        if (means || at === 4 || bit === 8) continue;
        // What belongs to no task says so by all ones (§11.9, §11.17).
        if (opcode === Opcode.AsyncMessage || opcode === Opcode.Reject) {
          if (at >= 16 && at < 20) continue;
        }
        expect([at, mask, sent[at]! & mask]).toEqual([at, mask, 0]);
      }
    },
  );

  test('segments of any length end on a word, with zeros', () => {
    fc.assert(
      fc.property(fc.constantFrom(...opcodes), fc.uint8Array({ maxLength: 70 }), (opcode, data) => {
        const pdu = (codecs[opcode] as PduCodec<Pdu>).decode(header(opcode, 0), 0);
        const bytes = encodePdu(pdu, data);
        expect(bytes.length % 4).toBe(0);
        expect(bytes.readUIntBE(5, 3)).toBe(data.length);
        expect(bytes.subarray(BHS_BYTES + data.length).every((byte) => byte === 0)).toBe(true);
        expect(decodePdu(bytes)).toMatchObject({ bytes: bytes.length, data: Buffer.from(data) });
      }),
    );
  });
});

describe('tags and numbers', () => {
  test('ExpStatSN counts answers, and neither R2T nor pings nor data without a status', async () => {
    const r = await rig((t) => {
      t.wants = { MaxRecvDataSegmentLength: 8192, MaxBurstLength: 16384 };
    });
    const start = r.target.statSn;
    const acknowledged = async (): Promise<number> => (await lastNopOut(r)).expStatSn;
    expect(await acknowledged()).toBe(start);
    write(r, 0, pattern(65536));
    const writing = await lastCommand(r);
    r.target.r2t(writing, 8192, 512);
    expect(await acknowledged()).toBe(start);
    read(r, 0, Buffer.alloc(1024));
    const reading = await lastCommand(r);
    r.target.dataIn(reading, pattern(512), { final: false });
    expect(await acknowledged()).toBe(start);
    r.target.dataIn(reading, pattern(512), { dataSn: 1, offset: 512, status: 0 });
    expect(await acknowledged()).toBe(start + 1);
    r.target.respond(writing, { status: 8 });
    expect(await acknowledged()).toBe(start + 2);
  });

  /** Our answer to a ping of the target, which itself counts as nothing. */
  async function lastNopOut(r: Rig): Promise<{ expStatSn: number }> {
    const ping = { opcode: Opcode.NopIn, lun: LUN, itt: RESERVED_TAG, ttt: 5 } as const;
    r.target.send({ ...ping, ...r.target.numbers(false) });
    await settle();
    return r.target.of(Opcode.NopOut).at(-1)!.pdu;
  }

  test('task tags do not repeat while a task lives, and are never all ones', async () => {
    const r = await rig();
    const seen = new Set<number>();
    for (let round = 0; round < 20; round++) {
      const first = r.commands().length;
      for (let i = 0; i < 10; i++) read(r, i * 512, Buffer.alloc(512));
      await lastCommand(r);
      const commands = r.commands().slice(first);
      expect(commands).toHaveLength(10);
      for (const { itt } of commands) {
        expect(seen.has(itt)).toBe(false);
        expect(itt).not.toBe(RESERVED_TAG);
        seen.add(itt);
      }
      // In another order than they came, so that places in the table are used again in disorder.
      for (const command of commands.reverse())
        r.target.dataIn(command, pattern(512), { status: 0 });
      await settle();
    }
    expect(r.session.state).toBe('open');
  });

  test('a LUN goes out as the 8 bytes that it is', async () => {
    const r = await rig();
    for (const hex of ['0101000200000000', '4100000000000000', 'c101020304050607']) {
      const lun = Buffer.from(hex, 'hex');
      execute(r.session, lun, { cdb: () => {}, send: pattern(16384) }).catch(() => {});
      const command = await lastCommand(r);
      expect(command.lun.toString('hex')).toBe(hex);
      r.target.r2t(command, 8192, 8192);
      await settle();
      expect(r.target.of(Opcode.DataOut).at(-1)!.pdu.lun.toString('hex')).toBe(hex);
    }
  });

  test('commands are SIMPLE', async () => {
    const r = await rig();
    read(r, 0, Buffer.alloc(512));
    write(r, 0, pattern(512));
    execute(r.session, LUN, { cdb: () => {} }).catch(() => {});
    await settle();
    expect(r.commands().map(({ attribute }) => attribute)).toEqual(
      Array.from({ length: 3 }, () => TaskAttribute.Simple),
    );
  });
});

describe('answers to commands', () => {
  /** A SCSI Response with its header as `change` leaves it. */
  function answer(r: Rig, itt: number, change: (header: Buffer) => void, data = Buffer.alloc(0)) {
    const pdu = {
      opcode: Opcode.ScsiResponse,
      ...{ bidiOverflow: false, bidiUnderflow: false, overflow: false, underflow: false },
      ...{ response: 0, status: 0, itt, snackTag: 0, expDataSn: 0, bidiResidual: 0, residual: 0 },
      ...r.target.numbers(true),
    };
    const bytes = encodePdu({ ...pdu, dataSegmentLength: 0 } as Pdu, data);
    change(bytes);
    r.target.sendBytes(bytes);
  }

  test('a response that counts other data than came is a violation', async () => {
    const r = await rig();
    const seen = read(r, 0, Buffer.alloc(1024));
    const { itt } = await lastCommand(r);
    r.target.dataIn((await lastCommand(r))!, pattern(1024));
    answer(r, itt, (bytes) => bytes.writeUInt32BE(2, 36));
    await settle();
    expect(seen.error).toMatchObject({ outcome: 'unknown' });
    expect(r.session.cause?.message).toMatch(/ExpDataSN 2, we have 1/);
  });

  test('a failure of the target counts before any status and flag beside it', async () => {
    const r = await rig();
    for (const response of [1, 0x80, 0xff]) {
      const seen = write(r, 0, pattern(512));
      const { itt } = await lastCommand(r);
      answer(r, itt, (bytes) => {
        bytes[1] = 0x80 | 0x06; // O and U, which mean nothing here (§11.4.3)
        bytes[2] = response;
        bytes[3] = 0;
        bytes.writeUInt32BE(0xffffffff, 44);
      });
      await settle();
      expect(seen.error).toMatchObject({ code: 'ISCSI_TARGET_FAILURE', outcome: 'terminated' });
    }
    expect(r.session.state).toBe('open');
  });

  test('residuals are taken by their flags, which exclude each other', async () => {
    const r = await rig();
    const without = write(r, 0, pattern(512));
    answer(r, (await lastCommand(r)).itt, (bytes) => bytes.writeUInt32BE(77, 44));
    await settle();
    expect(without.state).toBe('done');
    const both = write(r, 0, pattern(512));
    answer(r, (await lastCommand(r)).itt, (bytes) => {
      bytes[1] = 0x80 | 0x06;
    });
    await settle();
    expect(both.error).toMatchObject({ outcome: 'unknown' });
    expect(r.session.cause?.message).toMatch(/O and U/);
  });

  test('an answer longer than its allocation length is no error', async () => {
    const r = await rig();
    const result = execute(r.session, LUN, { cdb: () => {}, receiveBytes: 64 });
    const command = await lastCommand(r);
    r.target.dataIn(command, pattern(64), {
      status: 0,
      flags: { overflow: true, residual: 100_000 },
    });
    expect((await result).data.equals(pattern(64))).toBe(true);
    const shorter = execute(r.session, LUN, { cdb: () => {}, receiveBytes: 64 });
    r.target.dataIn(await lastCommand(r), pattern(20), {
      status: 0,
      flags: { underflow: true, residual: 44 },
    });
    expect((await shorter).data).toHaveLength(20);
  });

  test('sense ends where its length says, and response data may follow', async () => {
    const r = await rig();
    const result = execute(r.session, LUN, { cdb: () => {} });
    const { itt } = await lastCommand(r);
    const sense = Buffer.from('720521000000000c000a80000000000000001234', 'hex');
    const whole = Buffer.concat([Buffer.from([0, sense.length]), sense, Buffer.alloc(30, 0xff)]);
    answer(r, itt, (bytes) => (bytes[3] = 2), whole);
    expect((await result).sense).toMatchObject({ key: 5, asc: 0x21, information: 0x1234 });
    const cut = execute(r.session, LUN, { cdb: () => {} });
    answer(
      r,
      (await lastCommand(r)).itt,
      (bytes) => (bytes[3] = 2),
      Buffer.from('000870000600', 'hex').subarray(0, 2 + 3),
    );
    await expect(cut).rejects.toThrow(/SenseLength of 8 in 5 bytes/);
  });
});
