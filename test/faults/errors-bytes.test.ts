import { beforeAll, describe, expect, test } from 'vitest';
import { At, BHS_BYTES, Bit, padOf, u24 } from '#iscsi/pdu/bhs.ts';
import { nameOf, Opcode } from '#iscsi/pdu/opcodes.ts';
import { type HostileOptions, hostileSession, type ReadCheck } from './hostile-session.ts';
import { flipping, recording, type Tamper, truncating } from './tampering-network.ts';

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
