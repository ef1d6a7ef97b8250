import { type BlockCapabilities, NO_DEADLINE } from '../../block/device.ts';
import { seededRng } from '../../core/rng.ts';
import { ScriptedPath } from '../../testkit/scripted-path.ts';
import { VirtualClock } from '../../testkit/virtual-clock.ts';
import { MultipathDevice } from '../device.ts';
import type { MultipathOptions } from '../options.ts';

export const CAPS: BlockCapabilities = {
  sizeBytes: 1024 * 1024,
  blockBytes: 512,
  preferredBytes: 4096,
  maxIoBytes: 1024 * 1024,
  readOnly: false,
  volatileCache: true,
  fua: true,
  trim: true,
  writeZeroes: true,
  fastZero: true,
  extents: true,
  compareAndWriteBytes: 512,
  rotational: false,
};
export const NO_PATH_RETRY_MS = 10_000;

/** A promise that a test follows without waiting for it. */
export interface Seen<T> {
  state: 'open' | 'ok' | 'failed';
  error?: unknown;
  value?: T;
}

export function watch<T>(promise: Promise<T>): Seen<T> {
  const seen: Seen<T> = { state: 'open' };
  promise.then(
    (value) => Object.assign(seen, { state: 'ok', value }),
    (error) => Object.assign(seen, { state: 'failed', error }),
  );
  return seen;
}

export function block(fill: number, bytes = 4096): Buffer {
  return Buffer.alloc(bytes, fill);
}

/** A volume over paths whose every I/O waits until the test decides its fate. */
export class VolumeRig {
  readonly clock = new VirtualClock();
  readonly volume: MultipathDevice;

  constructor(over: Partial<MultipathOptions> = {}) {
    this.volume = new MultipathDevice({
      name: 'v',
      caps: CAPS,
      clock: this.clock,
      rng: seededRng(1),
      policy: 'queue-length',
      noPathRetryMs: NO_PATH_RETRY_MS,
      noPathQueueBytes: 64 * 1024,
      probeIdleMs: 5_000,
      onPathLost: () => {},
      ...over,
    });
  }

  /** Brings a path into service; a slot whose path was lost must be fenced first. */
  add(slot: number, caps = CAPS): ScriptedPath {
    const path = new ScriptedPath(`${slot}`, caps);
    this.volume.addPath(slot, path, { portal: `p${slot}`, worker: `w${slot}` });
    return path;
  }

  settle(): Promise<void> {
    return this.clock.advance(0);
  }

  write(fill = 1, offset = 0): Seen<void> {
    return watch(this.volume.write(offset, block(fill), 0, NO_DEADLINE));
  }

  /** A flush that the target carries out over `path`. */
  async flush(path: ScriptedPath): Promise<Seen<void>> {
    const flush = watch(this.volume.flush(NO_DEADLINE));
    await this.settle();
    path.take().resolve();
    await this.settle();
    return flush;
  }
}
