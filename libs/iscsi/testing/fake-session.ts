import { expect } from 'vitest';
import { NO_DEADLINE } from '../../block/device.ts';
import { OrionError } from '../../core/errors.ts';
import { seededRng } from '../../core/rng.ts';
import { ANY_ACCESS } from '../../multipath/access.ts';
import { quirksOf } from '../../scsi/quirks.ts';
import { VirtualClock } from '../../testkit/virtual-clock.ts';
import { makeIsid } from '../isid.ts';
import { IscsiLun } from '../lun.ts';
import type { LunFacts } from '../lun-facts.ts';
import { openSession } from '../open-session.ts';
import type { ScsiCommand } from '../pdu/index.ts';
import { Opcode } from '../pdu/opcodes.ts';
import type { IscsiSession } from '../session.ts';
import type { OpenSessionOptions } from '../session-options.ts';
import { FakeTarget, settle } from './fake-target.ts';

export const TARGET = 'iqn.2026-11.lab:disk1';
export const LUN = Buffer.from('0001000000000000', 'hex');

export const facts: LunFacts = {
  identity: { wwid: 'naa:1', vendor: 'V', product: 'P', revision: '1' },
  caps: {
    sizeBytes: 1 << 30,
    blockBytes: 512,
    preferredBytes: 4096,
    maxIoBytes: 1 << 25,
    readOnly: false,
    volatileCache: true,
    fua: true,
    trim: true,
    writeZeroes: true,
    fastZero: true,
    extents: false,
    compareAndWriteBytes: 4096,
    rotational: false,
  },
  dpoFua: true,
  commandBytes: 1 << 20,
  unmapBlocks: 1000,
  unmapGranularityBlocks: 1,
  unmapAlignmentBlock: 0,
  writeSameBlocks: 1000,
  writeSameUnmap: true,
  writeSame10Unmap: true,
  readsZeroes: true,
  quirks: quirksOf({ vendor: 'V', product: 'P', revision: '1' }),
  tpgs: 0,
  port: { relativePort: null, group: null },
  access: ANY_ACCESS,
  copyDesignator: null,
};

/** What a session on `target` is opened with in tests. */
export function openOptions(target: FakeTarget, clock: VirtualClock): OpenSessionOptions {
  return {
    network: target,
    clock,
    rng: seededRng(7),
    portals: [{ kind: 'tcp', host: 'fake', port: 3260 }],
    targetName: TARGET,
    initiatorName: 'iqn.2026-11.lab:me',
    isid: makeIsid('test', TARGET, 3),
  };
}

export interface Rig {
  readonly target: FakeTarget;
  readonly clock: VirtualClock;
  readonly session: IscsiSession;
  readonly lun: IscsiLun;
  /** SCSI commands in the order of arrival. */
  commands(): ScsiCommand[];
}

/** A session with a fake target and a LUN on it, without the questions of an attach. */
export async function rig(
  setUp: (target: FakeTarget) => void = () => {},
  options: Partial<OpenSessionOptions> = {},
  over: Partial<LunFacts> = {},
): Promise<Rig> {
  const target = new FakeTarget();
  setUp(target);
  const clock = new VirtualClock();
  const session = await openSession({ ...openOptions(target, clock), ...options });
  const lun = new IscsiLun(session, LUN, { ...facts, ...over });
  await settle();
  return {
    target,
    clock,
    session,
    lun,
    commands: () => target.of(Opcode.ScsiCommand).map((received) => received.pdu),
  };
}

/** What became of a promise, as something to compare. */
export function watch(promise: Promise<unknown>): { state: string; error: OrionError | null } {
  const seen: { state: string; error: OrionError | null } = { state: 'pending', error: null };
  promise.then(
    () => {
      seen.state = 'done';
    },
    (error: unknown) => {
      expect(error).toBeInstanceOf(OrionError);
      seen.error = error as OrionError;
      seen.state = seen.error.outcome;
    },
  );
  return seen;
}

export function pattern(bytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
}

export const read = (r: Rig, offset: number, into: Buffer) =>
  watch(r.lun.read(offset, into, NO_DEADLINE));
export const write = (r: Rig, offset: number, from: Buffer, flags = 0) =>
  watch(r.lun.write(offset, from, flags, NO_DEADLINE));

export async function lastCommand(r: Rig) {
  await settle();
  return r.commands().at(-1)!;
}
