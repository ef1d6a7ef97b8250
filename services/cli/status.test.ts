import { expect, test } from 'vitest';
import type {
  PathStatus,
  ProcessStatus,
  SessionStatus,
  VolumeStatus,
} from '#contracts/messages.ts';
import { mergeStatus, statusText } from './status.ts';

const process = (role: string, id: string, more: Partial<ProcessStatus> = {}): ProcessStatus => ({
  role,
  id,
  node: 'n1',
  pid: 7,
  uptimeMs: 61_000.4,
  leader: false,
  sessions: [],
  paths: [],
  volumes: [],
  ...more,
});

const session = (slot: number): SessionStatus => ({
  volume: 'vol1',
  slot,
  incarnation: 1,
  target: 'iqn.2026-11.lab:disk1',
  portal: `127.0.0.1:${3260 + slot}`,
  worker: `n1-w${slot}`,
  isid: '800000000001',
  tsih: 1,
  state: 'LOGGED_IN',
  ageMs: 1000,
  connections: [{ cid: 0, portal: '127.0.0.1:3260', state: 'LOGGED_IN' }],
  inflight: 0,
  commands: 5,
  bytesRead: 4096,
  bytesWritten: 0,
});

const path = (slot: number): PathStatus => ({
  volume: 'vol1',
  slot,
  portal: `127.0.0.1:${3260 + slot}`,
  worker: `n1-w${slot}`,
  state: 'ready',
  inflight: 0,
  reads: 1,
  writes: 0,
  errors: 0,
  latencyUs: 99.7,
  lastError: 'evil \u001b[2J text',
});

const volume = (owner: string): VolumeStatus => ({
  name: 'vol1',
  target: 'iqn.2026-11.lab:disk1',
  lun: '0001000000000000',
  owner,
  epoch: 1,
  state: 'active',
  sizeBytes: 1024 ** 3,
  blockBytes: 512,
  pathsReady: 2,
  pathsTotal: 2,
  failovers: 0,
  heldWrites: 0,
});

const merged = mergeStatus('n1', 'orion', [
  process('gateway', 'n1-g0', { paths: [path(1), path(0)], volumes: [volume('n1-g0')] }),
  process('worker', 'n1-w10', { sessions: [session(1)] }),
  process('worker', 'n1-w2', { sessions: [session(0)] }),
  process('coordinator', 'n1-c0', { leader: true, volumes: [volume('stale')] }),
]);

test('the status is one list of each thing, in an order that people expect', () => {
  expect(merged.processes.map(({ id }) => id)).toEqual(['n1-c0', 'n1-w2', 'n1-w10', 'n1-g0']);
  expect(merged.processes[0]).toEqual({
    role: 'coordinator',
    id: 'n1-c0',
    node: 'n1',
    pid: 7,
    uptimeMs: 61_000,
    leader: true,
  });
  expect(merged.sessions.map(({ slot }) => slot)).toEqual([0, 1]);
  expect(merged.paths.map(({ slot }) => slot)).toEqual([0, 1]);
});

test('the gateway that serves a volume is believed more than others', () => {
  expect(merged.volumes.map(({ owner }) => owner)).toEqual(['n1-g0']);
});

test('what comes from a target cannot move the cursor of a terminal', () => {
  const text = statusText(merged);
  expect(text).not.toContain('\u001b');
  expect(text).toContain('evil ?[2J text');
  expect(text).toMatch(/vol1 +active +1 GiB +2 of 2 +n1-g0/);
});
