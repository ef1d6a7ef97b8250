import { describe, expect, test } from 'vitest';
import { buildSense } from '../scsi/sense.ts';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { LUN, lastCommand, pattern, read, rig, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

describe('a read', () => {
  test('is one command, filled from several Data-In with the status in the last', async () => {
    const r = await rig();
    const into = Buffer.alloc(4096);
    const seen = read(r, 8192, into);
    const command = await lastCommand(r);
    expect(command).toMatchObject({ read: true, write: false, final: true, edtl: 4096 });
    expect(command.lun.equals(LUN)).toBe(true);
    expect(command.cdb.toString('hex')).toBe('28000000001000000800000000000000');
    const data = pattern(4096);
    r.target.dataIn(command, data.subarray(0, 1000), { final: false });
    r.target.dataIn(command, data.subarray(1000), { dataSn: 1, offset: 1000, status: 0 });
    await settle();
    expect(seen.state).toBe('done');
    expect(into.equals(data)).toBe(true);
    expect(r.session.stats).toMatchObject({ commands: 1, inflight: 0, bytesRead: 4096 });
  });

  test('ends by a SCSI Response too, however the bytes are cut', async () => {
    for (const piece of [1, 3, 47, 49, 1000]) {
      const r = await rig();
      const into = Buffer.alloc(20 * 1024);
      const seen = read(r, 0, into);
      const command = await lastCommand(r);
      const data = pattern(into.length);
      const sent: Buffer[] = [];
      r.target.sendBytes = (bytes) => sent.push(bytes) as never;
      r.target.dataIn(command, data.subarray(0, 10001), { final: false });
      r.target.dataIn(command, data.subarray(10001), { dataSn: 1, offset: 10001 });
      r.target.respond(command);
      delete (r.target as { sendBytes?: unknown }).sendBytes;
      r.target.sendBytes(Buffer.concat(sent), piece);
      await settle();
      expect(seen.state).toBe('done');
      expect(into.equals(data)).toBe(true);
    }
  });

  test('that brings less than was asked is an error, with or without a residual', async () => {
    for (const residual of [0, -96]) {
      const r = await rig();
      const seen = read(r, 0, Buffer.alloc(512));
      const command = await lastCommand(r);
      r.target.dataIn(command, pattern(416));
      r.target.respond(command, { residual });
      await settle();
      expect(seen.error?.code).toBe('ISCSI_SHORT_TRANSFER');
      expect(r.session.state).toBe('open');
    }
  });

  test('longer than a command is cut, and done when all parts are', async () => {
    const r = await rig(undefined, {}, { commandBytes: 4096 });
    const into = Buffer.alloc(10 * 1024);
    const seen = read(r, 0, into);
    await settle();
    expect(r.commands().map((c) => c.edtl)).toEqual([4096, 4096, 2048]);
    const data = pattern(into.length);
    [2, 0, 1].forEach((i) => {
      r.target.dataIn(r.commands()[i]!, data.subarray(i * 4096, i * 4096 + 4096), { status: 0 });
    });
    await settle();
    expect(seen.state).toBe('done');
    expect(into.equals(data)).toBe(true);
  });
});

describe('a write', () => {
  const modes: [boolean, boolean, number, boolean, number[]][] = [
    // InitialR2T, ImmediateData, immediate bytes, F, lengths of unsolicited Data-Out
    [true, true, 4096, true, []],
    [true, false, 0, true, []],
    [false, true, 4096, false, [4096, 2048]],
    [false, false, 0, false, [4096, 4096, 2048]],
  ];
  test.each(modes)(
    'with InitialR2T=%s and ImmediateData=%s sends what it may, then what is asked for',
    async (initialR2t, immediateData, immediate, final, unsolicited) => {
      const r = await rig((t) => {
        t.wants = {
          MaxRecvDataSegmentLength: 4096,
          InitialR2T: initialR2t,
          ImmediateData: immediateData,
          FirstBurstLength: 10240,
          MaxBurstLength: 16384,
        };
      });
      const data = pattern(24 * 1024);
      const seen = write(r, 0, data);
      const command = await lastCommand(r);
      expect(command).toMatchObject({ write: true, read: false, final, edtl: data.length });
      expect(r.target.of(Opcode.ScsiCommand)[0]!.data).toHaveLength(immediate);
      const first = r.target.of(Opcode.DataOut);
      expect(first.map((d) => d.data.length)).toEqual(unsolicited);
      expect(first.every((d) => d.pdu.ttt === RESERVED_TAG)).toBe(true);
      let at = immediate + unsolicited.reduce((a, b) => a + b, 0);
      for (let r2tSn = 0; at < data.length; r2tSn++) {
        const length = Math.min(16384, data.length - at);
        r.target.r2t(command, at, length, { r2tSn, ttt: 100 + r2tSn });
        at += length;
      }
      await settle();
      expect(seen.state).toBe('pending');
      const image = Buffer.alloc(data.length);
      r.target.of(Opcode.ScsiCommand)[0]!.data.copy(image);
      const sequences = Map.groupBy(r.target.of(Opcode.DataOut), (d) => d.pdu.ttt);
      for (const sequence of sequences.values()) {
        sequence.forEach(({ pdu, data: bytes }, i) => {
          expect(pdu).toMatchObject({ dataSn: i, final: i === sequence.length - 1 });
          expect(pdu.itt).toBe(command.itt);
          expect(pdu.lun.equals(LUN)).toBe(true);
          expect(bytes.length).toBeLessThanOrEqual(4096);
          bytes.copy(image, pdu.bufferOffset);
        });
      }
      expect(image.equals(data)).toBe(true);
      r.target.respond(command);
      await settle();
      expect(seen.state).toBe('done');
    },
  );

  test('answers several R2T of one command in the order of arrival', async () => {
    const r = await rig((t) => {
      t.wants = { MaxRecvDataSegmentLength: 65536, ImmediateData: false, MaxOutstandingR2T: 4 };
    });
    write(r, 0, pattern(4096));
    const command = await lastCommand(r);
    for (let i = 0; i < 4; i++) r.target.r2t(command, i * 1024, 1024, { r2tSn: i, ttt: 50 + i });
    await settle();
    const sent = r.target.of(Opcode.DataOut).map(({ pdu }) => [pdu.ttt, pdu.bufferOffset]);
    expect(sent).toEqual([
      [50, 0],
      [51, 1024],
      [52, 2048],
      [53, 3072],
    ]);
  });

  test('does not settle while the socket may still read its memory, not even when it failed', async () => {
    for (const sense of [undefined, buildSense(3, 0x0c, 0)]) {
      const r = await rig();
      r.target.holdWrites = true;
      const seen = write(r, 0, pattern(8192));
      const command = await lastCommand(r);
      r.target.respond(command, sense === undefined ? {} : { sense });
      await settle();
      expect(seen.state).toBe('pending');
      r.target.releaseWrites();
      await settle();
      expect(seen.state).toBe(sense === undefined ? 'done' : 'final');
      expect(r.session.stats.inflight).toBe(0);
    }
  });

  test('with FUA is followed by a flush where the LUN does not know FUA', async () => {
    const r = await rig(undefined, {}, { dpoFua: false });
    const seen = write(r, 0, pattern(512), 1);
    const first = await lastCommand(r);
    expect(first.cdb[1]).toBe(0);
    r.target.respond(first);
    const flush = await lastCommand(r);
    expect(flush.cdb[0]).toBe(0x35);
    expect(seen.state).toBe('pending');
    r.target.respond(flush);
    await settle();
    expect(seen.state).toBe('done');

    const knows = await rig();
    write(knows, 0, pattern(512), 1);
    expect((await lastCommand(knows)).cdb[1]).toBe(0x08);
  });
});
