import { expect } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { systemClock } from '#core/clock.ts';
import { isOrionError, type OrionError } from '#core/errors.ts';
import { seededRng, systemRng } from '#core/rng.ts';
import { makeIsid } from '#iscsi/isid.ts';
import type { IscsiLun } from '#iscsi/lun.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import type { OpenSessionOptions } from '#iscsi/session-options.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { parseAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';

/** Sessions of our initiator with a real target over a real network, and a check of the data. */

const INITIATOR = 'iqn.2026-11.lab:initiator';
const LOGOUT_MS = 10_000;
/** A target in a virtual machine may stand still for a while on a machine that is busy: that is no reason to give it up. */
const PATIENT = { connectMs: 30_000, loginMs: 60_000, nopTimeoutMs: 30_000 };

export interface RealTarget {
  readonly portals: readonly string[];
  readonly targetName: string;
}

/** `slot` makes the ISID: the same slot reinstates, another is another nexus. */
export function sessionOptions(
  target: RealTarget,
  slot: number,
  over: Partial<OpenSessionOptions> = {},
): OpenSessionOptions {
  return {
    network: nodeNetwork,
    clock: systemClock,
    rng: systemRng,
    portals: target.portals.map((portal) => parseAddress(portal)!),
    targetName: target.targetName,
    initiatorName: INITIATOR,
    isid: makeIsid('interop', target.targetName, slot),
    timeouts: PATIENT,
    ...over,
  };
}

/** Runs `body` with a session, and ends that in good order, or at once when `body` fails. */
export async function withSession<T>(
  options: OpenSessionOptions,
  body: (session: IscsiSession) => Promise<T>,
): Promise<T> {
  const session = await openSession(options);
  try {
    const result = await body(session);
    await session.logout({ timeoutMs: LOGOUT_MS });
    return result;
  } finally {
    session.destroy(new Error('the test is over'));
  }
}

export async function failureOf(promise: Promise<unknown>): Promise<OrionError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(isOrionError(error), String(error)).toBe(true);
  return error as OrionError;
}

export interface Written {
  readonly offset: number;
  readonly data: Buffer;
}

/** Writes each size at a place of its own, all at once, and reads them back the same way. */
export async function writeAndRead(
  session: IscsiSession,
  lunNumber: number,
  sizes: readonly number[],
  seed: number,
): Promise<Written[]> {
  const lun = await attachLun(session, lunFromNumber(lunNumber));
  const rng = seededRng(seed);
  let offset = 0;
  const written = sizes.map((bytes) => {
    const data = Buffer.alloc(bytes);
    rng.fill(data);
    const at = offset;
    offset += bytes;
    return { offset: at, data };
  });
  await Promise.all(written.map((piece) => lun.write(piece.offset, piece.data, 0, NO_DEADLINE)));
  await expectData(lun, written);
  return written;
}

/** Reads through another session what was written through the first. */
export async function readThrough(
  session: IscsiSession,
  lunNumber: number,
  written: readonly Written[],
): Promise<void> {
  await expectData(await attachLun(session, lunFromNumber(lunNumber)), written);
}

async function expectData(lun: IscsiLun, written: readonly Written[]): Promise<void> {
  await Promise.all(
    written.map(async ({ offset, data }) => {
      const into = Buffer.alloc(data.length, 0xee);
      await lun.read(offset, into, NO_DEADLINE);
      expect(into.equals(data), `${data.length} bytes at ${offset}`).toBe(true);
    }),
  );
}
