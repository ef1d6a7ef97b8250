import { describe, expect, test, vi } from 'vitest';
import { NO_DEADLINE, WriteFlag } from '#block/device.ts';
import type { KeyValue } from '#bus/bus.ts';
import { loadConfig } from '#config/load.ts';
import type { ClaimReply, ClaimRequest } from '#contracts/messages.ts';
import { RECORD_VERSION } from '#contracts/records.ts';
import { errorText } from '#core/errors.ts';
import { seededRng } from '#core/rng.ts';
import type { IscsiLun } from '#iscsi/lun.ts';
import { Opcode, RESERVED_TAG } from '#iscsi/pdu/opcodes.ts';
import { type FakeTarget, settle } from '#iscsi/testing/fake-target.ts';
import { FakeUnit } from '#iscsi/testing/fake-unit.ts';
import { FakeWires } from '#iscsi/testing/fake-wires.ts';
import { ScsiOp } from '#scsi/opcodes.ts';
import { buildSense } from '#scsi/sense.ts';
import { TARGET_NAME, targetFixture } from '#testkit/target-fixture.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { sharedPool } from '#wire/buffer-pool.ts';
import { formatAddress } from '#wire/network.ts';
import { SlotTable } from './slot-table.ts';
import { TargetLogins } from './target-logins.ts';

const LUN = '0000000000000000';
const MOVED_FOR_GOOD = 2;
const MOVED_FOR_NOW = 1;

function recordOf(portal: string, incarnation: number) {
  return {
    v: RECORD_VERSION,
    name: 'vol1',
    lun: LUN,
    owner: 'g0',
    ownerIncarnation: 'x',
    epoch: 1,
    state: 'active',
    wwid: '',
    target: TARGET_NAME,
    slots: [{ slot: 0, portal, worker: 'w0', incarnation, tpgt: -1, state: 'fencing' }],
  };
}

function claimOf(portal: string, incarnation: number, clock: VirtualClock): ClaimRequest {
  return {
    volume: 'vol1',
    epoch: 1,
    slot: 0,
    incarnation,
    target: TARGET_NAME,
    portals: [portal],
    lun: LUN,
    timeoutMs: 5000,
    expiresWallMs: clock.wallMs() + 5000,
  };
}

/** A worker with a target in memory, whose records say yes to every claim. */
async function rig() {
  const fixture = await targetFixture();
  const { clock } = fixture;
  const network = fixture.network.host('initiator');
  const [home, other] = fixture.target.addresses.map(formatAddress) as [string, string];
  const text = `[[targets]]\nname = "${TARGET_NAME}"\nportals = ["${home}"]`;
  const { config } = loadConfig({ file: 'f', readFile: () => text, hostname: 'h' });
  let incarnation = 0;
  const kv = { get: async () => ({ key: '', revision: 1, value: recordOf(home, incarnation) }) };
  const table = new SlotTable({
    worker: 'w0',
    workerIncarnation: 'x',
    cluster: 'test',
    logins: new TargetLogins({ config, network, env: {} }),
    sessionsMax: 4,
    connectTimeoutMs: 1000,
    clock,
    rng: seededRng(1),
    pool: sharedPool,
    records: async () => kv as unknown as KeyValue,
    onSessionLost: () => {},
  });
  const claim = async (): Promise<ClaimReply> => {
    incarnation += 1;
    let reply: ClaimReply | Error | null = null;
    table.claim(claimOf(home, incarnation, clock)).then(
      (value) => {
        reply = value;
      },
      (error: Error) => {
        reply = error;
      },
    );
    await clock.runUntil(() => reply !== null, 10_000);
    if ((reply as unknown) instanceof Error) throw reply as unknown as Error;
    return reply as unknown as ClaimReply;
  };
  const reached = (): string => table.sessions(clock.nowMs())[0]!.portal;
  const redirect = (statusDetail: number): void => {
    const targetAddress = fixture.target.addresses[1]!;
    const refusal = { statusClass: 1, statusDetail, targetAddress };
    fixture.target.faults.refuseLogin(refusal, { count: 1 });
  };
  return { table, home, other, claim, reached, redirect };
}

test('a path that is redirected is still that of its portal, and begins there the next time', async () => {
  const { home, other, claim, reached, redirect } = await rig();
  expect(await claim()).toMatchObject({ portal: home, tpgt: 1 });
  redirect(MOVED_FOR_NOW);
  expect(await claim()).toMatchObject({ portal: home, tpgt: 2 });
  expect(reached()).toBe(other);
  expect(await claim()).toMatchObject({ portal: home, tpgt: 1 });
  expect(reached()).toBe(home);
});

test('a portal that has moved for good is left out from then on', async () => {
  const { home, other, claim, reached, redirect } = await rig();
  redirect(MOVED_FOR_GOOD);
  for (let round = 0; round < 2; round++) {
    expect(await claim()).toMatchObject({ portal: home, tpgt: 2 });
    expect(reached()).toBe(other);
  }
});

describe('a connection of a session that comes back', () => {
  /** A held slot whose session has two connections, and a store of records that can be away, or say something else. */
  async function held() {
    const clock = new VirtualClock();
    const net = new FakeWires();
    net.setUp = (wire) => {
      wire.wants = { ...wire.wants, MaxConnections: 2, ErrorRecoveryLevel: 1 };
      const unit = new FakeUnit(wire);
      wire.onPdu = ({ pdu }) => {
        if (pdu.opcode === Opcode.ScsiCommand) unit.answer(pdu);
        if (pdu.opcode === Opcode.NopOut && pdu.itt !== RESERVED_TAG) {
          const { lun, itt } = pdu;
          wire.send({ opcode: Opcode.NopIn, lun, itt, ttt: RESERVED_TAG, ...wire.numbers(true) });
        }
        if (pdu.opcode !== Opcode.LogoutRequest) return;
        wire.send({
          opcode: Opcode.LogoutResponse,
          response: 0,
          itt: pdu.itt,
          ...wire.numbers(true),
          time2Wait: 0,
          time2Retain: 0,
        });
      };
    };
    const text = `[[targets]]\nname = "${TARGET_NAME}"\nportals = ["fake:3260"]\nconnections = 2\nerror_recovery_level = 1`;
    const { config } = loadConfig({ file: 'f', readFile: () => text, hostname: 'h' });
    const store = { isAway: false, incarnation: 1 };
    const lost: string[] = [];
    const events: string[] = [];
    const table = new SlotTable({
      worker: 'w0',
      workerIncarnation: 'x',
      cluster: 'test',
      logins: new TargetLogins({ config, network: net, env: {} }),
      sessionsMax: 4,
      connectTimeoutMs: 1000,
      clock,
      rng: seededRng(1),
      pool: sharedPool,
      records: async () => {
        if (store.isAway) throw new Error('the bus is away');
        const value = recordOf('fake:3260', store.incarnation);
        return { get: async () => ({ key: '', revision: 1, value }) } as unknown as KeyValue;
      },
      onSessionOpened: (session, { volume, slot }) =>
        session.onEvent((event) => {
          if (event.kind !== 'connection') return;
          events.push(`${volume} ${slot}: ${event.cid} ${event.reason === null ? 'up' : 'down'}`);
        }),
      onSessionLost: (_held, cause) => lost.push(errorText(cause)),
    });
    await table.claim(claimOf('fake:3260', 1, clock));
    const states = () =>
      table
        .sessions(clock.nowMs())
        .flatMap(({ connections }) => connections.map(({ cid, state }) => `${cid} ${state}`));
    await clock.runUntil(() => states().join() === '0 LOGGED_IN,1 LOGGED_IN', 1000);
    return { clock, net, store, table, lost, events, states };
  }

  test('asks the record again, and waits while that cannot be read', async () => {
    const { clock, net, store, lost, states } = await held();
    store.isAway = true;
    net.wires[1]!.close();
    await clock.advance(5_000);
    expect(net.wires).toHaveLength(2);
    expect(states()[0]).toBe('0 LOGGED_IN');
    store.isAway = false;
    await clock.advance(5_000);
    expect(states()).toEqual(['0 LOGGED_IN', '1 LOGGED_IN']);
    expect(lost).toEqual([]);
  });

  test('is told of from the first of them on', async () => {
    const { clock, net, events } = await held();
    expect(events).toEqual(['vol1 0: 1 up']);
    net.wires[1]!.close();
    await clock.advance(5_000);
    expect(events).toEqual(['vol1 0: 1 up', 'vol1 0: 1 down', 'vol1 0: 1 up']);
  });

  test('ends the session when somebody else has the slot by then', async () => {
    const { clock, net, store, lost, table } = await held();
    store.incarnation = 2;
    net.wires[1]!.close();
    await clock.advance(5_000);
    expect(net.wires).toHaveLength(2);
    expect(table.heldCount).toBe(0);
    expect(lost).toEqual([expect.stringContaining('somebody else may have its place')]);
  });
});

/** A held slot on a disk of few words, which answers the next change as the test likes. */
async function heldUnit() {
  const clock = new VirtualClock();
  const net = new FakeWires();
  let unit!: FakeUnit;
  const late: (() => void)[] = [];
  const fate = { isLate: false };
  net.setUp = (wire) => {
    unit = new FakeUnit(wire);
    unit.provisioned = true;
    unit.readsZeroes = true;
    wire.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.TaskManagementRequest) {
        const { itt } = pdu;
        const done = { opcode: Opcode.TaskManagementResponse, response: 0, itt } as const;
        wire.send({ ...done, ...wire.numbers(true) });
      }
      if (pdu.opcode !== Opcode.ScsiCommand) return;
      const isChange = pdu.cdb[0] === ScsiOp.WriteSame16 || pdu.cdb[0] === ScsiOp.Unmap;
      if (fate.isLate && isChange) late.push(() => unit.answer(pdu));
      else unit.answer(pdu);
    };
  };
  const text = `[[targets]]\nname = "${TARGET_NAME}"\nportals = ["fake:3260"]`;
  const { config } = loadConfig({ file: 'f', readFile: () => text, hostname: 'h' });
  const value = recordOf('fake:3260', 1);
  const table = new SlotTable({
    worker: 'w0',
    workerIncarnation: 'x',
    cluster: 'test',
    logins: new TargetLogins({ config, network: net, env: {} }),
    sessionsMax: 4,
    connectTimeoutMs: 1000,
    clock,
    rng: seededRng(1),
    pool: sharedPool,
    records: async () =>
      ({ get: async () => ({ key: '', revision: 1, value }) }) as unknown as KeyValue,
    onSessionLost: () => {},
  });
  const { handle } = await table.claim(claimOf('fake:3260', 1, clock));
  const lun = table.open(handle, 1, 1) as IscsiLun;
  const changes = (): number =>
    unit.ops.filter((op) => op === ScsiOp.WriteSame16 || op === ScsiOp.Unmap).length;
  const seal = async () => {
    const sealed = table.seal({ volume: 'vol1', epoch: 2, timeoutMs: 1000 });
    await clock.advance(500);
    return sealed;
  };
  return { clock, table, lun, unit, late, fate, changes, seal };
}

describe('a change of several commands, or of several tries', () => {
  test('is not tried again when its epoch was sealed while the target was busy', async () => {
    const { clock, lun, unit, changes, seal } = await heldUnit();
    for (let i = 0; i < 8; i++) unit.senses.push(buildSense(2, 4, 1));
    const zeroes = lun.writeZeroes(0, 4096, 0, NO_DEADLINE).catch((error) => error);
    await clock.advance(100);
    const sent = changes();
    expect(sent).toBeGreaterThan(1);
    expect(await seal()).toMatchObject({ inflight: 0, slots: [{ slot: 0 }] });
    await clock.advance(10_000);
    expect(changes()).toBe(sent);
    expect(await zeroes).toMatchObject({ code: 'LINK_EPOCH_STALE', outcome: 'terminated' });
  });

  test('does not go on with its next command when its epoch was sealed during one', async () => {
    const { clock, lun, late, fate, changes, seal } = await heldUnit();
    fate.isLate = true;
    const bytes = 64 * 1024 * 1024;
    const zeroes = lun.writeZeroes(0, bytes, 0, NO_DEADLINE).catch((error) => error);
    await clock.advance(1);
    const sealing = seal();
    late.shift()!();
    expect(await sealing).toMatchObject({ inflight: 0 });
    await clock.advance(10_000);
    expect([changes(), late.length]).toEqual([1, 0]);
    expect(await zeroes).toMatchObject({ code: 'LINK_EPOCH_STALE' });
  });
});

describe('the flush of a seal', () => {
  const vouched = { slots: [{ flushed: true }] };
  const doubted = { slots: [{ flushed: false }] };
  const order = { volume: 'vol1', epoch: 1, slot: 0, incarnation: 1 };

  test('vouches for the cache of the target', async () => {
    const { seal } = await heldUnit();
    expect(await seal()).toMatchObject(vouched);
  });

  test('does not when it hears of a reset, and does not when it is repeated', async () => {
    const { unit, seal } = await heldUnit();
    unit.senses.push(buildSense(6, 0x29, 1));
    expect(await seal()).toMatchObject(doubted);
    expect(await seal()).toMatchObject(doubted);
  });

  test('does not when a reset was told before, unless the owner has ordered a flush since', async () => {
    const { lun, unit, seal } = await heldUnit();
    const { table, lun: other, unit: otherUnit } = await heldUnit();
    for (const one of [unit, otherUnit]) one.senses.push(buildSense(6, 0x29, 1));
    await lun.probe(NO_DEADLINE);
    expect(await seal()).toMatchObject(doubted);
    await other.probe(NO_DEADLINE);
    await other.flush(NO_DEADLINE);
    const sealed = await table.seal({ volume: 'vol1', epoch: 2, timeoutMs: 1000 });
    expect(sealed).toMatchObject(vouched);
  });

  test.each([
    ['over this session', (table: SlotTable) => table.reset({ ...order, timeoutMs: 1000 })],
    ['over another one', async (table: SlotTable) => table.afterReset(order)],
  ])('does when the reset was that of the owner, %s', async (_, reset) => {
    const { table, unit, seal } = await heldUnit();
    await reset(table);
    unit.senses.push(buildSense(6, 0x29, 0));
    expect(await seal()).toMatchObject(vouched);
  });

  test('does not when a reset comes after the echo of ours', async () => {
    const { table, lun, unit, seal } = await heldUnit();
    table.afterReset(order);
    unit.senses.push(buildSense(6, 0x29, 0));
    await lun.probe(NO_DEADLINE);
    unit.senses.push(buildSense(6, 0x29, 1));
    expect(await seal()).toMatchObject(doubted);
  });

  test('does not when the only flush since was that of a FUA zeroing: no client is told of it', async () => {
    const { clock, lun, unit, seal } = await heldUnit();
    unit.senses.push(buildSense(6, 0x29, 1));
    const zeroes = lun.writeZeroes(0, 4096, WriteFlag.Fua, NO_DEADLINE);
    await clock.advance(100);
    await zeroes;
    expect(unit.ops.at(-1)).toBe(ScsiOp.SynchronizeCache10);
    expect(await seal()).toMatchObject(doubted);
  });
});

test('a seal ends a session that is recovering, instead of waiting for it', async () => {
  const { claim, table } = await rig();
  const { handle } = await claim();
  const { session } = table.open(handle, 1, 1) as IscsiLun;
  vi.spyOn(session, 'recovering', 'get').mockReturnValue(true);
  const reply = await table.seal({ volume: 'vol1', epoch: 2, timeoutMs: 1000 });
  expect(session.cause).toMatchObject({ code: 'LINK_EPOCH_STALE' });
  expect(reply).toMatchObject({ slots: [], inflight: 0 });
});

describe('a target that ends a session and names a time to wait (§11.9.1)', () => {
  async function ended(parameter2: number, setUp: (wire: FakeTarget, index: number) => void) {
    const clock = new VirtualClock();
    const net = new FakeWires();
    net.setUp = (wire, index) => {
      const unit = new FakeUnit(wire);
      wire.onPdu = ({ pdu }) => {
        if (pdu.opcode === Opcode.ScsiCommand) unit.answer(pdu);
      };
      setUp(wire, index);
    };
    const text = `[[targets]]\nname = "${TARGET_NAME}"\nportals = ["fake:3260"]`;
    const { config } = loadConfig({ file: 'f', readFile: () => text, hostname: 'h' });
    let incarnation = 0;
    const kv = {
      get: async () => ({ key: '', revision: 1, value: recordOf('fake:3260', incarnation) }),
    };
    const table = new SlotTable({
      worker: 'w0',
      workerIncarnation: 'x',
      cluster: 'test',
      logins: new TargetLogins({ config, network: net, env: {} }),
      sessionsMax: 4,
      connectTimeoutMs: 1000,
      clock,
      rng: seededRng(1),
      pool: sharedPool,
      records: async () => kv as unknown as KeyValue,
      onSessionLost: () => {},
    });
    const claim = (): Promise<ClaimReply> => {
      incarnation += 1;
      return table.claim(claimOf('fake:3260', incarnation, clock));
    };
    const drop = (wire: FakeTarget, event: number): void => {
      const numbers = wire.numbers(true);
      const parameters = { parameter1: 0, parameter2, parameter3: 0 };
      const { AsyncMessage: opcode } = Opcode;
      wire.send({ opcode, lun: Buffer.alloc(8), ...numbers, event, vendorCode: 0, ...parameters });
    };
    return { clock, net, table, claim, drop };
  }

  test.each([
    [2, 5, 5000],
    [3, 5, 5000],
    [3, 3600, 30_000],
  ])(
    'by event %i with %i s gets no login of that slot for %i ms',
    async (event, seconds, waitMs) => {
      const { clock, net, table, claim, drop } = await ended(seconds, () => {});
      await claim();
      drop(net.wires[0]!, event);
      await settle();
      expect(table.heldCount).toBe(0);
      await clock.advance(1000);
      await expect(claim()).rejects.toMatchObject({
        code: 'WORKER_TARGET_WAITS',
        outcome: 'not-executed',
        fields: { waitMs: waitMs - 1000 },
      });
      await clock.advance(waitMs - 1001);
      await expect(claim()).rejects.toMatchObject({ fields: { waitMs: 1 } });
      expect(net.wires).toHaveLength(1);
      await clock.advance(1);
      expect(await claim()).toMatchObject({ portal: 'fake:3260' });
    },
  );

  test('while the unit is still being looked at gets none either', async () => {
    const { clock, net, claim, drop } = await ended(5, (wire, index) => {
      if (index > 0) return;
      wire.onPdu = ({ pdu }) => {
        if (pdu.opcode === Opcode.ScsiCommand) drop(wire, 3);
      };
    });
    await expect(claim()).rejects.toThrow();
    await expect(claim()).rejects.toMatchObject({ code: 'WORKER_TARGET_WAITS' });
    await clock.advance(5000);
    await claim();
    expect(net.wires).toHaveLength(2);
  });

  test('is logged in to again at once when the connection ends without a word', async () => {
    const { net, table, claim } = await ended(5, () => {});
    await claim();
    net.wires[0]!.close();
    await settle();
    expect(table.heldCount).toBe(0);
    await claim();
    expect(net.wires).toHaveLength(2);
  });
});
