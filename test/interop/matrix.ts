import { afterAll, expect, test } from 'vitest';
import type { ChapOptions } from '#iscsi/chap.ts';
import { IssuedChallenges } from '#iscsi/chap-challenges.ts';
import type { ChapAlgorithm } from '#iscsi/chap-digest.ts';
import { ConnectionState } from '#iscsi/connection-state.ts';
import type { Params } from '#iscsi/keys.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import type { OpenSessionOptions } from '#iscsi/session-options.ts';
import { Secret } from '#security/secret.ts';
import { waitFor } from '#testkit/wait.ts';
import { algorithmNumber, LoginSpy } from './login-spy.ts';
import {
  failureOf,
  type RealTarget,
  readThrough,
  sessionOptions,
  withSession,
  writeAndRead,
} from './real-session.ts';

/**
 * All combinations of what a login agrees on, against one target. Each row logs in, checks what was agreed on, writes a
 * pattern, reads it back, and reads it once more through another session. What a target does not offer is a row too,
 * with its reason: it is asked for, and has to be answered as the table says.
 */

export const OURS = { user: 'alice', password: 'alice-has-a-secret' };
export const THEIRS = { user: 'storage', password: 'storage-has-another' };

const KIB = 1024;

/** Below and above what the first burst carries, and more than one R2T brings. */
const SIZES = [512, 4 * KIB, 15 * KIB + 512, 17 * KIB, 65 * KIB, 129 * KIB + 512];
const FIRST_BURST_BYTES = 16 * KIB;
const BURST_BYTES = 64 * KIB;

const DIGESTS = [
  ['None', 'None'],
  ['CRC32C', 'None'],
  ['None', 'CRC32C'],
  ['CRC32C', 'CRC32C'],
] as const;

const BOTH = [true, false];

/** One way and mutual with MD5; the others are mutual, with the algorithm that they are named after. */
const CHAP_KINDS = ['none', 'one-way', 'mutual', 'sha256', 'sha1', 'sha3-256'] as const;
export type ChapKind = (typeof CHAP_KINDS)[number];

/** These two are tried in one row each, the other kinds in every combination. */
const CHAP_ONCE: readonly ChapKind[] = ['sha1', 'sha3-256'];

const CONNECTIONS = [1, 4];
const LEVELS = [0, 1, 2] as const;
type Level = (typeof LEVELS)[number];

export interface Row {
  readonly header: (typeof DIGESTS)[number][0];
  readonly data: (typeof DIGESTS)[number][1];
  readonly chap: ChapKind;
  readonly initialR2T: boolean;
  readonly immediateData: boolean;
  readonly connections: number;
  readonly level: Level;
}

/** Something that this target does not do, and why. */
export type NotOffered = { readonly row: Partial<Row>; readonly reason: string } & (
  | { /** What was agreed on instead. */ readonly agreed: Partial<Row> }
  | { /** The error that ends the login. */ readonly fails: RegExp }
);

/** Combinations that work neither here nor elsewhere with this target, and why. We never ask for them by ourselves. */
export interface Avoided {
  readonly row: Partial<Row>;
  readonly reason: string;
}

export interface Matrix {
  readonly chap: readonly ChapKind[];
  readonly initialR2T: readonly boolean[];
  readonly connections: readonly number[];
  readonly levels: readonly Level[];
  readonly notOffered: readonly NotOffered[];
  readonly avoided?: readonly Avoided[];
  /** How many rows that makes: the table cannot shrink unseen. */
  readonly rows: number;
  readonly lun: number;
  /** Rows that may run at the same time, each on a lane of its own; 1 when left out. */
  readonly lanes?: number;
  /** The target, or the portal group of it, that authenticates in this way. */
  target(chap: ChapKind, lane: number): RealTarget;
}

const challenges = new IssuedChallenges();

function chapOptions(kind: ChapKind): ChapOptions | undefined {
  if (kind === 'none') return undefined;
  const own = { user: OURS.user, secret: new Secret(OURS.password), challenges };
  if (kind === 'one-way') return { ...own, algorithms: ['md5'] };
  const mutual = { user: THEIRS.user, secret: new Secret(THEIRS.password) };
  if (kind === 'mutual') return { ...own, mutual, algorithms: ['md5'] };
  // Ours is the order of preference.
  return { ...own, mutual, algorithms: [kind, 'md5'] };
}

function algorithmOf(kind: ChapKind): ChapAlgorithm {
  return kind === 'one-way' || kind === 'mutual' || kind === 'none' ? 'md5' : kind;
}

const BASE: Row = {
  ...{ header: 'None', data: 'None', chap: 'none', initialR2T: true, immediateData: true },
  ...{ connections: 1, level: 0 },
};

function matches(row: Row, pattern: Partial<Row>): boolean {
  return Object.entries(pattern).every(([key, value]) => row[key as keyof Row] === value);
}

/** Every combination of what the target offers. */
function rowsOf(matrix: Matrix): Row[] {
  const isAvoided = (row: Row) => matrix.avoided?.some((avoided) => matches(row, avoided.row));
  return allRowsOf(matrix).filter((row) => !isAvoided(row));
}

function allRowsOf(matrix: Matrix): Row[] {
  const once = matrix.chap.filter((chap) => CHAP_ONCE.includes(chap));
  const always = matrix.chap.filter((chap) => !CHAP_ONCE.includes(chap));
  return [
    ...always.flatMap((chap) =>
      matrix.connections.flatMap((connections) =>
        matrix.levels.flatMap((level) =>
          DIGESTS.flatMap(([header, data]) =>
            matrix.initialR2T.flatMap((initialR2T) =>
              BOTH.map((immediateData) => ({
                ...{ header, data, chap, initialR2T, immediateData, connections, level },
              })),
            ),
          ),
        ),
      ),
    ),
    ...once.map((chap) => ({ ...BASE, chap })),
  ];
}

function wanted(row: Row): Partial<Params> {
  return {
    HeaderDigest: row.header,
    DataDigest: row.data,
    InitialR2T: row.initialR2T,
    ImmediateData: row.immediateData,
    FirstBurstLength: FIRST_BURST_BYTES,
    MaxBurstLength: BURST_BYTES,
  };
}

function optionsOf(target: RealTarget, row: Row, spy: LoginSpy): OpenSessionOptions {
  return sessionOptions(target, 1, {
    network: spy,
    authentication: chapOptions(row.chap),
    connections: row.connections,
    errorRecoveryLevel: row.level,
    params: wanted(row),
  });
}

/** What was agreed on, as a row. */
function agreedOn(session: IscsiSession, chap: ChapKind): Row {
  const { params } = session.login;
  return {
    header: params.HeaderDigest as Row['header'],
    data: params.DataDigest as Row['data'],
    chap,
    initialR2T: params.InitialR2T,
    immediateData: params.ImmediateData,
    connections: params.MaxConnections,
    level: params.ErrorRecoveryLevel as Level,
  };
}

function titleOf(row: Row): string {
  const digests = `${row.header === 'None' ? '-' : 'header'}/${row.data === 'None' ? '-' : 'data'}`;
  const sending = `InitialR2T=${row.initialR2T ? 'Yes' : 'No'} ImmediateData=${row.immediateData ? 'Yes' : 'No'}`;
  return `digests ${digests}, CHAP ${row.chap}, ${sending}, ${row.connections} connections, level ${row.level}`;
}

let seed = 1;

async function check(matrix: Matrix, lane: Lane, row: Row, agreed: Row): Promise<void> {
  const spy = new LoginSpy();
  const target = matrix.target(row.chap, lane.number);
  await withSession(optionsOf(target, row, spy), async (session) => {
    expect(agreedOn(session, agreed.chap)).toEqual(agreed);
    expectAuthentication(spy, agreed.chap);
    await connected(session, agreed.connections);
    const written = await writeAndRead(session, matrix.lun, SIZES, seed++);
    await readThrough(await lane.reader(target, agreed.chap), matrix.lun, written);
  });
}

/** All connections of the session carry commands. */
async function connected(session: IscsiSession, count: number): Promise<void> {
  await waitFor(`${count} connections`, () => {
    const open = session.connections().filter(({ state }) => state === ConnectionState.LoggedIn);
    return open.length === count;
  });
  expect(session.state).toBe('open');
}

function expectAuthentication(spy: LoginSpy, kind: ChapKind): void {
  const methods = spy.answers('AuthMethod');
  const chosen = spy.answers('CHAP_A');
  if (kind === 'none') {
    expect(methods.filter((method) => method !== 'None')).toEqual([]);
    expect(chosen).toEqual([]);
    return;
  }
  expect(new Set(methods)).toEqual(new Set(['CHAP']));
  expect(new Set(chosen)).toEqual(new Set([algorithmNumber(algorithmOf(kind))]));
  // Only in mutual authentication the target answers a challenge of ours.
  expect(spy.answers('CHAP_N').length > 0).toBe(kind !== 'one-way');
}

/** Where one row at a time runs, with the sessions through which what was written is read once more. */
class Lane {
  readonly number: number;
  readonly #readers = new Map<string, Promise<IscsiSession>>();

  constructor(number: number) {
    this.number = number;
  }

  /** Of another slot than the rows, and without anything special. One for all rows of a target. */
  reader(target: RealTarget, chap: ChapKind): Promise<IscsiSession> {
    const found = this.#readers.get(target.targetName);
    if (found !== undefined) return found;
    const session = openSession(sessionOptions(target, 2, { authentication: chapOptions(chap) }));
    this.#readers.set(target.targetName, session);
    return session;
  }

  async close(): Promise<void> {
    for (const reader of this.#readers.values()) {
      (await reader).destroy(new Error('the test is over'));
    }
  }
}

class Lanes {
  readonly all: readonly Lane[];
  readonly #free: Lane[];
  readonly #waiting: ((lane: Lane) => void)[] = [];

  constructor(count: number) {
    this.all = Array.from({ length: count }, (_, number) => new Lane(number));
    this.#free = [...this.all];
  }

  async use(body: (lane: Lane) => Promise<void>): Promise<void> {
    const lane = this.#free.pop() ?? (await new Promise<Lane>((take) => this.#waiting.push(take)));
    try {
      await body(lane);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free.push(lane);
      else next(lane);
    }
  }
}

/** Defines the tests. */
export function matrixTests(name: string, matrix: Matrix): void {
  const rows = rowsOf(matrix);
  const lanes = new Lanes(matrix.lanes ?? 1);
  const define = lanes.all.length === 1 ? test : test.concurrent;

  afterAll(async () => {
    for (const lane of lanes.all) await lane.close();
  });

  test(`${name}: the table has all its rows, and what is not offered has a reason`, () => {
    expect(rows.length).toBe(matrix.rows);
    const missing = [
      ...CHAP_KINDS.filter((chap) => !matrix.chap.includes(chap)).map((chap) => ({ chap })),
      ...BOTH.filter((value) => !matrix.initialR2T.includes(value)).map((initialR2T) => ({
        initialR2T,
      })),
      ...CONNECTIONS.filter((count) => !matrix.connections.includes(count)).map((connections) => ({
        connections,
      })),
      ...LEVELS.filter((level) => !matrix.levels.includes(level)).map((level) => ({ level })),
    ];
    expect(matrix.notOffered.map(({ row }) => row)).toEqual(missing);
  });

  define.each(rows.map((row) => [titleOf(row), row] as const))(`${name}: %s`, (_, row) =>
    lanes.use((lane) => check(matrix, lane, row, row)),
  );

  for (const { row, reason } of matrix.avoided ?? []) {
    test(`${name}: avoided: ${JSON.stringify(row)}: ${reason}`, async () => {
      // What we ask for when nobody says otherwise.
      const asked = { ...BASE, ...row };
      const { params: _, ...options } = optionsOf(matrix.target('none', 0), asked, new LoginSpy());
      await withSession(options, async (session) => {
        await connected(session, asked.connections);
        const agreed = agreedOn(session, 'none');
        expect(agreed.connections).toBe(asked.connections);
        expect(matches(agreed, row)).toBe(false);
      });
    });
  }

  for (const absent of matrix.notOffered) {
    const asked = { ...BASE, ...absent.row };
    define(`${name}: not offered: ${JSON.stringify(absent.row)}: ${absent.reason}`, () =>
      lanes.use(async (lane) => {
        if ('agreed' in absent) {
          await check(matrix, lane, asked, { ...asked, ...absent.agreed });
          return;
        }
        const target = matrix.target(asked.chap, lane.number);
        const login = withSession(optionsOf(target, asked, new LoginSpy()), noop);
        expect((await failureOf(login)).describe()).toMatch(absent.fails);
      }),
    );
  }
}

async function noop(): Promise<void> {}
