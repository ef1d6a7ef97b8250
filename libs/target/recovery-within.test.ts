import { describe, expect, test } from 'vitest';
import { Opcode, RESERVED_TAG, RejectReason, SnackType } from '../iscsi/pdu/opcodes.ts';
import type { TextPair } from '../iscsi/text.ts';
import type { RawInitiator } from '../testkit/raw-initiator.ts';
import { type TargetFixture, targetFixture } from '../testkit/target-fixture.ts';

const BLOCK = 512;
const LEVEL_1: TextPair[] = [
  ['ErrorRecoveryLevel', '1'],
  ['MaxRecvDataSegmentLength', '512'],
];

const read10 = (blocks: number): number[] => [0x28, 0, 0, 0, 0, 0, 0, 0, blocks, 0];
const write10 = (blocks: number): number[] => [0x2a, 0, 0, 0, 0, 0, 0, 0, blocks, 0];

function pattern(blocks: number): Buffer {
  const bytes = Buffer.alloc(blocks * BLOCK);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 9)) & 0xff;
  return bytes;
}

async function level1(
  params: object = {},
  keys: readonly TextPair[] = [],
): Promise<{ fixture: TargetFixture; initiator: RawInitiator }> {
  const fixture = await targetFixture({ params: { errorRecoveryLevel: 1, ...params } });
  fixture.target.disk(0).write(0, pattern(64));
  const initiator = await fixture.login({ keys: [...LEVEL_1, ...keys] });
  return { fixture, initiator };
}

function onDisk(fixture: TargetFixture, blocks: number): Buffer {
  const into = Buffer.alloc(blocks * BLOCK);
  fixture.target.disk(0).read(0, into);
  return into;
}

/** Takes Data-In PDUs until one has the status. */
async function dataOf(initiator: RawInitiator): Promise<{ sn: number; data: Buffer }[]> {
  const parts: { sn: number; data: Buffer }[] = [];
  for (;;) {
    const { pdu, data } = await initiator.next(Opcode.DataIn);
    parts.push({ sn: pdu.dataSn, data });
    if (pdu.statusPresent) return parts;
  }
}

describe('read data that is lost', () => {
  test('comes again as it was, one run of it or all, even when the disk has changed', async () => {
    const { fixture, initiator } = await level1();
    fixture.target.faults.drop({ direction: 'sent', opcode: Opcode.DataIn, nth: 2, count: 2 });
    const itt = initiator.command(read10(5), { read: 5 * BLOCK });
    // The status is not acknowledged: nothing is sent after it.
    const seen = await dataOf(initiator);
    expect(seen.map(({ sn }) => sn)).toEqual([0, 3, 4]);
    fixture.target.disk(0).write(0, Buffer.alloc(64 * BLOCK, 9));
    initiator.expStatSn -= 1;
    initiator.snack(SnackType.DataOrR2t, { itt, begRun: 1, runLength: 2 });
    for (const sn of [1, 2]) {
      const { pdu, data } = await initiator.next(Opcode.DataIn);
      expect(pdu).toMatchObject({ dataSn: sn, bufferOffset: sn * BLOCK, statusPresent: false });
      expect(data.equals(pattern(5).subarray(sn * BLOCK, (sn + 1) * BLOCK))).toBe(true);
    }
    initiator.snack(SnackType.DataOrR2t, { itt, begRun: 3 });
    expect((await dataOf(initiator)).map(({ sn }) => sn)).toEqual([3, 4]);
    initiator.expStatSn -= 1;
    initiator.snack(SnackType.DataOrR2t, { itt });
    expect((await dataOf(initiator)).map(({ sn }) => sn)).toEqual([0, 1, 2, 3, 4]);
  });

  test('is not sent again when it was never sent, or is acknowledged', async () => {
    const { initiator } = await level1();
    const itt = initiator.command(read10(2), { read: 2 * BLOCK });
    await dataOf(initiator);
    initiator.expStatSn -= 1;
    initiator.snack(SnackType.DataOrR2t, { itt, begRun: 2, runLength: 1 });
    const { pdu } = await initiator.next(Opcode.Reject);
    expect(pdu).toMatchObject({ reason: RejectReason.ProtocolError, dataSn: 2 });
    initiator.expStatSn += 1;
    initiator.snack(SnackType.DataOrR2t, { itt, begRun: 0, runLength: 1 });
    expect((await initiator.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.ProtocolError);
  });

  test('is cut anew by an R-Data SNACK, and its status carries the tag', async () => {
    const { initiator } = await level1();
    const itt = initiator.command(read10(4), { read: 4 * BLOCK });
    await dataOf(initiator);
    initiator.expStatSn -= 1;
    await initiator.text([['MaxRecvDataSegmentLength', '1024']]);
    initiator.snack(SnackType.RData, { itt, ttt: 77 });
    for (const sn of [0, 1]) {
      const { pdu, data } = await initiator.next(Opcode.DataIn);
      expect(pdu).toMatchObject({ dataSn: sn, bufferOffset: sn * 1024, statusPresent: false });
      expect(data.equals(pattern(4).subarray(sn * 1024, (sn + 1) * 1024))).toBe(true);
    }
    const { pdu } = await initiator.next(Opcode.ScsiResponse);
    expect(pdu).toMatchObject({ itt, status: 0, snackTag: 77, expDataSn: 2 });
  });

  test('is forgotten as far as a DataACK says', async () => {
    const { initiator } = await level1({ acknowledgeData: true }, [['MaxBurstLength', '1024']]);
    const itt = initiator.command(read10(4), { read: 4 * BLOCK });
    const pdus = [];
    for (let i = 0; i < 4; i++) pdus.push((await initiator.next(Opcode.DataIn)).pdu);
    expect(pdus.map((pdu) => pdu.acknowledge)).toEqual([false, true, false, true]);
    expect(pdus[1]!.ttt).not.toBe(RESERVED_TAG);
    initiator.expStatSn -= 1;
    initiator.snack(SnackType.DataAck, { ttt: pdus[1]!.ttt, begRun: 2 });
    initiator.snack(SnackType.DataOrR2t, { itt, begRun: 1, runLength: 1 });
    expect((await initiator.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.ProtocolError);
    initiator.snack(SnackType.DataOrR2t, { itt });
    expect((await dataOf(initiator)).map(({ sn }) => sn)).toEqual([2, 3]);
    initiator.snack(SnackType.DataAck, { ttt: 12345, begRun: 1 });
    expect((await initiator.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.InvalidDataAck);
  });
});

describe('a status that is lost', () => {
  test('comes again with its number, and everything after it', async () => {
    const { fixture, initiator } = await level1();
    await initiator.run([0]);
    const expected = initiator.expStatSn;
    fixture.target.faults.drop({ direction: 'sent', opcode: Opcode.ScsiResponse });
    const lost = initiator.command([0]);
    initiator.command([0]);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.statSn).toBe((expected + 1) >>> 0);
    initiator.snack(SnackType.Status, { begRun: expected, runLength: 1 });
    const { pdu } = await initiator.next(Opcode.ScsiResponse);
    expect(pdu).toMatchObject({ statSn: expected, itt: lost, status: 0 });
    initiator.expStatSn = expected;
    initiator.snack(SnackType.Status);
    for (const i of [0, 1]) {
      expect((await initiator.next(Opcode.ScsiResponse)).pdu.statSn).toBe((expected + i) >>> 0);
    }
  });

  test('comes with its data when that was so, and is gone once it is acknowledged', async () => {
    const { fixture, initiator } = await level1();
    const { expStatSn } = initiator;
    fixture.target.faults.drop({ direction: 'sent', opcode: Opcode.DataIn });
    initiator.command(read10(1), { read: BLOCK });
    initiator.snack(SnackType.Status, { begRun: expStatSn, runLength: 1 });
    const { pdu } = await initiator.next(Opcode.DataIn);
    expect(pdu).toMatchObject({ statSn: expStatSn, statusPresent: true, dataSn: 0 });
    initiator.snack(SnackType.Status, { begRun: expStatSn, runLength: 1 });
    expect((await initiator.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.ProtocolError);
  });

  test('cannot be had when the target has left its number out', async () => {
    const { fixture, initiator } = await level1();
    const { expStatSn } = initiator;
    expect(fixture.target.faults.skipStatSn(2)).toBe(1);
    initiator.command([0]);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.statSn).toBe((expStatSn + 2) >>> 0);
    initiator.snack(SnackType.Status, { begRun: expStatSn, runLength: 2 });
    expect((await initiator.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.SnackReject);
  });
});

describe('write data that is lost', () => {
  test('an R2T comes again while its data is out, with a new R2T for what never came', async () => {
    const { fixture, initiator } = await level1({}, [['MaxBurstLength', '1024']]);
    fixture.target.faults.drop({ direction: 'sent', opcode: Opcode.R2t });
    const data = pattern(4).fill(5, 0, BLOCK);
    const itt = initiator.command(write10(4), { write: data.length });
    initiator.snack(SnackType.DataOrR2t, { itt, begRun: 0, runLength: 1 });
    const { pdu } = await initiator.next(Opcode.R2t);
    expect(pdu).toMatchObject({ r2tSn: 0, bufferOffset: 0, desiredLength: 1024 });
    // The first of its two PDUs never arrives.
    initiator.dataOut(itt, data.subarray(BLOCK, 1024), {
      ttt: pdu.ttt,
      offset: BLOCK,
      dataSn: 1,
    });
    const again = (await initiator.next(Opcode.R2t)).pdu;
    expect(again).toMatchObject({ r2tSn: 1, bufferOffset: 0, desiredLength: BLOCK });
    initiator.dataOut(itt, data.subarray(0, BLOCK), { ttt: again.ttt });
    const next = (await initiator.next(Opcode.R2t)).pdu;
    expect(next).toMatchObject({ r2tSn: 2, bufferOffset: 1024, desiredLength: 1024 });
    // Nothing comes: it is asked for again.
    await fixture.clock.advance(6_000);
    const late = (await initiator.next(Opcode.R2t)).pdu;
    expect(late).toMatchObject({ r2tSn: 3, bufferOffset: 1024, desiredLength: 1024 });
    initiator.dataOut(itt, data.subarray(1024), { ttt: next.ttt });
    initiator.dataOut(itt, data.subarray(1024), { ttt: late.ttt, offset: 1024 });
    expect((await initiator.next(Opcode.ScsiResponse)).pdu).toMatchObject({
      status: 0,
      expDataSn: 4,
    });
    expect(onDisk(fixture, 4).equals(data)).toBe(true);
    expect(fixture.target.bufferBytes).toBe(0);
  });

  test('data with a wrong digest is rejected and asked for again', async () => {
    const { fixture, initiator } = await level1({ dataDigest: 'CRC32C' }, [
      ['DataDigest', 'CRC32C'],
    ]);
    const data = pattern(2).fill(6);
    const itt = initiator.command(write10(2), { write: data.length });
    const { pdu } = await initiator.next(Opcode.R2t);
    initiator.dataOut(itt, Buffer.alloc(BLOCK, 1), { ttt: pdu.ttt, final: false, spoiled: true });
    const rejected = await initiator.next(Opcode.Reject);
    expect(rejected.pdu.reason).toBe(RejectReason.DataDigestError);
    expect(rejected.data.readUInt32BE(16)).toBe(itt);
    initiator.dataOut(itt, data.subarray(BLOCK), { ttt: pdu.ttt, offset: BLOCK, dataSn: 1 });
    const again = (await initiator.next(Opcode.R2t)).pdu;
    expect(again).toMatchObject({ r2tSn: 1, bufferOffset: 0, desiredLength: BLOCK });
    initiator.dataOut(itt, data.subarray(0, BLOCK), { ttt: again.ttt });
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.status).toBe(0);
    expect(onDisk(fixture, 2).equals(data)).toBe(true);
  });

  test('a command with a wrong digest was never received: its number is open for the retry', async () => {
    const { fixture, initiator } = await level1({ dataDigest: 'CRC32C' }, [
      ['DataDigest', 'CRC32C'],
    ]);
    const { cmdSn } = initiator;
    const immediate = pattern(1).fill(7);
    initiator.command(write10(1), { write: BLOCK, immediate, spoiled: true });
    expect((await initiator.next(Opcode.Reject)).pdu).toMatchObject({
      reason: RejectReason.DataDigestError,
      expCmdSn: cmdSn,
    });
    // §7.2.1: the same command again, and then those that waited for it.
    const later = initiator.command([0]);
    initiator.command(write10(1), { write: BLOCK, immediate, cmdSn });
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.status).toBe(0);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.itt).toBe(later);
    expect(onDisk(fixture, 1).equals(immediate)).toBe(true);
  });
});

describe('the order of data', () => {
  test('is free where that was agreed on: Data-In comes backwards, Data-Out is taken in any order', async () => {
    const { login, target } = await targetFixture({
      params: { dataPduInOrder: false, dataSequenceInOrder: false },
    });
    target.disk(0).write(0, pattern(64));
    const initiator = await login({
      keys: [
        ['DataPDUInOrder', 'No'],
        ['DataSequenceInOrder', 'No'],
        ['MaxBurstLength', '1024'],
        ['MaxRecvDataSegmentLength', '512'],
      ],
    });
    initiator.command(read10(4), { read: 4 * BLOCK });
    const offsets = [];
    for (let i = 0; i < 4; i++) offsets.push((await initiator.next(Opcode.DataIn)).pdu);
    expect(offsets.map((pdu) => pdu.bufferOffset / BLOCK)).toEqual([3, 2, 1, 0]);
    expect(offsets.map((pdu) => pdu.final)).toEqual([false, true, false, true]);
    expect(offsets.map((pdu) => pdu.dataSn)).toEqual([0, 1, 2, 3]);
    const data = pattern(2).fill(3, BLOCK);
    const itt = initiator.command(write10(2), { write: data.length });
    const { pdu } = await initiator.next(Opcode.R2t);
    const { ttt } = pdu;
    initiator.dataOut(itt, data.subarray(BLOCK), { ttt, offset: BLOCK, final: false });
    initiator.dataOut(itt, data.subarray(0, BLOCK), { ttt, offset: 0, dataSn: 1 });
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.status).toBe(0);
  });
});
