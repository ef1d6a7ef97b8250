import { describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { isOrionError } from '../core/errors.ts';
import { AccessState } from '../multipath/access.ts';
import { ScsiOp } from '../scsi/opcodes.ts';
import { buildSense, parseSense } from '../scsi/sense.ts';
import type { IscsiLun } from './lun.ts';
import { attachLun } from './lun-attach.ts';
import { Opcode } from './pdu/opcodes.ts';
import { LUN, type Rig, rig } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';
import { FakeUnit } from './testing/fake-unit.ts';

async function disk(setUp: (unit: FakeUnit) => void = () => {}): Promise<{
  r: Rig;
  unit: FakeUnit;
  attach: (profile?: string, lun?: Buffer) => Promise<IscsiLun>;
  attachUnsized: () => Promise<IscsiLun>;
}> {
  const r = await rig(undefined, { timeouts: { nopIntervalMs: 1_000_000 } });
  const unit = new FakeUnit(r.target);
  setUp(unit);
  r.target.onPdu = ({ pdu }) => {
    if (pdu.opcode === Opcode.ScsiCommand) unit.answer(pdu);
  };
  const attach = (profile?: string, lun: Buffer = LUN) => attachLun(r.session, lun, { profile });
  const attachUnsized = () => attachLun(r.session, LUN, { allowUnsized: true });
  return { r, unit, attach, attachUnsized };
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** A Block Limits page without its header, with these fields of 32 bits at these offsets of the page. */
function limits(fields: Readonly<Record<number, number>>): Buffer {
  const page = Buffer.alloc(60);
  for (const [at, value] of Object.entries(fields)) page.writeUInt32BE(value, Number(at) - 4);
  return page;
}

describe('an attach', () => {
  test('takes unit attentions away, and asks nothing that changes the unit (I01, I25)', async () => {
    const { unit, attach } = await disk((u) => {
      u.senses = [buildSense(6, 0x29, 0), buildSense(6, 0x3f, 0x0e), buildSense(6, 0x2a, 1)];
    });
    const lun = await attach();
    expect(lun.caps).toMatchObject({ blockBytes: 512, sizeBytes: 1 << 30, volatileCache: true });
    const asked = new Set<number>([
      ScsiOp.TestUnitReady,
      ScsiOp.Inquiry,
      ScsiOp.ServiceActionIn16,
      ScsiOp.ModeSense6,
    ]);
    expect(unit.ops.filter((op) => !asked.has(op))).toEqual([]);
  });

  test('of a unit that keeps reporting unit attentions ends after a bounded number', async () => {
    const { unit, attach } = await disk((u) => {
      u.senses = Array.from({ length: 1000 }, () => buildSense(6, 0x29, 0));
    });
    await expect(attach()).rejects.toMatchObject({ code: 'SCSI_UNIT_ATTENTION' });
    expect(unit.ops.length).toBeLessThan(50);
  });

  test.each([520, 528, 4104, 256, 131072])(
    'names the LUN and what to do where blocks have %i bytes',
    async (blockBytes) => {
      const { attach } = await disk((u) => {
        u.blockBytes = blockBytes;
      });
      const error: unknown = await attach().catch((reason: unknown) => reason);
      expect(isOrionError(error) && error.code).toBe('SCSI_BLOCK_SIZE');
      const text = isOrionError(error) ? error.describe() : '';
      expect(text).toContain(`LUN 1 of iqn.2026-11.lab:disk1 has blocks of ${blockBytes} bytes`);
      expect(text).toContain('sg_format');
    },
  );

  test.each([512, 4096])(
    'works with blocks of %i bytes, and asks READ CAPACITY(10) where (16) is not known',
    async (blockBytes) => {
      const { attach } = await disk((u) => {
        u.blockBytes = blockBytes;
        u.onlyShortCapacity = true;
      });
      expect((await attach()).caps).toMatchObject({ blockBytes, sizeBytes: blockBytes * 2 ** 21 });
    },
  );

  test('sends the 8 bytes of the LUN as they are, in every command (F01)', async () => {
    const odd = hex('c1 02 03 04 50 06 70 08');
    const { r, attach } = await disk();
    const lun = await attach(undefined, odd);
    await lun.write(0, Buffer.alloc(512), 0, NO_DEADLINE);
    expect(r.commands().length).toBeGreaterThan(5);
    expect(r.commands().every((command) => command.lun.equals(odd))).toBe(true);
  });

  test('not to know the mode is to assume a cache, and that it may be written (I09)', async () => {
    const { attach } = await disk((u) => {
      u.mode = null;
    });
    const lun = await attach();
    expect(lun.caps).toMatchObject({ volatileCache: true, readOnly: false });
    expect(lun.facts.dpoFua).toBe(false);
  });

  test.each([
    [0x80, 0x04, { readOnly: true, volatileCache: true }],
    [0x00, 0x00, { readOnly: false, volatileCache: false }],
  ])('mode %i with cache %i', async (device, caching, caps) => {
    const { attach } = await disk((u) => {
      u.mode = { device, caching };
    });
    expect((await attach()).caps).toMatchObject(caps);
  });

  test('FUA goes with the write only where the device honours it, else a flush follows (I08)', async () => {
    for (const device of [0x10, 0x00]) {
      const { r, unit, attach } = await disk((u) => {
        u.mode = { device, caching: 4 };
      });
      const lun = await attach();
      unit.ops.length = 0;
      await lun.write(0, Buffer.alloc(512), 1, NO_DEADLINE);
      const write = r.commands().find(({ cdb }) => cdb[0] === ScsiOp.Write10)!;
      expect((write.cdb[1]! & 0x08) !== 0).toBe(device === 0x10);
      const rest = device === 0x10 ? [] : [ScsiOp.SynchronizeCache10];
      expect(unit.ops).toEqual([ScsiOp.Write10, ...rest]);
    }
  });

  test.each([
    ['NAA', '0103 0008 3000000000000001 0102 0008 1111111111111111', 'naa:3000000000000001'],
    ['EUI-64', '0201 0004 41424344 0102 0008 1111111111111111', 'eui:1111111111111111'],
    ['T10', '0201 0004 41424344 5194 0004 00000001', 't10:ABCD'],
    ['the serial number', '5193 0008 3000000000000001', 'serial:V:P:S1'],
  ])('knows the unit by %s, of those that are of the unit itself (I04)', async (_, page, wwid) => {
    const { attach } = await disk((u) => {
      u.pages.set(0x83, hex(page));
      u.pages.set(0x80, Buffer.from('S1'));
    });
    expect((await attach()).identity.wwid).toBe(wwid);
  });

  test('without any page knows the unit by its place', async () => {
    const { attach } = await disk((u) => {
      u.naa = null;
    });
    expect((await attach()).identity.wwid).toBe('place:iqn.2026-11.lab:disk1:0001000000000000');
  });

  test('a page that is longer than asked for is asked for in full (I03)', async () => {
    const { r, attach } = await disk((u) => {
      u.pages.set(
        0x83,
        Buffer.concat([
          Buffer.concat(Array.from({ length: 40 }, () => hex('5194000400000001'))),
          hex('0103 0008 3000000000000009'),
        ]),
      );
    });
    expect((await attach()).identity.wwid).toBe('naa:3000000000000009');
    const asked = r.commands().filter(({ cdb }) => cdb[0] === 0x12 && cdb[2] === 0x83);
    expect(asked.map(({ edtl }) => edtl)).toEqual([255, 4 + 332]);
  });
});

describe('limits', () => {
  const provisioning = hex('00 e4 02 00'); // LBPU, LBPWS, LBPWS10, LBPRZ; thin

  test('of the device are kept to: transfer, UNMAP, WRITE SAME, COMPARE AND WRITE (I07, I11, I12, I14)', async () => {
    const { r, attach } = await disk((u) => {
      u.pages.set(
        0xb0,
        limits({ 4: 0x00080000, 8: 100, 20: 64, 24: 1, 28: 8, 32: 0x80000004, 40: 32 }),
      );
      u.pages.set(0xb2, provisioning);
      u.provisioned = true;
      u.readsZeroes = true;
    });
    const lun = await attach();
    expect(lun.caps).toMatchObject({
      trim: true,
      fastZero: true,
      extents: true,
      compareAndWriteBytes: 8 * 512,
    });
    expect(lun.facts).toMatchObject({
      commandBytes: 100 * 512,
      unmapBlocks: 64,
      unmapGranularityBlocks: 8,
      unmapAlignmentBlock: 4,
      writeSameBlocks: 32,
    });
    const before = r.commands().length;
    // The unit takes no data: what counts is what was asked of it.
    await expect(lun.write(0, Buffer.alloc(250 * 512), 0, NO_DEADLINE)).rejects.toThrow();
    const lengths = r
      .commands()
      .slice(before)
      .map(({ edtl }) => edtl / 512);
    expect(lengths).toEqual([100, 100, 50]);
  });

  test.each([
    ['no descriptors', { 20: 64, 24: 0 }],
    ['no blocks', { 20: 0, 24: 1 }],
  ])('%s in one UNMAP is no UNMAP', async (_, fields) => {
    const { attach } = await disk((u) => {
      u.pages.set(0xb0, limits(fields));
      u.pages.set(0xb2, hex('00 80 02 00'));
    });
    const lun = await attach();
    expect(lun.facts.unmapBlocks).toBe(0);
    expect(lun.caps.trim).toBe(false);
  });

  test.each([
    [true, '04', true],
    [true, '00', false],
    [false, '04', false],
  ])(
    'deallocated blocks are zero only where READ CAPACITY (%s) and the page (%s) agree (I13)',
    async (readsZeroes, bits, zero) => {
      const { attach } = await disk((u) => {
        u.pages.set(0xb2, hex(`00 ${(0xe0 | Number.parseInt(bits, 16)).toString(16)} 02 00`));
        u.readsZeroes = readsZeroes;
      });
      const lun = await attach();
      expect(lun.facts.readsZeroes).toBe(zero);
      expect(lun.caps.fastZero).toBe(zero);
    },
  );

  test('EXTENDED COPY is used where the third-party copy page lists it', async () => {
    const page = (op: string) => hex(`0001 0004 02 ${op} 01 00`.replace('02', '03'));
    for (const [op, known] of [
      ['83', true],
      ['84', false],
    ] as const) {
      const { attach } = await disk((u) => u.pages.set(0x8f, page(op)));
      expect((await attach()).facts.copyDesignator !== null).toBe(known);
    }
  });
});

describe('quirks', () => {
  test('an istgt gets commands that fit its buffer, since it states no limit', async () => {
    const { attach } = await disk((u) => {
      u.vendor = 'FreeBSD';
      u.product = 'iSCSI DISK';
    });
    expect((await attach()).facts.commandBytes).toBe(1 << 20);
    expect((await attach('standard')).facts.commandBytes).toBe(4 << 20);
  });

  test('a tgt offers no COMPARE AND WRITE, whatever its page says', async () => {
    const { attach } = await disk((u) => {
      u.vendor = 'IET';
      u.product = 'VIRTUAL-DISK';
      u.revision = '0001';
      u.pages.set(0xb0, limits({ 4: 0x00800000 }));
    });
    expect((await attach()).caps.compareAndWriteBytes).toBe(0);
    expect((await attach('standard')).caps.compareAndWriteBytes).toBe(128 * 512);
  });
});

test.each([
  ['IET', 'VIRTUAL-DISK', '0', true],
  ['IET', 'VIRTUAL-DISK', '0001', false],
  ['EQLOGIC', '100E-00', '4.3', false],
  ['V', 'P', '1', false],
])('%s %s %s wants no data for aborted writes: %s', async (vendor, product, revision, stops) => {
  const { r, attach } = await disk((u) => Object.assign(u, { vendor, product, revision }));
  await attach();
  expect(r.session.stopDataOnAbort).toBe(stops);
});

test('a connection of LIO that is logged out may carry commands out still, and its sessions take time to end', async () => {
  const { r, attach } = await disk((u) => Object.assign(u, { vendor: 'LIO-ORG' }));
  await attach('standard');
  expect(r.session).toMatchObject({ logoutEndsCommands: true, reopenMs: 0 });
  await attach();
  expect(r.session).toMatchObject({ logoutEndsCommands: false, reopenMs: 2000 });
});

describe('a unit with access states', () => {
  test.each([
    [0, AccessState.Optimized],
    [1, AccessState.NonOptimized],
    [2, AccessState.Standby],
    [3, AccessState.Unavailable],
    [4, AccessState.LbaDependent],
    [0xe, AccessState.Offline],
    [0xf, AccessState.Transitioning],
  ])('state %i at login is %s', async (aluaState, state) => {
    const { attach } = await disk((u) => {
      u.tpgs = 1;
      u.aluaState = aluaState;
    });
    expect((await attach()).access).toEqual({ state, preferred: false, group: 7 });
  });

  test('is attached over a port in standby, which says so to TEST UNIT READY', async () => {
    const { attach } = await disk((u) => {
      u.tpgs = 3;
      u.aluaState = 2;
      u.senses = [buildSense(2, 4, 0x0b)];
    });
    expect((await attach()).access.state).toBe(AccessState.Standby);
  });

  test.each([
    [3, 0x0c, AccessState.Unavailable],
    [0xe, 0x12, AccessState.Offline],
  ])(
    'that does not tell its size in state %i is attached without where that is allowed, and anew when it serves',
    async (aluaState, ascq, state) => {
      const { r, unit, attach, attachUnsized } = await disk((u) => {
        u.tpgs = 1;
        u.aluaState = aluaState;
        u.closed = buildSense(2, 4, ascq);
      });
      await expect(attach()).rejects.toMatchObject({ code: 'SCSI_PATH_STANDBY' });
      const lun = await attachUnsized();
      expect(lun.caps.sizeBytes).toBe(0);
      expect(lun.access.state).toBe(state);
      expect(lun.identity.wwid).toBe('naa:3000000000000001');
      unit.aluaState = 1;
      unit.closed = null;
      await lun.probe(NO_DEADLINE).catch(() => {});
      expect(r.session.cause).toMatchObject({ code: 'SCSI_PATH_STANDBY' });
    },
  );

  test('that has not told its size takes no I/O, and no flush over it says anything', async () => {
    const { r, unit, attachUnsized } = await disk((u) => {
      u.tpgs = 1;
      u.aluaState = 3;
      u.closed = buildSense(2, 4, 0x0c);
    });
    const lun = await attachUnsized();
    unit.ops.length = 0;
    const block = Buffer.alloc(512);
    for (const io of [
      lun.read(0, block, NO_DEADLINE),
      lun.write(0, block, 0, NO_DEADLINE),
      lun.flush(NO_DEADLINE),
      lun.trim(0, 512, 0, NO_DEADLINE),
      lun.writeZeroes(0, 512, 0, NO_DEADLINE),
      lun.extents(0, 512, NO_DEADLINE),
      lun.compareAndWrite(0, block, block, NO_DEADLINE),
      lun.copyTo(lun, 0, 512, 512, NO_DEADLINE),
    ]) {
      await expect(io).rejects.toMatchObject({
        code: 'SCSI_PATH_STANDBY',
        outcome: 'not-executed',
      });
    }
    expect(unit.ops).toEqual([]);
    expect(r.session.cause).toBeNull();
  });

  test.each([
    ['its capacity has changed', buildSense(6, 0x2a, 9)],
    ['its medium may have changed', buildSense(6, 0x28, 0)],
    ['its mode parameters have changed', buildSense(6, 0x2a, 1)],
  ])(
    'that says, as its port opens, that %s is attached anew before anybody hears that it serves',
    async (_, sense) => {
      const { r, unit, attachUnsized } = await disk((u) => {
        u.tpgs = 1;
        u.aluaState = 3;
        u.closed = buildSense(2, 4, 0x0c);
      });
      const lun = await attachUnsized();
      const heard: unknown[] = [];
      lun.onUnitAttention(({ access, sizeBytes }) => heard.push(access ?? sizeBytes));
      unit.closed = null;
      unit.aluaState = 0;
      void lun.notice(parseSense(sense)!);
      await settle();
      expect(lun.caps.sizeBytes).toBe(0);
      await lun.probe(NO_DEADLINE).catch(() => {});
      expect(r.session.cause).toMatchObject({ code: 'SCSI_PATH_STANDBY' });
      expect(lun.caps.sizeBytes).toBe(0);
      expect(heard.filter((what) => what !== undefined)).toEqual([]);
    },
  );

  test('that does not tell its size in a state that serves is not attached', async () => {
    const { attachUnsized } = await disk((u) => {
      u.tpgs = 1;
      u.closed = buildSense(2, 4, 0x0c);
    });
    await expect(attachUnsized()).rejects.toMatchObject({ code: 'SCSI_PATH_STANDBY' });
  });

  test('that it claims and does not know counts as one without', async () => {
    const { unit, attach } = await disk((u) => {
      u.tpgs = 1;
      u.falseGroups = true;
    });
    const lun = await attach();
    expect(lun.access.state).toBe(AccessState.Any);
    unit.ops.length = 0;
    await lun.probe(NO_DEADLINE);
    expect(unit.ops).toEqual([ScsiOp.TestUnitReady]);
  });

  test('that it does not claim are not asked for', async () => {
    const { unit, attach } = await disk();
    expect((await attach()).access.state).toBe(AccessState.Any);
    expect(unit.ops).not.toContain(ScsiOp.MaintenanceIn);
  });
});
