import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import type { ScsiCommand } from '#iscsi/pdu/index.ts';
import { Opcode } from '#iscsi/pdu/opcodes.ts';
import { lastCommand, pattern, type Rig, rig } from '#iscsi/testing/fake-session.ts';
import { settle } from '#iscsi/testing/fake-target.ts';
import { buildSense } from '#scsi/sense.ts';
import { GuardedBuffer, internalFault, Ledger } from './hostile-ledger.ts';

/**
 * One test for each way in which a target can misbehave with commands and their data, with other commands on the way
 * whose memory must not suffer. `violations.test.ts` has which violation is told in which words.
 */

const KIB = 1024;

class Wire {
  readonly rig: Rig;
  readonly ledger = new Ledger();

  constructor(r: Rig) {
    this.rig = r;
    this.ledger.watch(r.lun);
  }

  static async open(): Promise<Wire> {
    return new Wire(
      await rig((t) => {
        t.wants = { MaxRecvDataSegmentLength: 8192, MaxBurstLength: 16_384 };
      }),
    );
  }

  async read(bytes: number, offset = 0): Promise<ScsiCommand> {
    const buffer = new GuardedBuffer(bytes);
    this.ledger.add(
      `the read of ${bytes}`,
      buffer,
      this.rig.lun.read(offset, buffer.data, NO_DEADLINE),
    );
    return lastCommand(this.rig);
  }

  async write(bytes: number): Promise<ScsiCommand> {
    const buffer = new GuardedBuffer(pattern(bytes));
    this.ledger.add(
      `the write of ${bytes}`,
      buffer,
      this.rig.lun.write(0, buffer.data, 0, NO_DEADLINE),
    );
    return lastCommand(this.rig);
  }

  /** Everything has settled, no memory has suffered, no timer is left; tells how the session ended. */
  async over(): Promise<string> {
    await settle();
    await this.rig.clock.advance(200_000);
    const { session, clock } = this.rig;
    if (session.state !== 'closed') session.destroy(new Error('the end of the test'));
    await settle();
    expect(this.ledger.judge()).toEqual([]);
    expect(internalFault(session.cause)).toBeNull();
    expect(session.stats.inflight).toBe(0);
    expect(clock.pending).toBe(0);
    return session.cause!.message;
  }

  get states(): string[] {
    return this.ledger.entries.map(({ state }) => state);
  }
}

describe('no other memory suffers, and every command settles once, when a target', () => {
  test('sends the data of one read under the tag of another', async () => {
    const w = await Wire.open();
    const first = await w.read(4 * KIB);
    const second = await w.read(8 * KIB, 64 * KIB);
    w.rig.target.dataIn(first, pattern(4 * KIB), { final: false });
    w.rig.target.dataIn(first, pattern(8 * KIB), { status: 0, dataSn: 1 });
    w.rig.target.dataIn(second, pattern(8 * KIB), { status: 0 });
    expect(await w.over()).toMatch(/beyond the 4096 bytes/);
    expect(w.states).toEqual(['failed', 'failed']);
  });

  test('sends more data than fit, in one segment and in many', async () => {
    for (const segments of [1, 9]) {
      const w = await Wire.open();
      await w.read(64 * KIB, 64 * KIB);
      const command = await w.read(8 * KIB);
      for (let i = 0; i < segments; i++) {
        const bytes = segments === 1 ? 8 * KIB + 4 : KIB;
        const at = { dataSn: i, offset: i * KIB, final: false };
        w.rig.target.dataIn(command, pattern(bytes), at);
      }
      expect(await w.over()).toMatch(/beyond the 8192 bytes|a data segment of/);
    }
  });

  test('sends data at an offset that wraps around', async () => {
    const w = await Wire.open();
    const command = await w.read(4 * KIB);
    w.rig.target.dataIn(command, pattern(512), { offset: 0xffffff00 });
    expect(await w.over()).toMatch(/beyond/);
  });

  test('sends data twice', async () => {
    const w = await Wire.open();
    const command = await w.read(4 * KIB);
    w.rig.target.dataIn(command, pattern(512), { final: false });
    w.rig.target.dataIn(command, pattern(512), { final: false });
    expect(await w.over()).toMatch(/DataSN 0, expected 1/);
  });

  test('sends empty data without end', async () => {
    const w = await Wire.open();
    const command = await w.read(4 * KIB);
    for (let i = 0; i < 5000; i++) {
      w.rig.target.dataIn(command, Buffer.alloc(0), { final: false, dataSn: i });
      if (i % 100 === 0) await settle();
    }
    // The wire is alive, and the command makes no progress.
    expect(await w.over()).toMatch(/not answered in time|silent/);
    expect(w.states).toEqual(['failed']);
  });

  test('goes on with data after the status', async () => {
    const w = await Wire.open();
    const command = await w.read(4 * KIB);
    w.rig.target.dataIn(command, pattern(4 * KIB), { status: 0 });
    w.rig.target.dataIn(command, Buffer.alloc(4 * KIB, 0xee), { dataSn: 1 });
    expect(await w.over()).toMatch(/for a task that there is not/);
    expect(w.states).toEqual(['done']);
  });

  test('answers what was never asked', async () => {
    for (const itt of [0, 1, 0xfff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff]) {
      const w = await Wire.open();
      const command = await w.read(4 * KIB);
      w.rig.target.respond({ ...command, itt });
      expect(await w.over()).toMatch(/for a task that there is not/);
      expect(w.states).toEqual(['failed']);
    }
  });

  test('answers a command with the answer to another kind of request', async () => {
    for (const opcode of [
      Opcode.TaskManagementResponse,
      Opcode.TextResponse,
      Opcode.LogoutResponse,
      Opcode.NopIn,
    ]) {
      const w = await Wire.open();
      const { itt } = await w.read(4 * KIB);
      const header = Buffer.alloc(48);
      header[0] = opcode;
      header[1] = 0x80;
      header.writeUInt32BE(itt, 16);
      header.writeUInt32BE(0xffffffff, 20);
      header.writeUInt32BE(w.rig.target.numbers(true).statSn, 24);
      w.rig.target.sendBytes(header);
      expect(await w.over()).toMatch(/in answer to something else/);
    }
  });

  test('asks for the same data again, for data behind the end, for all of it in single bytes', async () => {
    const again = await Wire.open();
    let command = await again.write(64 * KIB);
    again.rig.target.r2t(command, 8192, 512);
    again.rig.target.r2t(command, 8192, 512, { r2tSn: 1 });
    expect(await again.over()).toMatch(/sent already/);

    const beyond = await Wire.open();
    command = await beyond.write(64 * KIB);
    beyond.rig.target.r2t(command, 0xfffffe00, 1024);
    expect(await beyond.over()).toMatch(/beyond/);

    const bytewise = await Wire.open();
    command = await bytewise.write(64 * KIB);
    for (let i = 0; i < 50 * KIB; i++) {
      bytewise.rig.target.r2t(command, 8192 + i, 1, { r2tSn: i });
      if (i % 1000 === 0) await settle();
    }
    expect(await bytewise.over()).toMatch(/R2T/);
    const sent = bytewise.rig.target.of(Opcode.DataOut).length;
    expect(sent).toBeLessThan(1024);
  });

  test('asks for data and then reads nothing', async () => {
    const w = await Wire.open();
    const command = await w.write(64 * KIB);
    w.rig.target.holdWrites = true;
    for (let i = 0; i < 7; i++) {
      w.rig.target.r2t(command, 8 * KIB * (i + 1), 8 * KIB, { r2tSn: i });
    }
    await settle();
    w.rig.target.respond(command);
    await settle();
    expect(w.states).toEqual(['pending']); // the socket may still read the memory
    w.rig.target.releaseWrites();
    await settle();
    expect(w.states).toEqual(['done']);
    await w.over();
  });

  test('fails a write in the middle of its data', async () => {
    const w = await Wire.open();
    const command = await w.write(64 * KIB);
    w.rig.target.r2t(command, 8 * KIB, 8 * KIB);
    w.rig.target.respond(command, { sense: buildSense(3, 0x0c, 0) });
    w.rig.target.r2t(command, 16 * KIB, 8 * KIB, { r2tSn: 1 });
    expect(await w.over()).toMatch(/for a task that there is not/);
    expect(w.states).toEqual(['failed']);
  });

  test.each([
    ['is longer than its segment', Buffer.from([0xff, 0xff, 0x70, 0, 6])],
    ['has no length', Buffer.from([0])],
    ['claims a length of its own and has nothing', Buffer.from([0, 18])],
  ])('sends sense that %s', async (_, data) => {
    const w = await Wire.open();
    const { itt } = await w.read(4 * KIB);
    const header = Buffer.alloc(48 + 8);
    header[0] = Opcode.ScsiResponse;
    header[1] = 0x80;
    header[3] = 2;
    header.writeUIntBE(data.length, 5, 3);
    header.writeUInt32BE(itt, 16);
    header.writeUInt32BE(w.rig.target.numbers(true).statSn, 24);
    data.copy(header, 48);
    w.rig.target.sendBytes(header.subarray(0, 48 + data.length + (-data.length & 3)));
    expect(await w.over()).toMatch(/SenseLength/);
    expect(w.states).toEqual(['failed']);
  });

  test('sends sense of every kind of nonsense', async () => {
    for (const byte of [0x00, 0x70, 0x72, 0x7f, 0xff]) {
      for (const bytes of [0, 1, 2, 7, 8, 17, 18, 252]) {
        const w = await Wire.open();
        const command = await w.read(4 * KIB);
        w.rig.target.respond(command, { sense: Buffer.alloc(bytes, byte) });
        for (let i = 0; i < 20; i++) {
          await w.rig.clock.advance(2000);
          const next = w.rig.commands().at(-1)!;
          if (w.states[0] === 'pending') w.rig.target.respond(next);
        }
        await w.over();
        expect(w.states).not.toContain('pending');
      }
    }
  });

  test('ends in the middle of a segment, of pad bytes, of a header', async () => {
    for (const bytes of [1, 47, 48, 49, 48 + 8000, 48 + 9999]) {
      const w = await Wire.open();
      await w.write(KIB);
      const { itt } = await w.read(16 * KIB);
      const header = Buffer.alloc(48 + 10_000);
      header[0] = Opcode.DataIn;
      header.writeUIntBE(10_000, 5, 3);
      header.writeUInt32BE(itt, 16);
      header.writeUInt32BE(0xffffffff, 20);
      w.rig.target.sendBytes(header.subarray(0, bytes));
      w.rig.target.close();
      expect(await w.over()).toMatch(/in the middle of a PDU/);
      expect(w.states).toEqual(['failed', 'failed']);
    }
  });

  test('drips a header, or a segment, byte by byte', async () => {
    const w = await Wire.open();
    const command = await w.read(4 * KIB);
    const header = Buffer.alloc(48);
    header[0] = Opcode.ScsiResponse;
    for (let at = 0; at < 47 && w.rig.session.state === 'open'; at++) {
      w.rig.target.sendBytes(header.subarray(at, at + 1));
      await w.rig.clock.advance(1500);
    }
    expect(await w.over()).toMatch(/not answered in time/);
    expect(command.edtl).toBe(4 * KIB);
  });
});
