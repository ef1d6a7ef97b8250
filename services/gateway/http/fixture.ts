import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { BlockCapabilities, BlockDevice } from '#block/device.ts';
import { type Clock, systemClock } from '#core/clock.ts';
import { createLogger } from '#telemetry/log.ts';
import { MetricsRegistry } from '#telemetry/metrics.ts';
import type { TraceSampler } from '#telemetry/traces.ts';
import { startProcess } from '#testkit/process.ts';
import { BufferPool } from '#wire/buffer-pool.ts';
import manifest from '../../../package.json' with { type: 'json' };
import type { HttpLimits } from './limits.ts';
import { createHttpServer } from './server.ts';
import type { VolumeHandle, VolumeInfo } from './volumes.ts';

/** For the tests of the HTTP door: a server over devices in memory. */

export const BLOCK_BYTES = 512;

const CAPS: Omit<BlockCapabilities, 'sizeBytes'> = {
  blockBytes: BLOCK_BYTES,
  preferredBytes: 4096,
  maxIoBytes: 1024 * 1024,
  readOnly: false,
  volatileCache: true,
  fua: true,
  trim: true,
  writeZeroes: true,
  fastZero: false,
  extents: false,
  compareAndWriteBytes: 0,
  rotational: false,
};

export interface RamDevice extends BlockDevice {
  readonly data: Buffer;
  /** What was called, in order: "write 0+4096 fua". */
  readonly calls: string[];
  inflight: number;
  inflightMax: number;
  /** Runs before each I/O; what it rejects with is the I/O's error. */
  before: (op: string, offset: number, length: number) => Promise<void> | void;
}

/** Every 32-bit word says where it stands. */
function patterned(sizeBytes: number): Buffer {
  const words = new Uint32Array(Math.ceil(sizeBytes / 4));
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 0x9e3779b1);
  return Buffer.from(words.buffer, 0, sizeBytes);
}

export function ramDevice(sizeBytes: number, caps: Partial<BlockCapabilities> = {}): RamDevice {
  const data = patterned(sizeBytes);
  const unsupported = (): Promise<never> => Promise.reject(new Error('not part of the fixture'));
  const run = async (
    text: string,
    op: string,
    offset: number,
    length: number,
    action: () => void,
  ): Promise<void> => {
    device.calls.push(text);
    device.inflight += 1;
    device.inflightMax = Math.max(device.inflightMax, device.inflight);
    try {
      await device.before(op, offset, length);
      action();
    } finally {
      device.inflight -= 1;
    }
  };
  const device: RamDevice = {
    name: 'ram',
    caps: { ...CAPS, sizeBytes, ...caps },
    data,
    calls: [],
    inflight: 0,
    inflightMax: 0,
    before: () => undefined,
    read: (offset, into) =>
      run(`read ${offset}+${into.length}`, 'read', offset, into.length, () =>
        data.copy(into, 0, offset, offset + into.length),
      ),
    write: (offset, from, flags) =>
      run(
        `write ${offset}+${from.length}${flags === 1 ? ' fua' : ''}`,
        'write',
        offset,
        from.length,
        () => from.copy(data, offset),
      ),
    flush: () => run('flush', 'flush', 0, 0, () => undefined),
    trim: (offset, length) =>
      run(`trim ${offset}+${length}`, 'trim', offset, length, () => undefined),
    writeZeroes: (offset, length) =>
      run(`zero ${offset}+${length}`, 'zero', offset, length, () =>
        data.fill(0, offset, offset + length),
      ),
    extents: unsupported,
    compareAndWrite: unsupported,
    close: () => Promise.resolve(),
  };
  return device;
}

export interface Fixture extends AsyncDisposable {
  readonly app: FastifyInstance;
  readonly device: RamDevice;
  readonly pool: BufferPool;
  readonly port: number;
  readonly base: string;
  readonly dataUrl: string;
  ready: boolean;
}

export interface FixtureOptions {
  readonly sizeBytes?: number;
  readonly caps?: Partial<BlockCapabilities>;
  readonly limits?: Partial<HttpLimits>;
  readonly sampler?: TraceSampler;
  readonly clock?: Clock;
  readonly info?: VolumeInfo;
  /** False: the test opens the server itself. */
  readonly listen?: boolean;
}

/** A server on a free port of loopback with one volume, "vol1", in memory. */
export async function startFixture(options: FixtureOptions = {}): Promise<Fixture> {
  const clock = options.clock ?? systemClock;
  const device = ramDevice(options.sizeBytes ?? 1024 * 1024, options.caps);
  const pool = new BufferPool({ checkOwnership: true });
  const volume: VolumeHandle = {
    name: 'vol1',
    description: 'a disk in memory',
    device,
    state: 'active',
    info: () => options.info ?? {},
  };
  const fixture = { ready: true };
  const app = createHttpServer({
    volumes: {
      list: () => [volume],
      get: (name) => (name === volume.name ? volume : undefined),
      isStarting: (name) => name === 'starting',
    },
    pool,
    clock,
    metrics: new MetricsRegistry(clock),
    log: createLogger({ level: 'silent', pretty: false, name: 'test' }),
    readiness: () => ({
      ready: fixture.ready,
      checks: [
        { name: 'bus', ok: true },
        { name: 'workers', ok: fixture.ready, detail: 'none is alive' },
      ],
    }),
    status: () => Promise.resolve({ node: 'n1' }),
    version: manifest.version,
    limits: { closeGraceMs: 1000, ...options.limits },
    ...(options.sampler === undefined ? {} : { sampler: options.sampler }),
  });
  if (options.listen !== false) await app.listen({ host: '127.0.0.1', port: 0 });
  const port = (app.server.address() as AddressInfo | null)?.port ?? 0;
  const base = `http://127.0.0.1:${port}`;
  return Object.assign(fixture, {
    app,
    device,
    pool,
    port,
    base,
    dataUrl: `${base}/v1/volumes/vol1/data`,
    [Symbol.asyncDispose]: () => app.close(),
  });
}

/** A socket file that nobody serves any more, as after a crash. */
export async function leaveSocketBehind(path: string): Promise<void> {
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  const { exited } = await startProcess({ command: process.execPath, args: ['-e', script] });
  await exited;
}
