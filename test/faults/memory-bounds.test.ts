import { get } from 'node:http';
import net from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '#core/clock.ts';
import { NBD_INFLIGHT_BYTES_MAX } from '#core/limits.ts';
import { systemRng } from '#core/rng.ts';
import { NbdCmd } from '#nbd/constants.ts';
import { RawPeer, rawRequest } from '#nbd/rows/raw-peer.ts';
import { startTarget, type Target } from '#target/target.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { rssBytes } from '#testkit/proc-stat.ts';
import { pause, waitFor } from '#testkit/wait.ts';
import { formatAddress, parseAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { StallMeter } from './stall-meter.ts';

/** What strangers can make a whole node hold: not more than the bounds say, while good clients go on. */

const MIB = 1024 * 1024;
const SIZE_BYTES = 64 * MIB;
const READ_BYTES = 256 * 1024;
/** All together 5 GiB of answers. */
const READS = 20_000;
const SAMPLE_MS = 100;
const WATCH_MS = 4_000;
/** Garbage of the runtime, code that is compiled meanwhile, and buffers that are kept for the next time. */
const RUNTIME_BYTES = 192 * MIB;
const IDLE_CONNECTIONS = 200;

let target: Target;
let orion: Orion;
const leave: (() => void)[] = [];

beforeAll(async () => {
  const anyPort = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const;
  target = await startTarget({
    ...{ network: nodeNetwork, clock: systemClock, rng: systemRng },
    targetName: 'iqn.2026-11.test:memory',
    portals: [{ address: anyPort }, { address: anyPort }],
    luns: [{ lun: 1, sizeBytes: SIZE_BYTES }],
  });
  orion = await startOrion({
    portals: target.addresses.map(formatAddress),
    targetName: target.name,
    embedded: true,
  });
});

afterEach(() => {
  for (const fn of leave.splice(0)) fn();
});

afterAll(async () => {
  await orion?.stop();
  await target?.close();
});

/** An NBD client in transmission that does not read from here on. */
async function deafClient(): Promise<RawPeer> {
  const { host, pathname } = new URL(orion.nbdTcp);
  const peer = await RawPeer.connect(parseAddress(host)!);
  leave.push(() => peer.leave());
  await peer.go(pathname.slice(1), true);
  peer.stream.pause();
  return peer;
}

/** Runs a good client while `misuse` is at work, and gives the most that the node's memory grew. */
async function growthDuring(misuse: () => Promise<void>): Promise<number> {
  const { pid } = orion.process;
  const meter = await StallMeter.start(orion.socket, 0);
  await pause(500);
  const before = rssBytes(pid);
  await misuse();
  let most = 0;
  for (let ms = 0; ms < WATCH_MS; ms += SAMPLE_MS) {
    most = Math.max(most, rssBytes(pid) - before);
    await pause(SAMPLE_MS);
  }
  const { writes, errors } = await meter.stop();
  expect(errors).toEqual([]);
  expect(writes).toBeGreaterThan(10);
  expect(orion.process.exit).toBeNull();
  return most;
}

async function metric(name: string): Promise<number> {
  const response = await fetch(new URL('/metrics', orion.http));
  const line = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(await response.text());
  return Number(line?.[1]);
}

function report(what: string, bytes: number): void {
  console.log(`${what}: the node grew by at most ${Math.round(bytes / MIB)} MiB`);
}

describe('the memory of a node stays in its bounds, and a good client goes on, while', () => {
  test('an NBD client sends reads of 5 GiB and never reads the replies', async () => {
    const bytes = await growthDuring(async () => {
      const peer = await deafClient();
      const reads = Array.from({ length: READS }, (_, i) =>
        rawRequest({
          command: NbdCmd.Read,
          offset: (i * READ_BYTES) % SIZE_BYTES,
          length: READ_BYTES,
          cookie: BigInt(i),
        }),
      );
      peer.send(...reads);
    });
    report('a client that never reads', bytes);
    // What it has in flight, and as much again that is answered and not sent.
    expect(bytes).toBeLessThan(2 * NBD_INFLIGHT_BYTES_MAX + RUNTIME_BYTES);
  });

  test('200 NBD and HTTP connections stand idle, half of them in the middle of a handshake', async () => {
    const { host: nbd } = new URL(orion.nbdTcp);
    const { host: http } = new URL(orion.http);
    const bytes = await growthDuring(async () => {
      for (let i = 0; i < IDLE_CONNECTIONS; i++) {
        if (i % 4 === 0) await deafClient();
        const address = parseAddress(i % 2 === 0 ? nbd : http)!;
        if (address.kind !== 'tcp') throw new Error('a TCP address');
        const socket = net.connect(address.port, address.host).on('error', () => {});
        leave.push(() => socket.destroy());
        socket.write(i % 2 === 0 ? '\0\0\0' : 'GET /v1/volumes HTTP/1.1\r\nHost');
      }
    });
    report(`${IDLE_CONNECTIONS} idle connections`, bytes);
    expect(bytes).toBeLessThan(RUNTIME_BYTES);
  });

  test('16 HTTP clients ask for the whole volume and never read it', async () => {
    const bytes = await growthDuring(async () => {
      for (let i = 0; i < 16; i++) {
        const request = get(`${orion.http}/data`, (response) => response.pause());
        request.on('error', () => {});
        leave.push(() => request.destroy());
      }
    });
    report('16 deaf HTTP clients', bytes);
    expect(bytes).toBeLessThan(16 * 4 * MIB + RUNTIME_BYTES);
  });

  test('an NBD client announces writes of 32 MiB and sends little of them', async () => {
    const bytes = await growthDuring(async () => {
      for (let i = 0; i < 8; i++) {
        const peer = await deafClient();
        const length = 32 * MIB;
        peer.send(rawRequest({ command: NbdCmd.Write, length }), Buffer.alloc(64 * 1024));
      }
    });
    report('8 writes that stop half way', bytes);
    expect(bytes).toBeLessThan(8 * 32 * MIB + RUNTIME_BYTES);
  });
});

test('when all of them are gone nothing of them is left', async () => {
  await waitFor('no connection', async () => (await metric('orion_connections')) === 0);
  await waitFor('no buffer', async () => (await metric('orion_buffer_pool_taken_bytes')) === 0);
});
