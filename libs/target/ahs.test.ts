import { describe, expect, test } from 'vitest';
import { Opcode, RejectReason } from '../iscsi/pdu/opcodes.ts';
import { type TargetFixture, targetFixture } from '../testkit/target-fixture.ts';
import { parseCommandExtras } from './ahs.ts';

const BLOCK = 512;

/** READ (32) of one block at LBA 3. */
const LONG_READ = Buffer.alloc(32);
LONG_READ.set([0x7f, 0, 0, 0, 0, 0, 0, 24, 0, 9]);
LONG_READ[19] = 3;
LONG_READ[31] = 1;

const extendedCdb = (rest: Buffer): Buffer =>
  Buffer.concat([Buffer.from([0, rest.length + 1, 1, 0]), rest]);
const readLength = (bytes: number): Buffer =>
  Buffer.from([0, 5, 2, 0, 0, 0, bytes >> 8, bytes & 255]);

async function withData(
  options: Partial<Parameters<typeof targetFixture>[0]> = {},
): Promise<TargetFixture> {
  const fixture = await targetFixture(options);
  for (let i = 0; i < 8; i++) fixture.target.disk(0).write(i * BLOCK, Buffer.alloc(BLOCK, i));
  return fixture;
}

describe('additional header segments', () => {
  test('bring the rest of a long CDB, with a header digest and without one', async () => {
    for (const headerDigest of ['None', 'CRC32C'] as const) {
      const { login } = await withData({ params: { headerDigest } });
      const initiator = await login({ keys: [['HeaderDigest', headerDigest]] });
      initiator.command([...LONG_READ.subarray(0, 16)], {
        read: BLOCK,
        ahs: extendedCdb(LONG_READ.subarray(16)),
      });
      const { pdu, data } = await initiator.next(Opcode.DataIn);
      expect(pdu).toMatchObject({ status: 0, statusPresent: true });
      expect(data[0]).toBe(3);
    }
  });

  test('bring the read length of a command that moves data both ways', async () => {
    const { login, target } = await withData();
    const initiator = await login();
    const bidi = { read: BLOCK, write: BLOCK, immediate: Buffer.alloc(BLOCK, 0x0f) };
    const cdb = [0x53, 0, 0, 0, 0, 5, 0, 0, 1, 0];
    initiator.command(cdb, { ...bidi, ahs: readLength(BLOCK) });
    expect((await initiator.next(Opcode.DataIn)).data[0]).toBe(5 ^ 0x0f);
    const { pdu } = await initiator.next(Opcode.ScsiResponse);
    expect(pdu).toMatchObject({ status: 0, residual: 0, bidiResidual: 0, expDataSn: 1 });
    const block = Buffer.alloc(BLOCK);
    target.disk(0).read(5 * BLOCK, block);
    expect(block[0]).toBe(0x0f);
    initiator.command(cdb, { ...bidi, ahs: readLength(256) });
    expect((await initiator.next(Opcode.DataIn)).data).toHaveLength(256);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu).toMatchObject({
      bidiOverflow: true,
      bidiResidual: 256,
    });
  });

  test('are numbered with the R2Ts of such a command', async () => {
    const { login } = await withData();
    const initiator = await login();
    const cdb = [0x53, 0, 0, 0, 0, 5, 0, 0, 1, 0];
    const itt = initiator.command(cdb, { read: BLOCK, write: BLOCK, ahs: readLength(BLOCK) });
    const { pdu } = await initiator.next(Opcode.R2t);
    expect(pdu.r2tSn).toBe(0);
    initiator.dataOut(itt, Buffer.alloc(BLOCK), { ttt: pdu.ttt });
    expect((await initiator.next(Opcode.DataIn)).pdu.dataSn).toBe(1);
    expect((await initiator.next(Opcode.ScsiResponse)).pdu.expDataSn).toBe(2);
  });

  test('that make no sense have their command rejected, and its number stays open', async () => {
    const { login } = await withData();
    const initiator = await login();
    const { cmdSn } = initiator;
    const wrong: [Buffer, object][] = [
      [Buffer.from([0, 200, 1, 0]), {}],
      [Buffer.from([0, 5, 9, 0, 0, 0, 0, 0]), {}],
      [Buffer.concat([extendedCdb(Buffer.alloc(16)), extendedCdb(Buffer.alloc(16))]), {}],
      [readLength(BLOCK), { read: BLOCK }],
      [extendedCdb(Buffer.alloc(16)), { read: BLOCK, write: BLOCK }],
    ];
    for (const [ahs, options] of wrong) {
      initiator.command([0x53], { ...options, ahs, cmdSn });
      const { pdu, data } = await initiator.next(Opcode.Reject);
      expect(pdu).toMatchObject({ reason: RejectReason.InvalidPduField, expCmdSn: cmdSn });
      expect(data[0]).toBe(Opcode.ScsiCommand);
    }
    expect((await initiator.run([0])).status).toBe(0);
  });

  test('are read within their bounds, whatever they hold', () => {
    for (let length = 0; length < 24; length += 4) {
      for (let byte = 0; byte < 256; byte += 5) {
        const ahs = Buffer.alloc(length, byte);
        const extras = parseCommandExtras(ahs);
        if (length === 0) expect(extras).toEqual({ cdbRest: null, bidiReadLength: null });
        else expect(extras).toBeTruthy();
      }
    }
  });
});
