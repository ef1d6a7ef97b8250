import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { isOrionError, type OrionError } from '../core/errors.ts';
import { seededRng } from '../core/rng.ts';
import { lunFromNumber } from '../scsi/lun.ts';
import type { TargetParams } from '../target/target.ts';
import type { LinkKnobs } from '../testkit/memory-network.ts';
import { TARGET_NAME, targetFixture } from '../testkit/target-fixture.ts';
import { makeIsid } from './isid.ts';
import type { Params } from './keys.ts';
import { attachLun } from './lun-attach.ts';
import { openSession } from './open-session.ts';
import { BHS_BYTES } from './pdu/bhs.ts';
import { SEALED_BHS_BYTES } from './pdu/digest.ts';
import { Opcode } from './pdu/opcodes.ts';
import { DamagedNetwork } from './testing/damaged-network.ts';

const KIB = 1024;
const BLOCK = 512;

/** The first byte of the LBA that is not 0 for small ones, in the CDB of a command. */
const LBA_AT = 32 + 5;

interface Wants {
  readonly header: string;
  readonly data: string;
  readonly link?: Partial<LinkKnobs>;
  readonly params?: TargetParams;
  readonly wanted?: Partial<Params>;
}

const BOTH = { header: 'CRC32C', data: 'CRC32C' };
const NEITHER = { header: 'None', data: 'None' };
const COMBINATIONS = [
  NEITHER,
  { ...NEITHER, header: 'CRC32C' },
  { ...NEITHER, data: 'CRC32C' },
  BOTH,
];

async function rig({ header, data, link, params, wanted }: Wants) {
  const fixture = await targetFixture({
    ...(link === undefined ? {} : { link }),
    // A cache of its own: flushes are sent.
    luns: [{ lun: 0, sizeBytes: 16 * KIB * KIB, writeCache: true }],
    params: { headerDigest: 'CRC32C,None', dataDigest: 'CRC32C,None', ...params },
  });
  const { clock, target } = fixture;
  const network = new DamagedNetwork(fixture.network.host('initiator'));
  /** Runs the clock until the promise has settled. */
  const driven = async <T>(promise: Promise<T>): Promise<T> => {
    let over = false;
    const watched = promise.finally(() => {
      over = true;
    });
    watched.catch(() => {});
    for (let i = 0; i < 200_000 && !over; i++) await clock.advance(1);
    return watched;
  };
  const open = () =>
    openSession({
      network,
      clock,
      rng: seededRng(3),
      portals: [target.addresses[0]!],
      targetName: TARGET_NAME,
      initiatorName: 'iqn.2026-11.test:initiator',
      isid: makeIsid('test', TARGET_NAME, 0),
      params: { HeaderDigest: header, DataDigest: data, ...wanted },
    });
  const session = await driven(open());
  const lun = await driven(attachLun(session, lunFromNumber(0)));
  return {
    target,
    network,
    session,
    driven,
    write: (offset: number, from: Buffer) => driven(lun.write(offset, from, 0, NO_DEADLINE)),
    flush: () => driven(lun.flush(NO_DEADLINE)),
    read: (offset: number, into: Buffer) => driven(lun.read(offset, into, NO_DEADLINE)),
    onDisk(offset: number, length: number): Buffer {
      const into = Buffer.alloc(length);
      target.disk(0).read(offset, into);
      return into;
    },
  };
}

function noise(bytes: number, seed = 9): Buffer {
  const data = Buffer.alloc(bytes);
  seededRng(seed).fill(data);
  return data;
}

async function failureOf(promise: Promise<unknown>): Promise<OrionError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!isOrionError(error)) throw new Error('the command was not to succeed', { cause: error });
  return error;
}

describe.each(COMBINATIONS)('HeaderDigest $header and DataDigest $data', ({ header, data }) => {
  test('carry reads and writes of all sizes and in all modes of writing', async () => {
    for (const wanted of [
      {},
      { ImmediateData: false },
      { InitialR2T: true, ImmediateData: false },
    ]) {
      const r = await rig({ header, data, wanted });
      expect(r.session.login.params).toMatchObject({ HeaderDigest: header, DataDigest: data });
      for (const bytes of [BLOCK, 4 * KIB, 16 * KIB, 64 * KIB + BLOCK, 1024 * KIB + 3 * BLOCK]) {
        const from = noise(bytes, bytes);
        await r.write(7 * BLOCK, from);
        const into = Buffer.alloc(bytes);
        await r.read(7 * BLOCK, into);
        expect(into.equals(from)).toBe(true);
        expect(r.onDisk(7 * BLOCK, bytes).equals(from)).toBe(true);
      }
      await r.driven(r.session.logout({ timeoutMs: 5000 }));
    }
  });

  test('survive a stream that is cut anywhere, down to single bytes', async () => {
    for (const [fragmentBytesMax, bytes] of [
      [1, KIB],
      [7, 4 * KIB],
      [1500, 64 * KIB],
    ] as const) {
      const r = await rig({ header, data, link: { fragmentBytesMax } });
      const from = noise(bytes);
      await r.write(0, from);
      const into = Buffer.alloc(from.length);
      await r.read(0, into);
      expect(into.equals(from)).toBe(true);
    }
  });

  test('carry text whose length is no multiple of 4', async () => {
    const r = await rig({ header, data });
    const answer = await r.driven(r.session.text(Buffer.from('SendTargets=\0'), 5000));
    expect(answer.toString()).toContain(TARGET_NAME);
    expect((await r.driven(r.session.text(Buffer.from('X-lab.a=1\0'), 5000))).length % 4).not.toBe(
      0,
    );
  });
});

describe('what is agreed on', () => {
  test('is what the initiator prefers and the target takes', async () => {
    const prefers = { header: 'CRC32C,None', data: 'CRC32C,None' };
    const able = await rig(prefers);
    expect(able.session.login.params).toMatchObject({
      HeaderDigest: 'CRC32C',
      DataDigest: 'CRC32C',
    });
    const params = { headerDigest: 'None', dataDigest: 'None' } as const;
    const unable = await rig({ ...prefers, params });
    expect(unable.session.login.params).toMatchObject({ HeaderDigest: 'None', DataDigest: 'None' });
  });

  test('is never less than what the initiator insists on', async () => {
    for (const key of ['headerDigest', 'dataDigest'] as const) {
      const error = await failureOf(rig({ ...BOTH, params: { [key]: 'None' } }));
      expect(error.code).toBe('ISCSI_LOGIN_FAILED');
      expect(error.message).toMatch(/does not take (Header|Data)Digest=CRC32C/);
    }
  });
});

describe('damage on the way to the initiator', () => {
  const SIZES = [BLOCK, 64 * KIB, 512 * KIB];

  test('in data is noticed by the data digest, and the read does not succeed', async () => {
    for (const bytes of SIZES) {
      const r = await rig({ ...NEITHER, data: 'CRC32C' });
      const fault = r.target.faults.corrupt('data-bit', { opcode: Opcode.DataIn });
      const error = await failureOf(r.read(0, Buffer.alloc(bytes)));
      expect(fault.hits).toBe(1);
      expect(error).toMatchObject({ code: 'ISCSI_SESSION_LOST', outcome: 'unknown' });
      expect(r.session.cause).toMatchObject({ code: 'ISCSI_DIGEST_DATA' });
      expect(r.session.state).toBe('closed');
    }
  });

  test('in data goes unnoticed without a data digest', async () => {
    for (const bytes of SIZES) {
      const r = await rig({ ...NEITHER, header: 'CRC32C' });
      r.target.faults.corrupt('data-bit', { opcode: Opcode.DataIn });
      const into = Buffer.alloc(bytes);
      await r.read(0, into);
      expect(into.equals(Buffer.alloc(bytes))).toBe(false);
    }
  });

  test('in the header of a failed flush is noticed by the header digest', async () => {
    const r = await rig({ ...NEITHER, header: 'CRC32C' });
    r.target.faults.checkCondition([0x3, 0x0c, 0x00], { opcode: 0x35 });
    r.target.faults.corrupt('header-bit', { opcode: Opcode.ScsiResponse });
    const error = await failureOf(r.flush());
    expect(error).toMatchObject({ code: 'ISCSI_SESSION_LOST', outcome: 'unknown' });
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_DIGEST_HEADER' });
  });

  test('in the header of a failed flush makes a success of it without a header digest', async () => {
    const r = await rig({ ...NEITHER, data: 'CRC32C' });
    const failed = r.target.faults.checkCondition([0x3, 0x0c, 0x00], { opcode: 0x35 });
    r.target.faults.corrupt('header-bit', { opcode: Opcode.ScsiResponse });
    await r.flush();
    expect(failed.hits).toBe(1);
  });

  test('in sense data is noticed by the data digest', async () => {
    const r = await rig({ ...NEITHER, data: 'CRC32C' });
    r.target.faults.checkCondition([0x3, 0x0c, 0x00], { opcode: 0x35 });
    r.target.faults.corrupt('data-bit', { opcode: Opcode.ScsiResponse });
    const error = await failureOf(r.flush());
    expect(error.outcome).toBe('unknown');
    expect(r.session.cause).toMatchObject({ code: 'ISCSI_DIGEST_DATA' });
  });
});

describe('damage on the way to the target', () => {
  const toLba8 = { opcode: Opcode.ScsiCommand, at: LBA_AT, mask: 8 };

  test('in a command is noticed by the header digest, and nothing is written', async () => {
    const r = await rig({ ...NEITHER, header: 'CRC32C' });
    r.network.arm(toLba8);
    const error = await failureOf(r.write(0, noise(BLOCK)));
    expect(r.network.struck).toBe(true);
    expect(error.outcome).toBe('unknown');
    expect(r.session.state).toBe('closed');
    expect(r.onDisk(0, 16 * BLOCK).equals(Buffer.alloc(16 * BLOCK))).toBe(true);
  });

  test('in a command writes somewhere else without a header digest', async () => {
    const r = await rig({ ...NEITHER, data: 'CRC32C' });
    r.network.arm(toLba8);
    const from = noise(BLOCK);
    await r.write(0, from);
    expect(r.onDisk(0, BLOCK).equals(from)).toBe(false);
    expect(r.onDisk(8 * BLOCK, BLOCK).equals(from)).toBe(true);
  });

  test.each([
    ['immediate', {}, Opcode.ScsiCommand],
    ['solicited', { InitialR2T: true, ImmediateData: false }, Opcode.DataOut],
  ] as const)('in %s data is noticed by the data digest alone', async (_, wanted, opcode) => {
    for (const bytes of [BLOCK, 64 * KIB]) {
      const from = noise(bytes);
      const safe = await rig({ ...BOTH, wanted });
      safe.network.arm({ opcode, at: SEALED_BHS_BYTES + 100, mask: 1 });
      const error = await failureOf(safe.write(0, from));
      expect(safe.network.struck).toBe(true);
      expect(error.outcome).toBe('unknown');
      expect(safe.session.state).toBe('closed');
      expect(safe.onDisk(0, bytes).equals(Buffer.alloc(bytes))).toBe(true);

      const unsafe = await rig({ ...NEITHER, wanted });
      unsafe.network.arm({ opcode, at: BHS_BYTES + 100, mask: 1 });
      await unsafe.write(0, from);
      expect(unsafe.onDisk(0, bytes)[100]).toBe(from[100]! ^ 1);
    }
  });
});
