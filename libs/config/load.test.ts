import { describe, expect, test } from 'vitest';
import { isOrionError } from '../core/errors.ts';
import { volumePlans, workerLink } from './derive.ts';
import { type LoadedConfig, loadConfig } from './load.ts';
import { ConfigProblems } from './problems.ts';
import { configRows, idleKeys } from './rows.ts';

const ISSUE_FILE = `[node]
name = "n1"
state_dir = "/var/tmp/orion-n1"
[workers]
count = 2
[gateway]
nbd_listen = ["unix:/var/tmp/orion-n1/nbd.sock", "127.0.0.1:10809"]
http_listen = "127.0.0.1:8080"
[[targets]]
name = "iqn.2026-11.lab:disk1"
portals = ["127.0.0.1:3260", "127.0.0.1:3261"]
[[volumes]]
name = "vol1"
target = "iqn.2026-11.lab:disk1"
lun = 1
`;

interface Given {
  env?: Record<string, string>;
  flags?: string[];
}

function load(text: string | undefined, given: Given = {}): LoadedConfig {
  return loadConfig({
    ...(text === undefined ? {} : { file: 'orion.toml' }),
    ...given,
    readFile: () => text!,
    hostname: 'box.lab.example',
  });
}

function problemsOf(text: string, given: Given = {}): string[] {
  try {
    load(text, given);
  } catch (error) {
    if (error instanceof ConfigProblems) return error.message.split('\n');
    if (isOrionError(error)) return [error.message];
    throw error;
  }
  return [];
}

describe('a configuration that is right', () => {
  test('is complete: what the file leaves out has its default', () => {
    const { config } = load(ISSUE_FILE);
    expect(config.node).toEqual({
      name: 'n1',
      state_dir: '/var/tmp/orion-n1',
      busy_poll_us: 100,
      cluster: 'orion',
      labels: {},
    });
    expect(config.gateway.admin_listen).toBe('');
    expect(config.targets[0]?.initiator_name).toMatch(
      /^iqn\.2026-11\.io\.orion-iscsi:orion\.[0-9a-f]{8}$/,
    );
    expect(config.volumes[0]).toMatchObject({
      policy: 'latency',
      no_path_queue_bytes: 256 * 1024 * 1024,
      fence: 'auto',
    });
    expect(config.iscsi.read_ahead_size).toBe(2 * 1024 * 1024);
  });

  test('may be empty, and then the node has the name of the host', () => {
    const { config } = load(undefined);
    expect(config.node.name).toBe('box');
    expect(config.node.state_dir).toBe('/var/tmp/orion-box');
    expect(config.volumes).toEqual([]);
  });

  test('cannot be changed by anybody who holds it', () => {
    const { config } = load(ISSUE_FILE);
    expect(() => {
      (config.targets[0]!.portals as string[]).push('x');
    }).toThrow(TypeError);
    expect(Object.isFrozen(config.iscsi)).toBe(true);
  });

  test('takes the [iscsi] table of the specification word for word', () => {
    const { config } = load(SPECIFICATION);
    expect(config.iscsi.session_timeout).toBe(60_000);
    expect(config.iscsi.write_back_cache_size).toBe(256 * 1024 * 1024);
  });

  test('knows for each value where it came from, the stronger source winning', () => {
    const { config, provenance } = load(ISSUE_FILE, {
      env: { ORION_NODE_NAME: 'n2', ORION_WORKERS_COUNT: '3', PATH: '/bin', ORION_CONFIG: 'x' },
      flags: ['workers.count=4', 'volumes.0.policy=round-robin'],
    });
    expect(config.node.name).toBe('n2');
    expect(config.workers.count).toBe(4);
    expect(config.volumes[0]?.policy).toBe('round-robin');
    expect(provenance.get('node.name')).toBe('env:ORION_NODE_NAME');
    expect(provenance.get('workers.count')).toBe('flag');
    expect(provenance.get('node.state_dir')).toBe('orion.toml:3');
    expect(provenance.get('volumes.0.lun')).toBe('orion.toml:15');
    expect(provenance.get('volumes.0.policy')).toBe('flag');
    expect(provenance.get('node.cluster')).toBe('default');
  });

  test('can be given by the environment alone, entries of lists by number', () => {
    const { config } = load(undefined, {
      env: {
        ORION_TARGETS_0_NAME: 'iqn.2026-11.lab:a',
        ORION_TARGETS_0_PORTALS: '10.0.0.1, [fe80::1]:3261',
        ORION_VOLUMES_0_NAME: 'v',
        ORION_VOLUMES_0_TARGET: 'iqn.2026-11.lab:a',
        ORION_VOLUMES_0_LUN: '0',
        ORION_NODE_LABELS: 'zone=a,rack=2',
      },
    });
    expect(config.targets[0]?.portals).toEqual(['10.0.0.1:3260', '[fe80::1]:3261']);
    expect(config.volumes[0]?.lun).toBe(0);
    expect(config.node.labels).toEqual({ zone: 'a', rack: '2' });
  });

  test('gives a volume one path to each portal, and one alone without multipathing', () => {
    expect(volumePlans(load(ISSUE_FILE).config)[0]).toMatchObject({
      lun: '0001000000000000',
      portals: ['127.0.0.1:3260', '127.0.0.1:3261'],
    });
    const single = load(ISSUE_FILE, { flags: ['iscsi.multipath_enabled=false'] });
    expect(volumePlans(single.config)[0]?.portals).toEqual(['127.0.0.1:3260']);
  });

  test.each([
    [300, '412c000000000000'],
    ['"0xC101000000000000"', 'c101000000000000'],
  ])('LUN %s is %s on the wire', (lun, hex) => {
    const { config } = load(ISSUE_FILE.replace('lun = 1', `lun = ${lun}`));
    expect(volumePlans(config)[0]?.lun).toBe(hex);
  });

  test('gives each worker a link of its own', () => {
    expect(workerLink(load(ISSUE_FILE).config, 'n1-w1')).toEqual({
      listen: [{ kind: 'unix', path: '/var/tmp/orion-n1/link-n1-w1.sock' }],
      advertise: 'unix:/var/tmp/orion-n1/link-n1-w1.sock',
    });
    const tcp = load(ISSUE_FILE, {
      flags: ['workers.link_listen=0.0.0.0:7700', 'workers.link_advertise=host-a:7700'],
    });
    expect(workerLink(tcp.config, 'n1-w1')).toEqual({
      listen: [{ kind: 'tcp', host: '0.0.0.0', port: 7701 }],
      advertise: 'host-a:7701',
    });
  });

  test('shows every key, masks passwords, and names the set keys that do nothing yet', () => {
    const loaded = load(`${ISSUE_FILE}[bus]\nurl = "nats://me:secret@h:4222"\n[iscsi]
network_encryption = true\n`);
    const rows = configRows(loaded);
    expect(rows.find((row) => row.path === 'bus.url')?.value).toBe('nats://me:***@h:4222');
    expect(rows.every((row) => row.value !== undefined)).toBe(true);
    expect(idleKeys(loaded).map((row) => [row.path, row.from])).toEqual([
      ['iscsi.network_encryption', 'orion.toml:19'],
    ]);
  });
});

const edit = (from: string, to: string) => ISSUE_FILE.replace(from, to);

describe('a problem is told with its place, its key, and what is allowed', () => {
  test.each<[string, string, Given, string]>([
    [
      'an unknown key',
      edit('count', 'cuont'),
      {},
      'orion.toml:5: workers.cuont: unknown key; did you mean "count"?',
    ],
    [
      'an unknown table',
      edit('[workers]', '[worker]'),
      {},
      'orion.toml:4: worker: unknown table; did you mean "workers"?',
    ],
    [
      'a key in the wrong table',
      edit('count', 'nbd_listen'),
      {},
      'orion.toml:5: workers.nbd_listen: unknown key; it belongs to [gateway]',
    ],
    [
      'a wrong type',
      edit('count = 2', 'count = "two"'),
      {},
      'orion.toml:5: workers.count: is the text "two"; allowed: a whole number, 1 to 64',
    ],
    [
      'a value out of range',
      edit('count = 2', 'count = 65'),
      {},
      'orion.toml:5: workers.count: is the number 65; allowed: a whole number, 1 to 64',
    ],
    [
      'a fraction',
      edit('count = 2', 'count = 1.5'),
      {},
      'orion.toml:5: workers.count: is the number 1.5; allowed: a whole number, 1 to 64',
    ],
    [
      'a table that is a value',
      'workers = 3',
      {},
      'orion.toml:1: workers: is the number 3, must be a table: write [workers]',
    ],
    [
      'a single table for a list',
      '[targets]\nname = "x"',
      {},
      'orion.toml:1: targets: is a single table, must be a list of tables: write [[targets]]',
    ],
    [
      'a bad IQN',
      edit('iqn.2026-11.lab:disk1"\np', 'disk1"\np'),
      {},
      'orion.toml:10: targets.0.name: "disk1" is not an iSCSI name; allowed: iqn.YYYY-MM',
    ],
    [
      'a bad month in an IQN',
      edit('2026-11.lab:disk1"\np', '2026-13.lab:disk1"\np'),
      {},
      'orion.toml:10: targets.0.name: "iqn.2026-13.lab:disk1" has the month 13',
    ],
    [
      'a secret in the file',
      edit('[[volumes]]', 'auth = { user = "me", secret = "hunter2" }\n[[volumes]]'),
      {},
      'orion.toml:12: targets.0.auth.secret: no secret belongs in the configuration; put it in a file of mode 0600 and name that in secret_file, or a variable in secret_env',
    ],
    [
      'a password in the file',
      edit('[[volumes]]', 'auth = { mutual_secret = "x", password = "hunter2" }\n[[volumes]]'),
      {},
      'orion.toml:12: targets.0.auth.mutual_secret: no secret belongs in the configuration; put it in a file of mode 0600 and name that in mutual_secret_file, or a variable in mutual_secret_env',
    ],
    [
      'a user without a secret',
      edit('[[volumes]]', 'auth = { user = "me" }\n[[volumes]]'),
      {},
      'orion.toml:12: targets.0.auth: has user without a secret; give secret_file or secret_env',
    ],
    [
      'two places for one secret',
      edit(
        '[[volumes]]',
        'auth = { user = "me", secret_file = "/s", secret_env = "S" }\n[[volumes]]',
      ),
      {},
      'orion.toml:12: targets.0.auth: has both secret_file and secret_env; give one',
    ],
    [
      'a secret of nobody',
      edit('[[volumes]]', 'auth = { secret_file = "/s" }\n[[volumes]]'),
      {},
      'orion.toml:12: targets.0.auth: has secret_file or secret_env without user',
    ],
    [
      'a target that is to prove itself to nobody',
      edit('[[volumes]]', 'auth = { mutual_user = "it", mutual_secret_env = "S" }\n[[volumes]]'),
      {},
      'orion.toml:12: targets.0.auth.user: is missing: the target proves itself only to who proves itself',
    ],
    [
      'one secret for both directions',
      edit(
        '[[volumes]]',
        'auth = { user = "me", secret_env = "S", mutual_user = "it", mutual_secret_env = "S" }\n[[volumes]]',
      ),
      {},
      'orion.toml:12: targets.0.auth: has one secret for both directions; each needs its own',
    ],
    [
      'a list of algorithms without MD5',
      edit('[[volumes]]', 'auth = { algorithms = ["sha256"] }\n[[volumes]]'),
      {},
      'orion.toml:12: targets.0.auth.algorithms: lacks "md5", which has to be offered',
    ],
    [
      'an algorithm that there is not',
      edit('[[volumes]]', 'auth = { algorithms = ["md5", "md4"] }\n[[volumes]]'),
      {},
      'orion.toml:12: targets.0.auth.algorithms.1: is the text "md4"; allowed: "md5", "sha1", "sha256", "sha3-256"',
    ],
    [
      'a secret file without an absolute path',
      edit('[[volumes]]', 'auth = { user = "me", secret_file = "s" }\n[[volumes]]'),
      {},
      'orion.toml:12: targets.0.auth.secret_file: is not an absolute path',
    ],
    [
      'a bad portal',
      edit('127.0.0.1:3261', 'host:99999'),
      {},
      'orion.toml:11: targets.0.portals.1: "host:99999" is no portal; allowed: host:port',
    ],
    [
      'no portals',
      edit('"127.0.0.1:3260", "127.0.0.1:3261"', ''),
      {},
      'orion.toml:11: targets.0.portals: is empty; at least 1 is needed',
    ],
    [
      'a portal twice',
      edit(':3261', ''),
      {},
      'orion.toml:11: targets.0.portals.1: is listed twice',
    ],
    [
      'a listener without port',
      edit('127.0.0.1:8080', 'localhost'),
      {},
      'orion.toml:8: gateway.http_listen: "localhost" has no port',
    ],
    [
      'a listener twice',
      edit(':8080', ':10809'),
      {},
      'orion.toml:8: gateway.http_listen: "127.0.0.1:10809" is taken by gateway.nbd_listen.1',
    ],
    [
      'a relative socket',
      edit('unix:/var', 'unix:var'),
      {},
      'orion.toml:7: gateway.nbd_listen.0: "var/tmp/orion-n1/nbd.sock" is not an absolute path',
    ],
    [
      'a socket path that is too long',
      edit('/nbd.sock', `/${'x'.repeat(100)}`),
      {},
      'orion.toml:7: gateway.nbd_listen.0: the socket path has',
    ],
    [
      'a state_dir too long for its sockets',
      edit('"/var/tmp/orion-n1"', `"/${'x'.repeat(100)}"`),
      {},
      'orion.toml:3: node.state_dir: the socket',
    ],
    [
      'a volume without target',
      edit('target = "iqn.2026-11.lab:disk1"\n', ''),
      {},
      'orion.toml:12: volumes.0.target: is missing',
    ],
    [
      'a target that is not there',
      edit('target = "iqn.2026-11.lab:disk1"', 'target = "iqn.2026-11.lab:disk2"'),
      {},
      'orion.toml:14: volumes.0.target: no [[targets]] has the name "iqn.2026-11.lab:disk2"; did you mean "iqn.2026-11.lab:disk1"?',
    ],
    [
      'two volumes of one name',
      `${ISSUE_FILE}[[volumes]]\nname = "vol1"\ntarget = "iqn.2026-11.lab:disk1"\nlun = 2\n`,
      {},
      'orion.toml:17: volumes.1.name: is the name of volumes.0 too',
    ],
    [
      'two volumes of one unit',
      `${ISSUE_FILE}[[volumes]]\nname = "v2"\ntarget = "iqn.2026-11.lab:disk1"\nlun = "0001000000000000"\n`,
      {},
      'orion.toml:19: volumes.1.lun: is the same logical unit as volumes.0',
    ],
    [
      'a bad volume name',
      edit('"vol1"', '"Vol 1"'),
      {},
      'orion.toml:13: volumes.0.name: is the text "Vol 1"; allowed: a text like',
    ],
    [
      'a bad LUN',
      edit('lun = 1', 'lun = 16384'),
      {},
      'orion.toml:15: volumes.0.lun: is the number 16384; allowed: 0 to 16383',
    ],
    [
      'fencing switched off',
      `${ISSUE_FILE}fence = "none"\n`,
      {},
      'orion.toml:16: volumes.0.fence: "none" can lose acknowledged writes',
    ],
    [
      'a bad choice',
      `${ISSUE_FILE}policy = "fastest"\n`,
      {},
      'orion.toml:16: volumes.0.policy: is the text "fastest"; allowed: "round-robin", "queue-length", "latency"',
    ],
    [
      'a bad size',
      `${ISSUE_FILE}[iscsi]\nread_ahead_size = "2 XB"\n`,
      {},
      'orion.toml:17: iscsi.read_ahead_size: is the text "2 XB"; allowed: 0 to',
    ],
    [
      'more sessions than allowed',
      `${ISSUE_FILE}[iscsi]\nsession_max_count = 1\n`,
      {},
      'orion.toml:17: iscsi.session_max_count: is 1, but the volumes of this file need 2 sessions',
    ],
    [
      'a bad bus',
      `${ISSUE_FILE}[bus]\nurl = "http://x:1"\n`,
      {},
      'orion.toml:17: bus.url: "http://x:1" begins with "http:"; allowed: nats://',
    ],
    ['bad TOML', '[node]\nname = \n', {}, 'orion.toml:2:8: invalid value'],
    ['a key twice', '[node]\nname = "a"\nname = "b"\n', {}, 'orion.toml:3:1: trying to redefine'],
    [
      'a bad value in the environment',
      ISSUE_FILE,
      { env: { ORION_WORKERS_COUNT: 'many' } },
      'env:ORION_WORKERS_COUNT: workers.count: is the text "many"',
    ],
    [
      'an unknown variable',
      ISSUE_FILE,
      { env: { ORION_NODE_NAEM: 'x' } },
      'env:ORION_NODE_NAEM: stands for no key; did you mean ORION_NODE_NAME?',
    ],
    [
      'an unknown flag',
      ISSUE_FILE,
      { flags: ['worker.count=3'] },
      'flag --set: unknown key "worker.count"; did you mean workers?',
    ],
    [
      'a flag without value',
      ISSUE_FILE,
      { flags: ['workers.count'] },
      'flag --set: "workers.count" is not of the form key.path=value',
    ],
    [
      'a flag past the end of a list',
      ISSUE_FILE,
      { flags: ['volumes.3.lun=3'] },
      'flag: volumes.3.lun: there are only 1 entries before it',
    ],
    [
      'a link that nobody can connect to',
      edit('count = 2', 'count = 2\nlink_listen = ["0.0.0.0:7700"]'),
      {},
      'orion.toml:6: workers.link_listen.0: is no address to connect to; say one in link_advertise',
    ],
    [
      'a worker socket that all would share',
      edit('count = 2', 'count = 2\nlink_listen = ["unix:/tmp/x.sock"]'),
      {},
      'orion.toml:6: workers.link_listen.0: needs {id} in it',
    ],
  ])('%s', (_name, text, given, expected) => {
    const lines = problemsOf(text, given);
    expect(
      lines.some((line) => line.startsWith(expected)),
      lines.join('\n'),
    ).toBe(true);
  });

  test('a secret that was written into the file is not repeated', () => {
    const lines = ['secret', 'password', 'mutual_secret', 'secret_file', 'secret_env']
      .map((key) => edit('[[volumes]]', `auth = { user = "me", ${key} = "hunter2!" }\n[[volumes]]`))
      .flatMap((text) => problemsOf(text));
    expect(lines.length).toBeGreaterThanOrEqual(5);
    expect(lines.join('\n')).not.toContain('hunter2');
  });

  test('a missing file is named', () => {
    const readFile = () => {
      throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' });
    };
    expect(() => loadConfig({ file: '/no/where.toml', readFile, hostname: 'h' })).toThrow(
      '/no/where.toml: there is no such file',
    );
  });

  test('all problems are told at once', () => {
    const text = edit('count = 2', 'count = 0').replace('lun = 1', 'lnu = 1');
    expect(problemsOf(text)).toEqual([
      'orion.toml:5: workers.count: is the number 0; allowed: a whole number, 1 to 64',
      'orion.toml:15: volumes.0.lnu: unknown key; did you mean "lun"?',
      expect.stringContaining('volumes.0.lun: is missing'),
    ]);
  });

  test('a file of garbage does not flood the terminal', () => {
    const keys = Array.from({ length: 5000 }, (_, i) => `k${i} = 1`).join('\n');
    const lines = problemsOf(keys);
    expect(lines).toHaveLength(51);
    expect(lines.at(-1)).toBe('... and 4950 more');
  });

  test('keys that exist on every object of the language are unknown keys', () => {
    expect(problemsOf('[node]\nconstructor = 1\n')[0]).toContain('unknown key');
    expect(problemsOf('[node]\n"__proto__" = 1\n')[0]).toContain('unknown key');
  });
});

const SPECIFICATION = `[iscsi]
# Session configuration settings
session_max_count = 32
session_max_connections = 8
session_timeout = 60000
session_retry_count = 3

# Connection configuration settings
connection_max_count = 256
connection_pool_size = 32
connection_timeout = 30000
connection_retry_count = 3

# Target configuration settings
target_max_count = 64
target_multipathing = true
target_failover_enabled = true
target_health_check_interval = 30

# Performance settings
read_ahead_size = "2MB"
write_back_cache = true
write_back_cache_size = "256MB"
multipath_enabled = true
compression_enabled = true

# Security settings
chap_authentication = true
network_encryption = true
target_authentication = true
`;

test('nodes of one bus are one initiator, and nodes with a bus of their own are not', () => {
  const initiator = (extra: string, hostname: string): string => {
    const text = `${extra}[[targets]]\nname = "iqn.2026-11.lab:disk1"\nportals = ["127.0.0.1:3260"]\n`;
    const options = { file: 'f.toml', readFile: () => text, hostname };
    return loadConfig(options).config.targets[0]!.initiator_name;
  };
  const bus = '[bus]\nurl = "nats://127.0.0.1:4222"\n';
  expect(initiator(bus, 'a')).toBe(initiator(bus, 'b'));
  expect(initiator('', 'a')).toBe(initiator('', 'a'));
  expect(initiator('', 'a')).not.toBe(initiator('', 'b'));
});
