import { expect, test } from 'vitest';
import type { KeyValue } from '#bus/bus.ts';
import { loadConfig } from '#config/load.ts';
import type { ClaimReply, ClaimRequest } from '#contracts/messages.ts';
import { RECORD_VERSION } from '#contracts/records.ts';
import { seededRng } from '#core/rng.ts';
import { TARGET_NAME, targetFixture } from '#testkit/target-fixture.ts';
import { sharedPool } from '#wire/buffer-pool.ts';
import { formatAddress } from '#wire/network.ts';
import { SlotTable } from './slot-table.ts';
import { TargetLogins } from './target-logins.ts';

const LUN = '0000000000000000';
const MOVED_FOR_GOOD = 2;
const MOVED_FOR_NOW = 1;

/** A worker with a target in memory, whose records say yes to every claim. */
async function rig() {
  const fixture = await targetFixture();
  const { clock } = fixture;
  const network = fixture.network.host('initiator');
  const [home, other] = fixture.target.addresses.map(formatAddress) as [string, string];
  const text = `[[targets]]\nname = "${TARGET_NAME}"\nportals = ["${home}"]`;
  const { config } = loadConfig({ file: 'f', readFile: () => text, hostname: 'h' });
  let incarnation = 0;
  const record = () => ({
    v: RECORD_VERSION,
    name: 'vol1',
    lun: LUN,
    owner: 'g0',
    ownerIncarnation: 'x',
    epoch: 1,
    state: 'active',
    wwid: '',
    target: TARGET_NAME,
    slots: [{ slot: 0, portal: home, worker: 'w0', incarnation, tpgt: -1, state: 'fencing' }],
  });
  const kv = { get: async () => ({ key: '', revision: 1, value: record() }) };
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
    const request: ClaimRequest = {
      volume: 'vol1',
      epoch: 1,
      slot: 0,
      incarnation,
      target: TARGET_NAME,
      portals: [home],
      lun: LUN,
      timeoutMs: 5000,
      expiresWallMs: clock.wallMs() + 5000,
    };
    let reply: ClaimReply | Error | null = null;
    table.claim(request).then(
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
  return { home, other, claim, reached, redirect };
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
