import { beforeAll, describe, expect, test } from 'vitest';
import { At, BHS_BYTES, Bit, padOf, u24 } from '#iscsi/pdu/bhs.ts';
import { nameOf, Opcode } from '#iscsi/pdu/opcodes.ts';
import { type HostileOptions, hostileSession, type ReadCheck } from './hostile-session.ts';
import { flipping, onlyTo, recording, type Tamper, truncating } from './tampering-network.ts';

/**
 * A whole session, from the login to the logout, is recorded once; then it is lived through again for each byte of
 * what the target said: cut off there, and with that byte changed. Nothing of it may crash, hang, write beside a
 * buffer or give a command back twice, and what was not changed has to arrive as it is.
 */

const DIGEST_BYTES = 4;
/** Thousands of sessions in one test: a slow machine takes long for them. */
const TEST_TIMEOUT_MS = 1_800_000;

interface Place {
  readonly opcode: number;
  /** From the start of the PDU; data begin at 48, or at 52 behind a digest. */
  readonly at: number;
  readonly isData: boolean;
}

/** Which PDU each byte of a target's stream belongs to. */
function places(stream: Buffer, digests: boolean): Place[] {
  const found: Place[] = [];
  let sealed = false;
  for (let start = 0; start < stream.length; ) {
    const opcode = stream[start]! & Bit.opcodeMask;
    const length = u24(stream, start + At.dataSegmentLength);
    const extra = sealed ? DIGEST_BYTES : 0;
    const tail = length === 0 ? 0 : length + padOf(length) + extra;
    const bytes = BHS_BYTES + extra + tail;
    for (let at = 0; at < bytes; at++) {
      const isData = at >= BHS_BYTES + extra && at < BHS_BYTES + extra + length;
      found.push({ opcode, at, isData });
    }
    // Digests begin behind the response that goes to full feature phase (§6.3).
    const flags = stream[start + At.flags]!;
    const isLast = opcode === Opcode.LoginResponse && (flags & 0x83) === 0x83;
    sealed ||= isLast && digests;
    start += bytes;
  }
  return found;
}

const where = ({ opcode, at }: Place): string => `${nameOf(Opcode, opcode)} byte ${at}`;

/** A session with recovery is long, and lived through for every so many bytes, another bit of each. */
const RECOVERY_STEP_BYTES = 5;

/** Everything that one run told that may not be. */
async function wrongs(
  tamper: Tamper,
  options: HostileOptions,
  isExcused: (check: ReadCheck) => boolean = () => false,
): Promise<string[]> {
  const { faults, wrongReads, lostWrites } = await hostileSession(tamper, options);
  const reads = wrongReads.filter((check) => !isExcused(check)).map(({ what }) => what);
  return [...faults, ...lostWrites, ...reads];
}

const ENDS = ['close', 'reset', 'silence'] as const;

describe.each<HostileOptions>([
  { work: 'transfers', digests: false },
  { work: 'transfers', digests: true },
  { work: 'attach', digests: false },
])('a session with $work, digests: $digests', (options) => {
  const { work, digests } = options;
  let map: Place[];
  /** Of the two without digests one is enough for the login. */
  let from = 0;

  beforeAll(async () => {
    const chunks: Buffer[] = [];
    const tamper = recording((bytes) => chunks.push(Buffer.from(bytes)));
    const plain = await hostileSession(tamper, options);
    expect(plain).toMatchObject({ faults: [], wrongReads: [], lostWrites: [], failed: 0 });
    expect(plain).toMatchObject(work === 'attach' ? { attached: true } : { succeeded: 7 });
    const stream = Buffer.concat(chunks);
    map = places(stream, digests);
    expect(map).toHaveLength(stream.length);
    if (work === 'attach') from = map.findIndex(({ opcode }) => opcode !== Opcode.LoginResponse);
    const kinds = new Set(map.map(({ opcode }) => opcode));
    const wanted =
      work === 'attach'
        ? [Opcode.LoginResponse, Opcode.DataIn, Opcode.ScsiResponse, Opcode.LogoutResponse]
        : [Opcode.DataIn, Opcode.R2t, Opcode.NopIn, Opcode.TaskManagementResponse];
    for (const opcode of wanted) expect(kinds).toContain(opcode);
  });

  test(
    'that ends after any byte loses what was not answered, and nothing else',
    async () => {
      const wrong: string[] = [];
      for (let at = Math.max(from, 1); at < map.length; at++) {
        const end = ENDS[at % ENDS.length]!;
        const told = await wrongs(truncating(at, end), options);
        if (told.length > 0) wrong.push(`${end} after ${at} bytes: ${told.join(', ')}`);
      }
      expect(wrong).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'in which any byte is changed fails with an error, or succeeds with what is right',
    async () => {
      const wrong: string[] = [];
      for (let at = from; at < map.length; at++) {
        const place = map[at]!;
        // Without digests nobody can tell that payload was changed: then it is that byte of it, and no other.
        const isPayload = !digests && place.opcode === Opcode.DataIn && place.isData;
        const isExcused = ({ got, expected }: ReadCheck): boolean =>
          isPayload && got.filter((byte, i) => byte !== expected[i]).length === 1;
        // One bit, another one for each byte; or all of them.
        const mask = at % 9 === 8 ? 0xff : 1 << (at % 9);
        const told = await wrongs(flipping(at, mask), options, isExcused);
        if (told.length > 0) wrong.push(`${where(place)}: ${told.join(', ')}`);
      }
      expect(wrong).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );
});

/** How many of the sessions have to go on as if nothing had happened. At level 1 that takes a second connection. */
interface Survives {
  readonly cut: number;
  readonly damage: number;
}

/** A connection of which the target says less had no part in the work. */
const LENGTH_MIN = 800;

describe.each<HostileOptions & Survives>([
  {
    work: 'transfers',
    digests: true,
    level: 1,
    connections: 1,
    fastAbort: true,
    cut: 0,
    damage: 0.5,
  },
  {
    work: 'transfers',
    digests: true,
    level: 2,
    connections: 1,
    fastAbort: true,
    cut: 0.7,
    damage: 0.7,
  },
  {
    work: 'transfers',
    digests: true,
    level: 2,
    connections: 2,
    fastAbort: false,
    cut: 0.7,
    damage: 0.7,
  },
])('a session at level $level over $connections connections', ({ cut, damage, ...options }) => {
  const { connections } = options;
  let lengths: number[];

  beforeAll(async () => {
    lengths = Array.from({ length: connections! }, () => 0);
    const tamper = recording((bytes, connection) => {
      lengths[connection]! += bytes.length;
    });
    const plain = await hostileSession(tamper, options);
    expect(plain).toMatchObject({ faults: [], wrongReads: [], lostWrites: [], failed: 0 });
    expect(plain.succeeded).toBe(7);
    for (const length of lengths) expect(length).toBeGreaterThan(LENGTH_MIN);
  });

  /** Runs it for one byte of each connection after the other; returns what was wrong, and how often all went well. */
  async function each(tamper: (at: number) => Tamper): Promise<{ wrong: string[]; well: number }> {
    const wrong: string[] = [];
    let runs = 0;
    let well = 0;
    for (const [which, length] of lengths.entries()) {
      for (let at = 1 + which; at < length; at += RECOVERY_STEP_BYTES) {
        const seen = await hostileSession(onlyTo(which, tamper(at)), options);
        const told = [...seen.faults, ...seen.lostWrites, ...seen.wrongReads.map((r) => r.what)];
        if (told.length > 0) wrong.push(`connection ${which}, byte ${at}: ${told.join(', ')}`);
        runs += 1;
        if (seen.failed === 0 && seen.succeeded === 7) well += 1;
      }
    }
    return { wrong, well: well / runs };
  }

  test(
    'of which one ends after any byte loses nothing that was answered, and at level 2 goes on',
    async () => {
      const { wrong, well } = await each((at) => truncating(at, ENDS[at % ENDS.length]!));
      expect(wrong).toEqual([]);

      expect(well).toBeGreaterThanOrEqual(cut);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'of which one has any byte changed finds it out, and goes on where it can',
    async () => {
      const { wrong, well } = await each((at) => flipping(at, 1 << (at & 7)));
      expect(wrong).toEqual([]);

      expect(well).toBeGreaterThanOrEqual(damage);
    },
    TEST_TIMEOUT_MS,
  );
});
