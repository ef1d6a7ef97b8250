import { createServer, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PathStatus } from '#contracts/messages.ts';
import { systemClock } from '#core/clock.ts';
import { systemRng } from '#core/rng.ts';
import { Opcode } from '#iscsi/pdu/opcodes.ts';
import { NbdClient } from '#nbd/client.ts';
import type { Fault } from '#target/faults.ts';
import { startTarget, type Target } from '#target/target.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { freePort } from '#testkit/ports.ts';
import { rssBytes } from '#testkit/proc-stat.ts';
import { waitFor } from '#testkit/wait.ts';
import { formatAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { StallMeter } from './stall-meter.ts';

/**
 * What a user sees when a target misbehaves: the node stays up, the other path and the other volumes go on, log and
 * status say what is wrong with what and where, and the path comes back by itself.
 */

const MIB = 1024 * 1024;
const SIZE_BYTES = 16 * MIB;
const BLOCK_BYTES = 4096;
const TARGET_NAME = 'iqn.2026-11.test:faulty';
const NO_LUN_NAME = 'iqn.2026-11.test:nolun';
/** The portal that misbehaves. */
const BAD = 1;
const RECOVERY_MS = 60_000;
const RSS_GROWTH_MAX = 200 * MIB;

let target: Target;
/** Of its own for the volume without a LUN, which logs in again and again: faults are not to hit its sessions. */
let noLunTarget: Target;
let orion: Orion;
let web: Server;
let webPort: number;
let closedPort: number;
let firstRss: number;

function volumeToml(name: string, targetName: string, portal: string, lun = 1): string {
  return `[[targets]]
name = "${targetName}"
portals = ["${portal}"]
[[volumes]]
name = "${name}"
target = "${targetName}"
lun = ${lun}
`;
}

async function listenWeb(): Promise<void> {
  // Something that is no iSCSI target: it answers whatever it is sent in its own language.
  web = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'.padEnd(200, '\r\n')));
  });
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  webPort = (web.address() as { port: number }).port;
}

beforeAll(async () => {
  const anyPort = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const;
  const common = {
    ...{ network: nodeNetwork, clock: systemClock, rng: systemRng },
    luns: [{ lun: 1, sizeBytes: SIZE_BYTES }],
  };
  target = await startTarget({
    ...common,
    targetName: TARGET_NAME,
    portals: [{ address: anyPort }, { address: anyPort }],
  });
  noLunTarget = await startTarget({
    ...common,
    targetName: NO_LUN_NAME,
    portals: [{ address: anyPort }],
  });
  await listenWeb();
  closedPort = await freePort();
  const good = formatAddress(target.addresses[0]!);
  orion = await startOrion({
    portals: target.addresses.map(formatAddress),
    targetName: TARGET_NAME,
    embedded: true,
    volume: 'policy = "round-robin"',
    extra: [
      volumeToml('nolun', NO_LUN_NAME, formatAddress(noLunTarget.addresses[0]!), 9),
      volumeToml('noname', 'iqn.2026-11.test:nonesuch', good),
      volumeToml('down', 'iqn.2026-11.test:down', `127.0.0.1:${closedPort}`),
      volumeToml('web', 'iqn.2026-11.test:web', `127.0.0.1:${webPort}`),
      '[iscsi]\nsession_timeout = 1500',
    ].join('\n'),
  });
  await bothReady();
  firstRss = rssBytes(orion.process.pid);
});

afterAll(async () => {
  const exit = await orion?.stop();
  await target?.close();
  await noLunTarget?.close();
  web?.close();
  expect(exit).toEqual({ code: 0, signal: null });
});

async function paths(): Promise<PathStatus[]> {
  const response = await fetch(`${orion.http}/paths`);
  return ((await response.json()) as { paths: PathStatus[] }).paths;
}

async function badPath(): Promise<PathStatus> {
  return (await paths()).find(({ slot }) => slot === BAD)!;
}

function bothReady(): Promise<true> {
  const inPlace = (path: PathStatus): boolean =>
    path.state === 'ready' && path.portal === formatAddress(target.addresses[path.slot]!);
  return waitFor('both paths', async () => (await paths()).every(inPlace) || null, RECOVERY_MS);
}

function connect(): Promise<NbdClient> {
  const address = { kind: 'unix', path: orion.socket } as const;
  return NbdClient.connect({ network: nodeNetwork, address, exportName: 'vol1' });
}

/** Reads until the connection over the bad portal, which is to be cut, has been used. Reads leave nothing to fence. */
async function loseBadPath(): Promise<void> {
  const client = await connect();
  const { ScsiCommand } = Opcode;
  const cut = target.faults.cut({ direction: 'received', opcode: ScsiCommand, portal: BAD });
  await waitFor('the path is lost', async () => {
    await client.read(0, BLOCK_BYTES);
    // Not by its state alone: the path may be back before anybody looks.
    return cut.hits > 0 || (await badPath()).state !== 'ready';
  });
  cut.remove();
  await client.disconnect();
}

/** The volume takes writes and gives them back. */
async function worksMeanwhile(): Promise<void> {
  const client = await connect();
  for (let i = 0; i < 32; i++) {
    const block = Buffer.alloc(BLOCK_BYTES, i + 1);
    await client.write(i * BLOCK_BYTES, block);
    expect((await client.read(i * BLOCK_BYTES, BLOCK_BYTES)).equals(block)).toBe(true);
  }
  await client.disconnect();
}

/** Lines of the log, as objects. */
function log(): Record<string, unknown>[] {
  return orion.process
    .stderr()
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line));
}

/** What the log says of a volume that cannot come up. */
function warned(volume: string, code: string): string | null {
  const found = log().find(
    (line) => line.volume === volume && typeof line.err === 'string' && line.err.startsWith(code),
  );
  return found === undefined ? null : String(found.err);
}

interface Refusal {
  readonly what: string;
  readonly arm: () => Fault;
  readonly code: string;
  /** In the message, and in the hint. */
  readonly says: readonly [RegExp, RegExp];
}

const onBadPortal = { portal: BAD, count: Number.POSITIVE_INFINITY };
const corruptLogin = (kind: 'garbage' | 'oversized' | 'truncated' | 'unknown-opcode') => () =>
  target.faults.corrupt(kind, { opcode: Opcode.LoginResponse, ...onBadPortal });

const REFUSALS: readonly Refusal[] = [
  {
    what: 'refuses the login for want of authentication',
    arm: () => target.faults.refuseLogin({ statusClass: 2, statusDetail: 1 }, { portal: BAD }),
    code: 'ISCSI_LOGIN_REFUSED',
    says: [/authentication failure/, /Check the CHAP names and secrets/],
  },
  {
    what: 'does not know the target name any more',
    arm: () => target.faults.refuseLogin({ statusClass: 2, statusDetail: 3 }, { portal: BAD }),
    code: 'ISCSI_LOGIN_REFUSED',
    says: [/target not found/, /Check the target name/],
  },
  {
    what: 'is out of resources',
    arm: () => target.faults.refuseLogin({ statusClass: 3, statusDetail: 2 }, { portal: BAD }),
    code: 'ISCSI_LOGIN_REFUSED',
    says: [/out of resources/, /may work later/],
  },
  {
    what: 'closes the connection in the login',
    arm: () => target.faults.closeMidLogin({ portal: BAD }),
    code: 'ISCSI_LOGIN_FAILED',
    says: [/the connection.*, during the login/, /look at the log of the target/],
  },
  {
    what: 'answers the login with garbage',
    arm: corruptLogin('garbage'),
    code: 'ISCSI_',
    says: [/login/, /\. \w/],
  },
  {
    what: 'answers the login with a PDU of 16 MiB',
    arm: corruptLogin('oversized'),
    code: 'ISCSI_',
    says: [/segment|bytes/, /\. \w/],
  },
  {
    what: 'answers the login with half a PDU',
    arm: corruptLogin('truncated'),
    code: 'ISCSI_LOGIN_FAILED',
    says: [/in the middle of a PDU/, /\. \w/],
  },
  {
    what: 'answers the login with a PDU that does not exist',
    arm: corruptLogin('unknown-opcode'),
    code: 'ISCSI_',
    says: [/opcode|unknown|0x/i, /\. \w/],
  },
  {
    what: 'takes the connection and says nothing',
    arm: () => target.faults.silent({ portal: BAD }),
    code: 'ISCSI_LOGIN_TIMEOUT',
    says: [/did not finish the login in time/, /Check that what listens/],
  },
];

afterEach(async () => {
  target.faults.clear();
  await bothReady();
});

describe('a portal that', () => {
  test.for(REFUSALS)('$what', async ({ arm, code, says }) => {
    const fault = arm();
    await loseBadPath();
    const portal = formatAddress(target.addresses[BAD]!);
    const seen = new Set<string>();
    const { lastError } = await waitFor(
      'the status tells why',
      async () => {
        const path = await badPath();
        seen.add(path.lastError);
        return path.lastError.startsWith(code) && says[0].test(path.lastError) ? path : null;
      },
      RECOVERY_MS,
    ).catch((error) => {
      throw new Error(`the status said only: ${[...seen].join('\n')}`, { cause: error });
    });
    expect(lastError).toContain(`portal=${portal}`);
    expect(lastError).toContain(`target=${TARGET_NAME}`);
    for (const pattern of says) expect(lastError).toMatch(pattern);
    await waitFor('the same in the log', () => log().some(({ err }) => err === lastError));
    await worksMeanwhile();
    fault.remove();
    await bothReady();
    expect((await badPath()).lastError).toBe('');
  });
});

/** Clients write and read without a break while something happens to the bad portal; they must not notice. */
async function unnoticed(arm: () => Fault | null, code: RegExp): Promise<void> {
  const portal = formatAddress(target.addresses[BAD]!);
  const before = log().length;
  const meter = await StallMeter.start(orion.socket, MIB, 'vol1');
  const fault = arm();
  const told = await waitFor('the log tells why', () => {
    const texts = log()
      .slice(before)
      .filter(({ volume, msg }) => volume === 'vol1' && msg === 'path lost')
      .map(({ err }) => String(err));
    // On a machine that stands still the other path may be lost too, by a ping that was not answered in time.
    return texts.find((text) => code.test(text) && text.includes(portal)) ?? null;
  });
  fault?.remove();
  await bothReady();
  const stall = await meter.stop();
  expect(stall.errors).toEqual([]);
  expect(stall.writes).toBeGreaterThan(0);
  expect(told).toContain(`portal=${portal}`);
  expect(told).toContain(`target=${TARGET_NAME}`);
  expect(told).toMatch(/\. \w/);
}

describe('clients do not notice when in the middle of their I/O a portal', () => {
  const once = { portal: BAD, opcode: Opcode.ScsiResponse, count: 1, nth: 20 };
  const CORRUPTIONS = [
    ['garbage', /^ISCSI_(PROTOCOL|CONNECTION_LOST)/],
    ['oversized', /^ISCSI_(PROTOCOL|CONNECTION_LOST)/],
    ['truncated', /^ISCSI_CONNECTION_LOST/],
    ['unknown-opcode', /^ISCSI_(PROTOCOL|CONNECTION_LOST)/],
  ] as const;

  test.for(CORRUPTIONS)('sends %s', async ([kind, code]) => {
    await unnoticed(() => target.faults.corrupt(kind, once), code);
  });

  test('closes the connection', async () => {
    const cut = { direction: 'sent', portal: BAD, opcode: Opcode.DataIn, nth: 10 } as const;
    await unnoticed(() => target.faults.cut(cut), /^ISCSI_CONNECTION_LOST/);
  });

  test('goes silent, and wakes up later', async () => {
    await unnoticed(() => target.faults.silent({ portal: BAD }), /^ISCSI_NOP_TIMEOUT/);
  });
});

describe('a volume that cannot come up', () => {
  const of = (which: () => Target) => (): string[] => which().addresses.map(formatAddress);
  const own = of(() => target);
  const noLun = of(() => noLunTarget);
  const port = (number: () => number) => (): string[] => [`127.0.0.1:${number()}`];
  const closed = port(() => closedPort);
  const notIscsi = port(() => webPort);

  test.for([
    ['nolun', 'SCSI_NO_LUN', NO_LUN_NAME, noLun, /lun=9 .*Check the LUN number/],
    ['noname', 'ISCSI_LOGIN_REFUSED', 'iqn.2026-11.test:nonesuch', own, /Check the target name/],
    ['down', 'ISCSI_CONNECT_FAILED', 'iqn.2026-11.test:down', closed, /Check the address/],
    ['web', 'ISCSI_LOGIN_FAILED', 'iqn.2026-11.test:web', notIscsi, /is an iSCSI target|vendor/],
  ] as const)(
    '%s: log and multipath info name code, target, portal and what to do',
    async ([volume, code, name, portals, hint]) => {
      const text = await waitFor('the log', () => warned(volume, code));
      expect(text).toContain(`target=${name}`);
      expect(portals()).toContain(/portal=([^ )]+)/.exec(text)?.[1]);
      expect(text).toMatch(hint);
      // Each of its paths is tried for itself, and may fail for another reason when time runs out.
      await waitFor('multipath info tells it', async () => {
        const { stdout } = await orion.cli('multipath', 'info', '--json');
        const shown = (JSON.parse(stdout) as { name: string; paths: PathStatus[] }[]).find(
          (one) => one.name === volume,
        );
        return shown?.paths[0]?.lastError.includes(code);
      });
      const http = await fetch(orion.http.replace('vol1', volume));
      expect(http.status).toBe(503);
      expect(await http.json()).toMatchObject({ title: 'The volume is not served yet' });
      await worksMeanwhile();
    },
  );

  test('each reason is one line in the log, however often it is tried', async () => {
    const lines = log().filter(({ volume }) => volume === 'down');
    const texts = lines.map(({ err }) => err).filter((err) => err !== undefined);
    expect(texts.length).toBe(new Set(texts).size);
  });
});

describe('a LUN', () => {
  beforeEach(bothReady);
  afterEach(() => target.faults.changeCapacity(1, SIZE_BYTES));

  test('that shrinks fails what lies behind its end, and nothing else', async () => {
    target.faults.changeCapacity(1, SIZE_BYTES / 2);
    await worksMeanwhile();
    const client = await connect();
    await expect(client.read(SIZE_BYTES - BLOCK_BYTES, BLOCK_BYTES)).rejects.toThrow();
    await client.disconnect();
    await loseBadPath();
    const { lastError } = await waitFor('the status tells why', async () => {
      const path = await badPath();
      return path.lastError.startsWith('MULTIPATH_PATH_DIFFERS') ? path : null;
    });
    expect(lastError).toContain(`sizeBytes=${SIZE_BYTES / 2} expectedBytes=${SIZE_BYTES}`);
    await worksMeanwhile();
  });

  test('that grows is larger for new clients when both paths show it, also over new sessions', async () => {
    const old = await connect();
    target.faults.changeCapacity(1, 2 * SIZE_BYTES);
    await worksMeanwhile();
    await waitFor('a line in the log', () =>
      log().some(({ msg }) => /attention: .*capacity data has changed/i.test(String(msg))),
    );
    await waitFor('the new size', async () => {
      const client = await connect();
      const { sizeBytes } = client.info;
      await client.disconnect();
      return sizeBytes === 2 * SIZE_BYTES;
    });
    expect(old.info.sizeBytes).toBe(SIZE_BYTES);
    await old.disconnect();
    await loseBadPath();
    await bothReady();
    await worksMeanwhile();
  });
});

test('after all of this the node is the same process, and its memory has not grown', async () => {
  expect(orion.process.exit).toBeNull();
  expect(rssBytes(orion.process.pid) - firstRss).toBeLessThan(RSS_GROWTH_MAX);
});
