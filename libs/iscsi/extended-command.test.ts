import { describe, expect, test } from 'vitest';
import { iscsiErrors } from './errors.ts';
import { execute } from './execute.ts';
import { decodeCommandExtension, EXTENDED_CDB_BYTES_MAX } from './pdu/additional-header.ts';
import { BHS_BYTES } from './pdu/bhs.ts';
import { digestOf, isDigest, putDigest } from './pdu/digest.ts';
import { encodePdu } from './pdu/index.ts';
import { Opcode, RESERVED_TAG, TaskAttribute } from './pdu/opcodes.ts';
import { LUN, lastCommand, pattern, type Rig, rig, watch } from './testing/fake-session.ts';
import { type FakeTarget, settle } from './testing/fake-target.ts';

const cdb32 = Buffer.from(Array.from({ length: 32 }, (_, i) => (i === 0 ? 0x7f : i)));
const cdb16 = cdb32.subarray(0, 16);

const unasked = { InitialR2T: false, ImmediateData: true };

const respond = (r: Rig, itt: number, over: object = {}) =>
  r.target.send({
    opcode: Opcode.ScsiResponse,
    bidiOverflow: false,
    bidiUnderflow: false,
    overflow: false,
    underflow: false,
    response: 0,
    status: 0,
    itt,
    snackTag: 0,
    ...r.target.numbers(true),
    expDataSn: 0,
    bidiResidual: 0,
    residual: 0,
    ...over,
  });

describe('a command with a CDB of more than 16 bytes', () => {
  test('sends the rest of it in an additional header, and reads as any other', async () => {
    const r = await rig();
    const promise = execute(r.session, LUN, { cdb: cdb32, receiveBytes: 1024 });
    const command = await lastCommand(r);
    const { ahs } = r.target.of(Opcode.ScsiCommand)[0]!;
    expect(command).toMatchObject({ read: true, write: false, final: true, edtl: 1024 });
    expect(command.cdb.equals(cdb16)).toBe(true);
    expect(decodeCommandExtension(ahs)).toEqual({ cdbRest: cdb32.subarray(16), readLength: null });
    r.target.dataIn(command, pattern(1024), { status: 0 });
    expect((await promise).data.equals(pattern(1024))).toBe(true);
  });

  test('writes with immediate data, unsolicited data and R2Ts as any other', async () => {
    const r = await rig((target) => {
      target.wants = { ...target.wants, ...unasked, FirstBurstLength: 16384 };
    });
    const data = pattern(40_000);
    const promise = execute(r.session, LUN, { cdb: cdb32, send: data });
    const command = await lastCommand(r);
    expect(command).toMatchObject({ read: false, write: true, final: false, edtl: 40_000 });
    r.target.r2t(command, 16384, 40_000 - 16384);
    await settle();
    const parts = r.target.of(Opcode.DataOut).map(({ pdu }) => pdu);
    expect(
      parts.map(({ bufferOffset, dataSn, ttt, final }) => [bufferOffset, dataSn, ttt, final]),
    ).toEqual([
      [8192, 0, RESERVED_TAG, true],
      [16384, 0, 77, false],
      [24576, 1, 77, false],
      [32768, 2, 77, true],
    ]);
    const sent = [...r.target.of(Opcode.ScsiCommand), ...r.target.of(Opcode.DataOut)];
    expect(Buffer.concat(sent.map((pdu) => pdu.data)).equals(data)).toBe(true);
    r.target.respond(command);
    expect(await promise).toMatchObject({ status: 0, residual: 0 });
    expect(r.session.stats).toMatchObject({ inflight: 0, bytesWritten: 40_000 });
  });

  test('may be as long as the headers carry', async () => {
    const r = await rig();
    const cdb = pattern(EXTENDED_CDB_BYTES_MAX);
    const promise = execute(r.session, LUN, { cdb });
    const command = await lastCommand(r);
    const { ahs } = r.target.of(Opcode.ScsiCommand)[0]!;
    expect(decodeCommandExtension(ahs)).toMatchObject({ cdbRest: cdb.subarray(16) });
    r.target.respond(command);
    await promise;
  });
});

describe('a bidirectional command', () => {
  const eager = (target: FakeTarget) => {
    target.wants = { ...target.wants, ...unasked };
  };
  const start = async (setUp: (target: FakeTarget) => void = eager) => {
    const r = await rig(setUp);
    const promise = execute(r.session, LUN, {
      cdb: cdb16,
      send: pattern(20_000),
      receiveBytes: 4096,
    });
    promise.catch(() => {});
    return { r, promise, command: await lastCommand(r) };
  };
  const slow = (target: FakeTarget) => {
    target.wants = { ...target.wants, InitialR2T: true, ImmediateData: false };
  };

  test('says both lengths, and R2Ts and Data-In share one numbering', async () => {
    const { r, promise, command } = await start(slow);
    expect(command).toMatchObject({ read: true, write: true, final: true, edtl: 20_000 });
    const { ahs } = r.target.of(Opcode.ScsiCommand)[0]!;
    expect(decodeCommandExtension(ahs)).toEqual({ cdbRest: Buffer.alloc(0), readLength: 4096 });
    r.target.r2t(command, 0, 10_000, { r2tSn: 0 });
    r.target.dataIn(command, pattern(1024), { dataSn: 1, final: false });
    r.target.r2t(command, 10_000, 10_000, { r2tSn: 2 });
    r.target.dataIn(command, pattern(4096).subarray(1024, 3072), { dataSn: 3, offset: 1024 });
    await settle();
    const out = Buffer.concat(r.target.of(Opcode.DataOut).map(({ data }) => data));
    expect(out.equals(pattern(20_000))).toBe(true);
    respond(r, command.itt, {
      expDataSn: 4,
      overflow: true,
      residual: 7,
      bidiUnderflow: true,
      bidiResidual: 1024,
    });
    const result = await promise;
    expect(result).toMatchObject({ status: 0, residual: 7, readResidual: -1024 });
    expect(result.data.equals(pattern(4096).subarray(0, 3072))).toBe(true);
  });

  test('sends its first data unasked where that was agreed', async () => {
    const { r, promise, command } = await start();
    expect(command.dataSegmentLength).toBe(8192);
    const sent = [...r.target.of(Opcode.ScsiCommand), ...r.target.of(Opcode.DataOut)];
    expect(Buffer.concat(sent.map((pdu) => pdu.data)).equals(pattern(20_000))).toBe(true);
    respond(r, command.itt, { bidiUnderflow: true, bidiResidual: 4096 });
    expect(await promise).toMatchObject({ readResidual: -4096 });
  });

  test.each([
    ['with a number that was not next', { r2tSn: 1, offset: 0, length: 512 }, /§11\.8\.2/],
    ['beyond what it sends', { r2tSn: 0, offset: 19_999, length: 2 }, /§11\.8\.4/],
    ['that leaves a gap', { r2tSn: 0, offset: 512, length: 512 }, /§11\.8/],
    ['for no bytes', { r2tSn: 0, offset: 0, length: 0 }, /§11\.8\.4/],
    ['without a tag', { r2tSn: 0, offset: 0, length: 1, ttt: RESERVED_TAG }, /§11\.8\.5/],
  ])('with an R2T %s ends the session', async (_what, { offset, length, ...over }, clause) => {
    const { r, command } = await start(slow);
    r.target.r2t(command, offset, length, over);
    await settle();
    expect(r.session.cause?.message).toMatch(clause);
  });

  test('is asked twice for the same bytes: a violation', async () => {
    const { r, command } = await start(slow);
    r.target.r2t(command, 0, 512, { r2tSn: 0 });
    r.target.r2t(command, 0, 512, { r2tSn: 1 });
    await settle();
    expect(r.session.cause?.message).toMatch(/§13\.19/);
  });

  test('that is given up keeps its memory until the socket has let go of it', async () => {
    const r = await rig(eager);
    r.target.holdWrites = true;
    const [send, receiveBytes] = [pattern(20_000), 4096];
    const seen = watch(execute(r.session, LUN, { cdb: cdb16, send, receiveBytes }));
    await settle();
    const [task] = r.session.commandsOf(LUN);
    r.session.abandon(task!, iscsiErrors.make('ISCSI_LUN_RESET'));
    await settle();
    expect(seen.state).toBe('pending');
    r.target.releaseWrites();
    await settle();
    expect(seen.error).toMatchObject({ code: 'ISCSI_LUN_RESET' });
    expect(r.session.stats.inflight).toBe(0);
  });

  test('has its status in a response of its own; in Data-In it is a violation', async () => {
    const { r, command } = await start();
    r.target.dataIn(command, pattern(512), { status: 0 });
    await settle();
    expect(r.session.cause?.message).toMatch(/§11\.7\.3/);
  });

  test('with both residuals of one side is a violation', async () => {
    const { r, command } = await start();
    respond(r, command.itt, { bidiOverflow: true, bidiUnderflow: true });
    await settle();
    expect(r.session.state).toBe('closed');
  });
});

describe('execute', () => {
  test.each(Object.values(TaskAttribute))(
    'sends task attribute %i when it is asked to',
    async (attribute) => {
      const r = await rig();
      const promise = execute(r.session, LUN, { cdb: Buffer.alloc(6), attribute });
      const command = await lastCommand(r);
      expect(command).toMatchObject({ attribute, read: false, write: false, edtl: 0 });
      r.target.respond(command);
      await promise;
    },
  );

  test('sends SIMPLE when nothing is said', async () => {
    const r = await rig();
    execute(r.session, LUN, { cdb: Buffer.alloc(6) }).catch(() => {});
    expect((await lastCommand(r)).attribute).toBe(TaskAttribute.Simple);
  });

  test('takes an overflow of an allocation length for what it is: no error (§11.4.5.3)', async () => {
    const r = await rig();
    const promise = execute(r.session, LUN, { cdb: cdb16, receiveBytes: 16 });
    const command = await lastCommand(r);
    r.target.dataIn(command, pattern(16), { status: 0, flags: { overflow: true, residual: 240 } });
    const result = await promise;
    expect(result).toMatchObject({ status: 0, residual: 240 });
    expect(result.data).toHaveLength(16);
  });

  test('takes no GOOD for data that were not asked for, unless a residual says so', async () => {
    const r = await rig();
    const send = pattern(20_000);
    const asked = async (cdb: Buffer, residual: number) => {
      const promise = execute(r.session, LUN, { cdb, send });
      promise.catch(() => {});
      const command = await lastCommand(r);
      r.target.r2t(command, 8192, 1808);
      await settle();
      r.target.respond(command, { residual });
      return promise;
    };
    for (const cdb of [cdb16, cdb32]) {
      await expect(asked(cdb, 0)).rejects.toMatchObject({
        code: 'ISCSI_SHORT_TRANSFER',
        fields: { unsent: 10_000 },
      });
      await expect(asked(cdb, -9999)).rejects.toMatchObject({ code: 'ISCSI_SHORT_TRANSFER' });
      expect(await asked(cdb, -10_000)).toMatchObject({ status: 0, residual: -10_000 });
    }
    expect(r.session.state).toBe('open');
  });

  test('looks at the response code first: of a command that was not carried out nothing else is looked at', async () => {
    const r = await rig();
    const promise = execute(r.session, LUN, { cdb: cdb16, receiveBytes: 16 });
    const command = await lastCommand(r);
    // Both flags at once would be a violation, and GOOD a lie (§11.4.3).
    respond(r, command.itt, { response: 1, status: 0, overflow: true, underflow: true });
    await expect(promise).rejects.toMatchObject({ code: 'ISCSI_TARGET_FAILURE' });
    const vendor = execute(r.session, LUN, { cdb: cdb16 });
    respond(r, (await lastCommand(r)).itt, { response: 0x85 });
    await expect(vendor).rejects.toMatchObject({ fields: { response: '0x85' } });
    expect(r.session.state).toBe('open');
  });

  test('reads sense by its SenseLength; response data may follow it', async () => {
    const r = await rig();
    const promise = execute(r.session, LUN, { cdb: cdb16 });
    const command = await lastCommand(r);
    const sense = Buffer.alloc(18);
    sense[0] = 0x70;
    sense[2] = 5;
    sense[7] = 10;
    sense[12] = 0x24;
    const data = Buffer.concat([Buffer.from([0, 18]), sense, Buffer.from('what the vendor adds')]);
    r.target.send(
      {
        opcode: Opcode.ScsiResponse,
        bidiOverflow: false,
        bidiUnderflow: false,
        overflow: false,
        underflow: false,
        response: 0,
        status: 2,
        itt: command.itt,
        snackTag: 0,
        ...r.target.numbers(true),
        expDataSn: 0,
        bidiResidual: 0,
        residual: 0,
      },
      data,
    );
    expect(await promise).toMatchObject({ status: 2, sense: { key: 5, asc: 0x24, ascq: 0 } });
  });
});

describe('additional headers with digests', () => {
  const sealed = async () => {
    const r = await rig(
      (target) => {
        target.wants = { ...target.wants, HeaderDigest: 'CRC32C' };
      },
      { params: { HeaderDigest: 'CRC32C,None' } },
    );
    const chunks: Buffer[] = [];
    r.target.onBytes = (bytes) => chunks.push(bytes);
    return { r, chunks };
  };

  test('are covered by the digest of the header that we send', async () => {
    const { r, chunks } = await sealed();
    execute(r.session, LUN, { cdb: cdb32 }).catch(() => {});
    await settle();
    const pdu = Buffer.concat(chunks);
    const end = BHS_BYTES + 20;
    expect(pdu[4]).toBe(5);
    expect(pdu).toHaveLength(end + 4);
    expect(isDigest(pdu, end, digestOf(pdu, 0, end))).toBe(true);
    r.session.destroy(new Error('over'));
  });

  const ping = (r: Rig, chain: Buffer, digest: boolean): Buffer => {
    const plain = encodePdu({
      opcode: Opcode.NopIn,
      dataSegmentLength: 0,
      lun: LUN,
      itt: RESERVED_TAG,
      ttt: 9,
      ...r.target.numbers(false),
    });
    plain[4] = chain.length / 4;
    const header = Buffer.concat([plain, chain, Buffer.alloc(digest ? 4 : 0)]);
    const end = BHS_BYTES + chain.length;
    if (digest) putDigest(header, end, digestOf(header, 0, end));
    return header;
  };
  const unknown = Buffer.from('00013fee00053e00aabbccdd', 'hex');

  test('of the target are covered by its digest, and passed over', async () => {
    const { r, chunks } = await sealed();
    const bytes = ping(r, unknown, true);
    r.target.sendBytes(bytes, 7);
    await settle();
    expect(Buffer.concat(chunks)[0]).toBe(0x40);
    bytes[BHS_BYTES + 5]! ^= 1;
    r.target.sendBytes(bytes);
    await settle();
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_DIGEST_HEADER' });
  });

  test('of the target are passed over without digests too, also before data', async () => {
    const r = await rig();
    const promise = execute(r.session, LUN, { cdb: cdb16, receiveBytes: 512 });
    const command = await lastCommand(r);
    r.target.sendBytes(ping(r, unknown, false), 5);
    const send = r.target.sendBytes.bind(r.target);
    r.target.sendBytes = (bytes) => {
      const whole = Buffer.concat([bytes.subarray(0, 48), unknown, bytes.subarray(48)]);
      whole[4] = unknown.length / 4;
      send(whole, 11);
    };
    r.target.dataIn(command, pattern(512), { status: 0 });
    expect((await promise).data.equals(pattern(512))).toBe(true);
    expect(r.target.of(Opcode.NopOut)).toHaveLength(1);
  });

  test.each(['00ff0100', '00110100aabbccdd'])(
    'of the target that do not hold what they say (%s) end the session',
    async (chain) => {
      const r = await rig();
      r.target.sendBytes(ping(r, Buffer.from(chain, 'hex'), false));
      await settle();
      expect(r.session.cause?.message).toMatch(/§11\.2\.2/);
    },
  );
});
