import { chmodSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { loadConfig } from '#config/load.ts';
import { wantedParams } from '#iscsi/session-options.ts';
import { tempDir } from '#testkit/tmp.ts';
import { formatAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { TargetLogins } from './target-logins.ts';

const NAME = 'iqn.2026-11.lab:disk1';
const dir = tempDir('logins');
afterAll(() => dir.remove());

function secret(name: string): string {
  const path = dir.file(name);
  writeFileSync(path, `${name}-has-a-long-secret`);
  chmodSync(path, 0o600);
  return path;
}

function logins(target: string, rest = '', moved: string[] = []): TargetLogins {
  const text = `[[targets]]\nname = "${NAME}"\nportals = ["192.0.2.1"]\n${target}\n${rest}`;
  const { config } = loadConfig({ file: 'f', readFile: () => text, hostname: 'h' });
  return new TargetLogins({
    config,
    network: nodeNetwork,
    env: {},
    onMoved: (...words) => moved.push(words.join(' ')),
  });
}

describe('the login to a target', () => {
  test('asks for the usual where the configuration says nothing', async () => {
    const { params, network, authentication, loginMs } = await logins('').to(NAME);
    const { ErrorRecoveryLevel, MaxConnections, ...usual } = wantedParams;
    expect({ ...wantedParams, ...params }).toEqual({
      ...usual,
      ErrorRecoveryLevel,
      MaxConnections,
    });
    expect(network).toBe(nodeNetwork);
    expect(authentication).toBeUndefined();
    expect(loginMs).toBe(10_000);
  });

  test('asks for what the configuration says', async () => {
    const { params, loginMs, ...login } = await logins(`
initial_r2t = true
immediate_data = false
max_recv_data_segment_length = "64 KiB"
max_burst_length = "1 MiB"
first_burst_length = 65536
max_outstanding_r2t = 1
connections = 4
error_recovery_level = 2
task_reporting = "response-fence"
protocol_level = 1
header_digest = "prefer-crc32c"
login_timeout_ms = 1500
`).to(NAME);
    expect(params).toMatchObject({
      InitialR2T: true,
      ImmediateData: false,
      MaxRecvDataSegmentLength: 65_536,
      MaxBurstLength: 1 << 20,
      FirstBurstLength: 65_536,
      MaxOutstandingR2T: 1,
      TaskReporting: 'ResponseFence,RFC3720',
      iSCSIProtocolLevel: undefined,
      HeaderDigest: 'CRC32C,None',
    });
    expect(loginMs).toBe(1500);
    expect(login).toMatchObject({ connections: 4, errorRecoveryLevel: 2 });
    const { params: plain } = await logins('task_reporting = "rfc3720"').to(NAME);
    expect(plain).toHaveProperty('TaskReporting', undefined);
  });

  test('authenticates as the configuration says, both ways, or not at all', async () => {
    const auth = `auth = { user = "a", secret_file = "${secret('a')}", mutual_user = "b", mutual_secret_file = "${secret('b')}" }`;
    expect((await logins(auth).to(NAME)).authentication).toMatchObject({
      user: 'a',
      mutual: { user: 'b' },
    });
    const oneWay = await logins(auth, '[iscsi]\ntarget_authentication = false').to(NAME);
    expect(oneWay.authentication).toMatchObject({ user: 'a' });
    expect(oneWay.authentication).not.toHaveProperty('mutual');
    const none = await logins(auth, '[iscsi]\nchap_authentication = false').to(NAME);
    expect(none.authentication).toBeUndefined();
  });

  test('of discovery has credentials of its own, and those of targets are not used for it', async () => {
    const auth = `auth = { user = "a", secret_file = "${secret('a')}" }`;
    expect((await logins(auth).forDiscovery()).authentication).toBeUndefined();
    const own = `[discovery]\ninitiator_name = "iqn.2026-11.lab:finder"\nauth = { user = "d", secret_file = "${secret('d')}" }`;
    const discovery = await logins(auth, own).forDiscovery();
    expect(discovery).toMatchObject({
      authentication: { user: 'd' },
      initiatorName: 'iqn.2026-11.lab:finder',
    });
  });

  test('of discovery has a TLS of its own, and that of targets is not used for it', async () => {
    const tls = 'tls = { ca = "system" }';
    expect((await logins(tls).forDiscovery()).network).toBe(nodeNetwork);
    const own = logins('', `[discovery]\n${tls}`);
    expect((await own.forDiscovery()).network).not.toBe(nodeNetwork);
    expect((await own.to(NAME)).network).toBe(nodeNetwork);
    const missing = logins('', '[discovery]\ntls = { ca = "/nowhere/ca.pem" }').forDiscovery();
    await expect(missing).rejects.toMatchObject({ code: 'WORKER_TLS_FILE' });
  });

  test('goes where a portal has moved to for good, and says so', async () => {
    const moved: string[] = [];
    const all = logins('', '', moved);
    const home = all.portal(NAME, '192.0.2.1');
    const { onMoved } = await all.to(NAME);
    onMoved!(home, { kind: 'tcp', host: '192.0.2.9', port: 3260 });
    expect(formatAddress(all.portal(NAME, '192.0.2.1:3260'))).toBe('192.0.2.9:3260');
    expect(formatAddress(all.portal('iqn.2026-11.lab:other', '192.0.2.1'))).toBe('192.0.2.1:3260');
    expect(moved).toEqual([`${NAME} 192.0.2.1:3260 192.0.2.9:3260`]);
  });

  test('maps what targets tell, and not what the configuration says', async () => {
    const map = '[[address_map]]\nfrom = "10.0.2.15"\nto = "127.0.0.1:3270"';
    const all = logins('', map);
    const { mapAddress } = await all.to(NAME);
    const mapped = mapAddress!({ kind: 'tcp', host: '10.0.2.15', port: 3260 });
    expect(formatAddress(mapped)).toBe('127.0.0.1:3270');
    const other = { kind: 'tcp', host: '10.0.2.15', port: 3261 } as const;
    expect(mapAddress!(other)).toBe(other);
    expect(formatAddress(all.portal(NAME, '10.0.2.15'))).toBe('10.0.2.15:3260');
  });

  test('says what is wrong with the files of tls', async () => {
    const missing = logins('tls = { ca = "/nowhere/ca.pem" }').to(NAME);
    await expect(missing).rejects.toMatchObject({ code: 'WORKER_TLS_FILE' });
    const bad = dir.file('ca.pem');
    writeFileSync(bad, 'no certificate');
    const key = dir.file('open.key');
    writeFileSync(key, 'a key');
    chmodSync(key, 0o644);
    const exposed = logins(`tls = { ca = "${bad}", cert = "${bad}", key = "${key}" }`).to(NAME);
    await expect(exposed).rejects.toMatchObject({ code: 'SECRET_EXPOSED' });
    chmodSync(key, 0o600);
    const useless = logins(`tls = { ca = "${bad}", cert = "${bad}", key = "${key}" }`).to(NAME);
    await expect(useless).rejects.toMatchObject({ code: 'TLS_MATERIAL' });
  });
});

describe('the configuration of logins', () => {
  test.each([
    ['tls = { server_name = "x" }', '', /tls\.ca.* is missing/],
    ['tls = { ca = "system", cert = "/c" }', '', /one of cert and key/],
    ['tls = { ca = "here.pem" }', '', /absolute path, or "system"/],
    ['first_burst_length = 2048\nmax_burst_length = 1024', '', /more than max_burst_length/],
    ['max_burst_length = 100', '', /512 to 16777215/],
    ['protocol_level = 3', '', /1 to 2/],
    ['connections = 9', '', /1 to 8/],
    ['connections = 4', '[iscsi]\nsession_max_connections = 2', /more than iscsi\.session_max/],
    [
      'connections = 8',
      `[iscsi]\nconnection_max_count = 7\n[[volumes]]\nname = "v"\ntarget = "${NAME}"\nlun = 1`,
      /need 8 connections/,
    ],
    ['', '[discovery]\nauth = { user = "x" }', /user without a secret/],
    ['', '[discovery]\ntls = { server_name = "x" }', /discovery\.tls\.ca.* is missing/],
    ['', '[discovery]\ntls = { ca = "system", key = "/k" }', /discovery\.tls.*one of cert and key/],
    [
      '',
      '[[address_map]]\nfrom = "a"\nto = "b"\n[[address_map]]\nfrom = "a:3260"\nto = "c"',
      /mapped by address_map\.0 already/,
    ],
  ])('is refused with %j %j', (target, rest, message) => {
    expect(() => logins(target, rest)).toThrow(message);
  });
});
