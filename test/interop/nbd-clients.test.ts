import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryDevice } from '#block/memory.ts';
import { systemClock } from '#core/clock.ts';
import { seededRng } from '#core/rng.ts';
import type { NbdEvent } from '#nbd/connection.ts';
import type { NbdExport } from '#nbd/export.ts';
import { NbdServer } from '#nbd/server.ts';
import { runFio } from '#testkit/fio.ts';
import { check, runProcess } from '#testkit/process.ts';
import { requires } from '#testkit/requires.ts';
import { tempDir } from '#testkit/tmp.ts';
import { waitFor } from '#testkit/wait.ts';
import { BufferPool } from '#wire/buffer-pool.ts';
import { nodeNetwork } from '#wire/node-network.ts';

/** Real NBD clients against our server with a RAM disk, over both kinds of socket. */

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;

const pool = new BufferPool({ checkOwnership: true });
const dir = tempDir('nbdcli', 'memory');
const socket = dir.file('nbd.sock');
const events: NbdEvent[] = [];

const exports: NbdExport[] = [
  { name: 'ram', description: 'a RAM disk', device: new MemoryDevice({ sizeBytes: SIZE }) },
  {
    name: 'big-blocks',
    description: 'blocks of 4 KiB',
    device: new MemoryDevice({ sizeBytes: SIZE, blockBytes: 4096 }),
  },
  {
    name: 'fixed',
    description: 'read-only',
    device: new MemoryDevice({ sizeBytes: SIZE }),
    readOnly: true,
  },
];

const server = new NbdServer({
  network: nodeNetwork,
  clock: systemClock,
  pool,
  exports: {
    list: () => exports,
    find: (name) => exports.find((one) => one.name === (name === '' ? 'ram' : name)) ?? null,
  },
  onEvent: (event) => events.push(event),
});
let port = 0;

beforeAll(async () => {
  await server.listen({ kind: 'unix', path: socket });
  const listener = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 });
  if (listener.address.kind === 'tcp') port = listener.address.port;
});

afterAll(async () => {
  await server.drain(10_000);
  await dir.remove();
  expect(pool.takenBytes).toBe(0);
  expect(events.filter(({ kind }) => kind === 'protocol-error')).toEqual([]);
});

type Transport = 'unix' | 'tcp';

function uri(transport: Transport, name: string): string {
  return transport === 'unix'
    ? `nbd+unix:///${name}?socket=${socket}`
    : `nbd://127.0.0.1:${port}/${name}`;
}

function randomFile(name: string, bytes: number, seed = 1): string {
  const data = Buffer.alloc(bytes);
  const rng = seededRng(seed);
  // A tenth of it is data, in pieces: sparse copies have something to find.
  for (let at = 0; at < bytes; at += 10 * 65_536) rng.fill(data.subarray(at, at + 65_536));
  const path = dir.file(name);
  writeFileSync(path, data);
  return path;
}

/** Python with libnbd; prints what it prints. Its module is that of the system's Python, not of another in front. */
function nbdsh(script: string): Promise<string> {
  const env = { PATH: `/usr/bin:${process.env.PATH}` };
  return check('nbdsh', ['-c', '-'], { input: script, env });
}

describe.each<Transport>(['unix', 'tcp'])('over %s', (transport) => {
  test('nbdinfo shows what the device can', async (context) => {
    requires(context, 'nbdinfo');
    const { exports: shown } = JSON.parse(
      await check('nbdinfo', ['--json', uri(transport, 'ram')]),
    ) as { exports: Record<string, unknown>[] };
    expect(shown[0]).toMatchObject({
      'export-name': 'ram',
      description: 'a RAM disk',
      'export-size': SIZE,
      is_read_only: false,
      is_rotational: false,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
      can_fast_zero: true,
      can_cache: true,
      can_multi_conn: true,
      can_df: false,
      block_size_minimum: 512,
      block_size_preferred: 4096,
      block_size_maximum: 32 * MIB,
    });
    expect((await check('nbdinfo', ['--size', uri(transport, 'ram')])).trim()).toBe(String(SIZE));
    const fixed = JSON.parse(await check('nbdinfo', ['--json', uri(transport, 'fixed')]));
    expect(fixed.exports[0]).toMatchObject({ is_read_only: true, can_trim: false });
  });

  test('nbdinfo --list shows all exports', async (context) => {
    requires(context, 'nbdinfo');
    const listed = JSON.parse(await check('nbdinfo', ['--list', '--json', uri(transport, '')]));
    const names = listed.exports.map((one: Record<string, unknown>) => one['export-name']);
    expect(names).toEqual(exports.map(({ name }) => name));
  });

  test('nbdinfo tells clearly that an export does not exist', async (context) => {
    requires(context, 'nbdinfo');
    const result = await runProcess({ command: 'nbdinfo', args: [uri(transport, 'nonesuch')] });
    expect(result.code).not.toBe(0);
    expect(result.stderr).toMatch(/there is no export "nonesuch"|no such|unknown/i);
  });

  test('nbdcopy brings a file in and out again unchanged', async (context) => {
    requires(context, 'nbdcopy');
    const source = randomFile('in.img', SIZE);
    const target = dir.file('out.img');
    await check('nbdcopy', ['--flush', source, uri(transport, 'ram')]);
    await check('nbdcopy', [uri(transport, 'ram'), target]);
    expect(statSync(target).size).toBe(SIZE);
    expect(readFileSync(target).equals(readFileSync(source))).toBe(true);
  });

  test('qemu-img sees, converts and compares', async (context) => {
    requires(context, 'qemu-img');
    const info = JSON.parse(
      await check('qemu-img', ['info', '--output=json', uri(transport, 'big-blocks')]),
    );
    expect(info['virtual-size']).toBe(SIZE);
    const source = randomFile('convert.img', SIZE, 2);
    const target = uri(transport, 'big-blocks');
    await check('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', source, target]);
    const compare = ['compare', '-f', 'raw', '-F', 'raw', source, target];
    expect(await check('qemu-img', compare)).toContain('identical');
  });

  test('qemu-io writes, reads, discards and zeroes, on block boundaries and off', async (context) => {
    requires(context, 'qemu-io');
    const steps = [
      ['write -P 0x5a 0 1M', 'read -P 0x5a 0 1M'],
      ['write -f -P 0x11 1000 3000', 'read -P 0x11 1000 3000', 'read -P 0x5a 0 1000'],
      ['write -z 4096 65536', 'read -P 0 4096 65536', 'read -P 0x5a 69632 4096'],
      ['write -z -u 128k 64k', 'read -P 0 128k 64k'],
      ['discard 256k 256k', 'read -P 0 256k 256k', 'flush'],
    ].flat();
    const output = await check('qemu-io', [
      ...['-f', 'raw'],
      ...steps.flatMap((step) => ['-c', step]),
      uri(transport, 'ram'),
    ]);
    expect(output).not.toMatch(/verification failed|error/i);
  });

  test.for(['randwrite', 'write'] as const)(
    'fio verifies what it wrote with %s',
    async (rw, context) => {
      requires(context, 'fio');
      const result = await runFio({
        uri: uri(transport, 'ram'),
        rw,
        blockBytes: rw === 'write' ? 256 * 1024 : 4096,
        depth: 32,
        sizeBytes: 24 * MIB,
        verify: true,
      });
      expect(result.totalErrors).toBe(0);
      expect(result.read.ios).toBeGreaterThan(0);
    },
  );

  test('a read-only export refuses qemu-io and stays readable', async (context) => {
    requires(context, 'qemu-io');
    const name = uri(transport, 'fixed');
    const write = await runProcess({
      command: 'qemu-io',
      args: ['-f', 'raw', '-c', 'write 0 4k', name],
    });
    expect(`${write.stdout}${write.stderr}`).toMatch(/read.?only|permission denied/i);
    await check('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 0 0 4k', name]);
  });
});

test('nbd-client lists the exports', async (context) => {
  requires(context, 'nbd-client');
  const listed = await check('nbd-client', ['-l', '127.0.0.1', String(port)]);
  for (const { name } of exports) expect(listed).toContain(name);
});

test('qemu-nbd lists the exports', async (context) => {
  requires(context, 'qemu-nbd');
  const listed = await check('qemu-nbd', ['-L', '-k', socket]);
  for (const { name } of exports) expect(listed).toContain(name);
});

describe('libnbd without its own checks', () => {
  /** Each line is an attempt of which the errno is printed, "ok" when there is none. */
  function attempts(name: string, lines: readonly string[]): Promise<string[]> {
    const script = `
import errno
h.set_strict_mode(0)
h.connect_uri("${uri('unix', name)}")
def attempt(f):
    try:
        f()
        print("ok")
    except nbd.Error as e:
        print(e.errno)
${lines.map((line) => `attempt(lambda: ${line})`).join('\n')}
attempt(lambda: h.pread(512, 0))
h.shutdown()
`;
    return nbdsh(script).then((output) => output.trim().split('\n'));
  }

  test('what is not a multiple of the negotiated minimum is EINVAL', async (context) => {
    requires(context, 'nbdsh');
    const lines = ['h.pread(100, 0)', 'h.pwrite(b"x" * 512, 1)', 'h.trim(512, 7)', 'h.zero(1, 0)'];
    // nbdsh negotiates the block sizes.
    expect(await attempts('ram', lines)).toEqual([...Array(4).fill('EINVAL'), 'ok']);
  });

  test('what is beyond the end is EINVAL to read and ENOSPC to write', async (context) => {
    requires(context, 'nbdsh');
    const lines = [
      `h.pread(512, ${SIZE})`,
      `h.trim(512, ${SIZE})`,
      `h.pwrite(b"x" * 512, ${SIZE})`,
      `h.zero(512, ${SIZE})`,
    ];
    const expected = ['EINVAL', 'EINVAL', 'ENOSPC', 'ENOSPC', 'ok'];
    expect(await attempts('ram', lines)).toEqual(expected);
  });

  test('what writes to a read-only export is EPERM', async (context) => {
    requires(context, 'nbdsh');
    const lines = ['h.pwrite(b"x" * 512, 0)', 'h.trim(512, 0)', 'h.zero(512, 0)', 'h.flush()'];
    const expected = ['EPERM', 'EPERM', 'EPERM', 'ok', 'ok'];
    expect(await attempts('fixed', lines)).toEqual(expected);
  });

  test('unknown flags, block status without a context and long reads are EINVAL', async (context) => {
    requires(context, 'nbdsh');
    const lines = [
      'h.pread(512, 0, 0x80)',
      'h.pwrite(b"x" * 512, 0, 0x1000)',
      'h.block_status(512, 0, lambda *a: 0)',
      `h.pread(${33 * MIB}, 0)`,
      'h.pread(512, 0, 1)',
    ];
    const expected = ['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'ok', 'ok'];
    expect(await attempts('ram', lines)).toEqual(expected);
  });

  test('requests of length zero succeed', async (context) => {
    requires(context, 'nbdsh');
    const lines = ['h.pread(0, 0)', 'h.pwrite(b"", 0)', 'h.trim(0, 0)', 'h.zero(0, 0)'];
    expect(await attempts('ram', lines)).toEqual(Array(5).fill('ok'));
  });

  test('64 requests at a time, answered in any order, carry the right data', async (context) => {
    requires(context, 'nbdsh');
    const output = await nbdsh(`
h.connect_uri("${uri('unix', 'ram')}")
bufs = []
for i in range(64):
    data = bytearray([i]) * 65536
    h.aio_pwrite(nbd.Buffer.from_bytearray(data), i * 65536)
while h.aio_in_flight() > 0:
    h.poll(-1)
for i in range(64):
    b = nbd.Buffer(65536)
    bufs.append(b)
    h.aio_pread(b, i * 65536)
while h.aio_in_flight() > 0:
    h.poll(-1)
print(all(bufs[i].to_bytearray() == bytearray([i]) * 65536 for i in range(64)))
h.shutdown()
`);
    expect(output.trim()).toBe('True');
  });
});

test('clients that were here have left nothing behind', async () => {
  await waitFor('no connection', () => server.connections().length === 0);
  expect(pool.takenBytes).toBe(0);
});
