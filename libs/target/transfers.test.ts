import { describe, expect, test } from 'vitest';
import { Opcode, RESERVED_TAG, RejectReason } from '../iscsi/pdu/opcodes.ts';
import type { TextPair } from '../iscsi/text.ts';
import { targetFixture } from '../testkit/target-fixture.ts';

const BLOCK = 512;

function read10(lba: number, blocks: number): number[] {
  return [
    0x28,
    0,
    lba >> 24,
    (lba >> 16) & 255,
    (lba >> 8) & 255,
    lba & 255,
    0,
    blocks >> 8,
    blocks & 255,
    0,
  ];
}

function write10(lba: number, blocks: number): number[] {
  return [0x2a, ...read10(lba, blocks).slice(1)];
}

function pattern(blocks: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(blocks * BLOCK);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 9) + seed) & 0xff;
  return bytes;
}

const keys = (text: Record<string, string>): TextPair[] => Object.entries(text);

/** Sends a write the way the parameters ask for, and returns its status. */
async function writeBy(
  parameters: Record<string, string>,
  blocks: number,
): Promise<{ r2ts: number; equal: boolean }> {
  const { login, target } = await targetFixture();
  const initiator = await login({ keys: keys(parameters) });
  const data = pattern(blocks);
  const immediate = parameters.ImmediateData === 'No' ? 0 : Math.min(8192, data.length);
  const first = Math.min(Number(parameters.FirstBurstLength ?? 65536), data.length);
  const unsolicited = parameters.InitialR2T === 'No' ? first : immediate;
  const itt = initiator.command(write10(100, blocks), {
    write: data.length,
    immediate: data.subarray(0, immediate),
    final: unsolicited <= immediate,
  });
  let dataSn = 0;
  for (let at = immediate; at < unsolicited; at += 8192) {
    const end = Math.min(at + 8192, unsolicited);
    const final = end === unsolicited;
    initiator.dataOut(itt, data.subarray(at, end), { offset: at, dataSn: dataSn++, final });
  }
  let r2ts = 0;
  let sent = unsolicited;
  while (sent < data.length) {
    const { pdu } = await initiator.next(Opcode.R2t);
    expect(pdu).toMatchObject({ r2tSn: r2ts, itt });
    expect(pdu.desiredLength).toBeLessThanOrEqual(Number(parameters.MaxBurstLength ?? 262144));
    r2ts += 1;
    const { bufferOffset, desiredLength, ttt } = pdu;
    for (let at = 0; at < desiredLength; at += 4096) {
      const end = Math.min(at + 4096, desiredLength);
      initiator.dataOut(itt, data.subarray(bufferOffset + at, bufferOffset + end), {
        ttt,
        offset: bufferOffset + at,
        dataSn: at / 4096,
        final: end === desiredLength,
      });
    }
    sent += desiredLength;
  }
  const { pdu } = await initiator.next(Opcode.ScsiResponse);
  expect(pdu).toMatchObject({ status: 0, residual: 0, expDataSn: r2ts });
  const onDisk = Buffer.alloc(data.length);
  target.disk(0).read(100 * BLOCK, onDisk);
  expect(target.bufferBytes).toBe(0);
  return { r2ts, equal: onDisk.equals(data) };
}

describe('writes', () => {
  test('arrive whole in all four modes of unsolicited data', async () => {
    const burst = { FirstBurstLength: '16384', MaxBurstLength: '32768' };
    for (const InitialR2T of ['Yes', 'No']) {
      for (const ImmediateData of ['Yes', 'No']) {
        const result = await writeBy({ InitialR2T, ImmediateData, ...burst }, 256);
        expect(result.equal).toBe(true);
        expect(result.r2ts).toBeGreaterThanOrEqual(4);
      }
    }
  });

  test('small ones need no R2T when they may come unsolicited', async () => {
    expect(await writeBy({ InitialR2T: 'No', ImmediateData: 'Yes' }, 8)).toEqual({
      r2ts: 0,
      equal: true,
    });
    expect(await writeBy({ InitialR2T: 'No', ImmediateData: 'No' }, 8)).toEqual({
      r2ts: 0,
      equal: true,
    });
  });

  test('several R2Ts are outstanding when that was agreed, answered in their order', async () => {
    const { login } = await targetFixture();
    const initiator = await login({
      keys: keys({ MaxOutstandingR2T: '3', MaxBurstLength: '4096', FirstBurstLength: '4096' }),
    });
    const itt = initiator.command(write10(0, 32), { write: 32 * BLOCK });
    const r2ts = [];
    for (let i = 0; i < 3; i++) r2ts.push((await initiator.next(Opcode.R2t)).pdu);
    expect(r2ts.map((pdu) => pdu.bufferOffset)).toEqual([0, 4096, 8192]);
    expect(new Set(r2ts.map((pdu) => pdu.ttt)).size).toBe(3);
    expect(initiator.received).toEqual([]);
    initiator.dataOut(itt, Buffer.alloc(4096), { ttt: r2ts[0]!.ttt });
    expect((await initiator.next(Opcode.R2t)).pdu.bufferOffset).toBe(12288);
  });

  test('unsolicited data where it was not agreed is rejected, and the session goes on', async () => {
    const { login, target } = await targetFixture();
    const initiator = await login({ keys: keys({ InitialR2T: 'Yes', ImmediateData: 'No' }) });
    // §7.3: a command that is rejected was never received, so the next one has its number.
    const { cmdSn } = initiator;
    initiator.command(write10(0, 1), { write: BLOCK, immediate: pattern(1), cmdSn });
    expect((await initiator.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.ProtocolError);
    initiator.command(write10(0, 1), { write: BLOCK, final: false, cmdSn });
    expect((await initiator.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.ProtocolError);
    expect((await initiator.run([0x00])).status).toBe(0);
    expect(target.disk(0).allocatedBytes).toBe(0);
  });

  test('data out of sequence ends the connection and writes nothing', async () => {
    const wrongs = [{ dataSn: 1 }, { offset: BLOCK }, { ttt: 4711 }, { final: false }];
    for (const wrong of wrongs) {
      const { login, target } = await targetFixture();
      const initiator = await login({ keys: keys({ ImmediateData: 'No' }) });
      const itt = initiator.command(write10(0, 2), { write: 2 * BLOCK });
      const { pdu } = await initiator.next(Opcode.R2t);
      initiator.dataOut(itt, pattern(2), { ttt: pdu.ttt, ...wrong });
      expect((await initiator.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.ProtocolError);
      await initiator.waitClosed();
      expect(target.disk(0).allocatedBytes).toBe(0);
      expect(target.bufferBytes).toBe(0);
    }
  });

  test('a failed command takes its unsolicited data before it is answered', async () => {
    const { login } = await targetFixture();
    const initiator = await login({ keys: keys({ InitialR2T: 'No' }) });
    const itt = initiator.command(write10(0x7fffffff, 16), {
      write: 16 * BLOCK,
      immediate: pattern(4),
      final: false,
    });
    initiator.dataOut(itt, pattern(12), { offset: 4 * BLOCK });
    const { pdu } = await initiator.next(Opcode.ScsiResponse);
    expect(pdu).toMatchObject({ status: 2, underflow: true, residual: 16 * BLOCK });
    expect((await initiator.run([0x00])).status).toBe(0);
  });

  test('a data segment longer than declared ends the connection', async () => {
    const { login } = await targetFixture();
    const initiator = await login();
    const header = Buffer.alloc(48);
    header[0] = Opcode.ScsiCommand;
    header.writeUIntBE(262_145, 5, 3);
    initiator.raw(header);
    expect(await initiator.waitClosed()).toBeNull();
  });

  test('a data segment in the middle of which the initiator vanishes leaves nothing behind', async () => {
    const { login, target, clock } = await targetFixture();
    const initiator = await login();
    const header = Buffer.alloc(48);
    header.set([Opcode.ScsiCommand, 0xa0], 0);
    header.writeUIntBE(4096, 5, 3);
    header.writeUInt32BE(9, 16);
    header.writeUInt32BE(4096, 20);
    header.writeUInt32BE(initiator.cmdSn, 24);
    header.set(write10(0, 8), 32);
    initiator.raw(header);
    initiator.raw(Buffer.alloc(1000, 1));
    await clock.advance(1);
    expect(target.bufferBytes).toBeGreaterThan(0);
    initiator.drop();
    await clock.advance(1);
    expect(target.bufferBytes).toBe(0);
    expect(target.disk(0).allocatedBytes).toBe(0);
    expect(target.sessions()).toEqual([]);
  });
});

describe('reads', () => {
  test('come in segments that the initiator takes, numbered, the last one with the status', async () => {
    const { login, target } = await targetFixture();
    const data = pattern(200);
    target.disk(0).write(0, data);
    const initiator = await login({
      keys: keys({
        MaxRecvDataSegmentLength: '4096',
        MaxBurstLength: '8192',
        FirstBurstLength: '512',
      }),
    });
    initiator.command(read10(0, 200), { read: data.length });
    const parts: Buffer[] = [];
    for (let i = 0; i < 25; i++) {
      const { pdu, data: part } = await initiator.next(Opcode.DataIn);
      expect(pdu).toMatchObject({ dataSn: i, bufferOffset: i * 4096, ttt: RESERVED_TAG });
      // F ends each burst of MaxBurstLength.
      expect(pdu.final).toBe(i % 2 === 1 || i === 24);
      expect(pdu.statusPresent).toBe(i === 24);
      parts.push(part);
    }
    expect(Buffer.concat(parts).equals(data)).toBe(true);
  });

  test('say what is left over', async () => {
    const { login } = await targetFixture();
    const initiator = await login();
    const short = await initiator.run(read10(0, 2), { read: 3 * BLOCK });
    expect(short).toMatchObject({ status: 0, flags: 'U', residual: BLOCK });
    expect(short.data.length).toBe(2 * BLOCK);
    const long = await initiator.run(read10(0, 2), { read: BLOCK });
    expect(long).toMatchObject({ status: 0, flags: 'O', residual: BLOCK });
    expect(long.data.length).toBe(BLOCK);
    const none = await initiator.run(read10(0, 2));
    expect(none).toMatchObject({ status: 0, flags: 'O', residual: 2 * BLOCK });
  });

  test('an initiator that does not read stops being served, and memory stays bounded', async () => {
    const { login, target, clock } = await targetFixture();
    const initiator = await login({ keys: keys({ MaxRecvDataSegmentLength: '1048576' }) });
    initiator.pause();
    for (let i = 0; i < 20; i++) initiator.command(read10(0, 4096), { read: 4096 * BLOCK });
    await clock.advance(10);
    expect(target.bufferBytes).toBeLessThan(40 * 1024 * 1024);
    expect(initiator.unsentBytes).toBeGreaterThan(0); // the target does not read either
    initiator.resume();
    let answered = 0;
    while (answered < 20) {
      const { pdu } = await initiator.next(Opcode.DataIn);
      if (pdu.statusPresent) answered += 1;
    }
    expect(target.bufferBytes).toBe(0);
  });
});

describe('bounds', () => {
  test('a client that pings and never reads is not read any more', async () => {
    const { login, clock } = await targetFixture();
    const initiator = await login({ keys: keys({ MaxRecvDataSegmentLength: '262144' }) });
    initiator.pause();
    const data = Buffer.alloc(256 * 1024, 7);
    const lun = Buffer.alloc(8);
    const nop = { opcode: Opcode.NopOut, immediate: true, lun, ttt: RESERVED_TAG } as const;
    for (let i = 0; i < 160; i++) {
      const { cmdSn, expStatSn } = initiator;
      const itt = initiator.nextItt();
      initiator.send({ ...nop, itt, cmdSn, expStatSn, dataSegmentLength: 0 }, data);
    }
    await clock.advance(1000);
    expect(initiator.unsentBytes).toBeGreaterThan(4 * 1024 * 1024);
    initiator.resume();
    for (let i = 0; i < 160; i++) await initiator.next(Opcode.NopIn);
    expect(initiator.unsentBytes).toBe(0);
  });

  test('immediate commands are limited', async () => {
    const { login, target } = await targetFixture();
    const initiator = await login();
    target.faults.delay({ ms: 1000 });
    for (let i = 0; i < 65; i++) initiator.command([0x00], { isImmediate: true });
    const { pdu } = await initiator.next(Opcode.Reject);
    expect(pdu.reason).toBe(RejectReason.ImmediateCommandReject);
    for (let i = 0; i < 64; i++) await initiator.next(Opcode.ScsiResponse);
  });

  test('writes that announce more data than fits the memory are told to come later', async () => {
    const { login, target } = await targetFixture({
      luns: [{ lun: 0, sizeBytes: 2 ** 40 }],
      params: { maxRecvDataSegmentLength: 65536 },
    });
    const initiator = await login({ keys: keys({ ImmediateData: 'No' }) });
    const write16 = [0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    for (let i = 0; i < 17; i++) initiator.command(write16, { write: 65536 * BLOCK });
    for (let i = 0; i < 16; i++) await initiator.next(Opcode.R2t);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.status).toBe(0x28);
    expect(target.bufferBytes).toBe(512 * 1024 * 1024);
    initiator.drop();
  });
});

describe('the command window', () => {
  test('MaxCmdSN never goes back, and closes with the commands that are outstanding', async () => {
    const { login, target } = await targetFixture({ params: { commandWindow: 4 } });
    const initiator = await login();
    const hold = target.faults.holdWrites();
    const base = initiator.cmdSn;
    for (let i = 0; i < 3; i++)
      initiator.command(write10(i, 1), { write: BLOCK, immediate: pattern(1) });
    await hold.held(0);
    initiator.command([0x00], { isImmediate: true });
    const { pdu } = await initiator.next(Opcode.ScsiResponse);
    expect(pdu).toMatchObject({ expCmdSn: base + 3, maxCmdSn: base + 3 });
    hold.release();
    let max = pdu.maxCmdSn;
    for (let i = 0; i < 3; i++) {
      const response = await initiator.next(Opcode.ScsiResponse);
      expect(response.pdu.maxCmdSn).toBeGreaterThanOrEqual(max);
      max = response.pdu.maxCmdSn;
    }
    expect(max).toBe(base + 6);
  });

  test('what is outside of it is ignored; what is early waits for its turn', async () => {
    const { login } = await targetFixture();
    const initiator = await login();
    const base = initiator.cmdSn;
    initiator.command([0x00], { cmdSn: base + 1000 });
    initiator.command([0x00], { cmdSn: base - 1 });
    const early = initiator.command(write10(0, 1), {
      cmdSn: base + 1,
      write: BLOCK,
      immediate: pattern(1),
    });
    const first = initiator.command([0x00], { cmdSn: base });
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.itt).toBe(first);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu).toMatchObject({
      itt: early,
      status: 0,
    });
    initiator.cmdSn = base + 2;
    expect((await initiator.run([0x00])).status).toBe(0);
  });

  test('a task tag that is in use is rejected', async () => {
    const { login, target } = await targetFixture();
    const initiator = await login();
    target.faults.delay({ ms: 100 });
    const itt = initiator.command([0x00]);
    initiator.command([0x00], { itt });
    expect((await initiator.next(Opcode.Reject)).pdu.reason).toBe(RejectReason.TaskInProgress);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.itt).toBe(itt);
  });

  test('serial numbers may wrap around', async () => {
    const { connect } = await targetFixture();
    const initiator = await connect();
    initiator.cmdSn = 0xfffffffe;
    await initiator.login();
    for (let i = 0; i < 5; i++) await initiator.run([0x00]);
    expect(initiator.cmdSn).toBe(3);
  });
});

describe('pings', () => {
  test('are echoed with their data', async () => {
    const { login } = await targetFixture();
    const initiator = await login();
    const itt = initiator.nextItt();
    const body = { opcode: Opcode.NopOut, immediate: true, lun: Buffer.alloc(8), itt } as const;
    initiator.send(
      { ...body, ttt: RESERVED_TAG, cmdSn: initiator.cmdSn, expStatSn: 0, dataSegmentLength: 0 },
      Buffer.from('echo!'),
    );
    const { pdu, data } = await initiator.next(Opcode.NopIn);
    expect(pdu).toMatchObject({ itt, ttt: RESERVED_TAG });
    expect(data.toString()).toBe('echo!');
  });

  test('the target pings initiators that are silent, and drops those that do not answer', async () => {
    const { login, clock } = await targetFixture({ params: { nopIntervalMs: 1000 } });
    const initiator = await login();
    const { pdu } = await initiator.next(Opcode.NopIn);
    expect(pdu.itt).toBe(RESERVED_TAG);
    expect(pdu.ttt).not.toBe(RESERVED_TAG);
    const body = {
      opcode: Opcode.NopOut,
      immediate: true,
      lun: pdu.lun,
      itt: RESERVED_TAG,
    } as const;
    initiator.send({
      ...body,
      ttt: pdu.ttt,
      cmdSn: initiator.cmdSn,
      expStatSn: 0,
      dataSegmentLength: 0,
    });
    await clock.advance(900);
    expect(initiator.over).toBeUndefined();
    await clock.advance(3000);
    expect(initiator.over).toMatchObject({ code: 'ECONNRESET' });
  });
});
