import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { isOrionError, OrionError } from '../core/errors.ts';
import { type Rng, seededRng } from '../core/rng.ts';
import { Secret } from '../security/secret.ts';
import { TARGET_NAME, targetFixture } from '../testkit/target-fixture.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { ChapAuthenticator, type ChapOptions } from './chap.ts';
import { IssuedChallenges } from './chap-challenges.ts';
import {
  type ChapAlgorithm,
  chapAlgorithms,
  chapResponse,
  parseChapBinary,
} from './chap-digest.ts';
import { discover } from './discovery.ts';
import { makeIsid } from './isid.ts';
import { openSession } from './open-session.ts';
import { LoginStage, Opcode } from './pdu/opcodes.ts';
import { openOptions } from './testing/fake-session.ts';
import { FakeTarget } from './testing/fake-target.ts';
import { wires } from './testing/fake-wires.ts';
import { parseText, type TextPair } from './text.ts';

const OURS = 'initiator-secret';
const THEIRS = 'secret-of-target';
const CHALLENGE = Buffer.from(Uint8Array.from({ length: 16 }, (_, i) => i));
const hex = (bytes: Buffer) => `0x${bytes.toString('hex')}`;

function options(over: Partial<ChapOptions> = {}): ChapOptions {
  const challenges = new IssuedChallenges();
  return { user: 'alice', secret: new Secret(OURS), challenges, ...over };
}

const mutual = { user: 'storage', secret: new Secret(THEIRS) };

/** An authenticator that has sent its list. */
function begun(over: Partial<ChapOptions> = {}, rng: Rng = seededRng(1)): ChapAuthenticator {
  const chap = new ChapAuthenticator(options(over), rng);
  expect(isOrionError(chap.step('CHAP', []))).toBe(false);
  return chap;
}

const asked = (over: Record<string, string | null> = {}): TextPair[] => {
  const keys = { CHAP_A: '5', CHAP_I: '90', CHAP_C: hex(CHALLENGE), ...over };
  return Object.entries(keys).filter((pair): pair is [string, string] => pair[1] !== null);
};

function sent(step: readonly TextPair[] | OrionError): Map<string, string> {
  if (isOrionError(step)) throw step;
  return new Map(step as readonly TextPair[]);
}

function codeOf(step: readonly TextPair[] | OrionError): string {
  expect(step).toBeInstanceOf(OrionError);
  return (step as OrionError).code;
}

/** What the target would have to answer, made with any secret. */
function proof(answer: Map<string, string>, secret: string, algorithm: ChapAlgorithm = 'md5') {
  const id = Number(answer.get('CHAP_I'));
  const challenge = parseChapBinary(answer.get('CHAP_C')!)!;
  return chapResponse(algorithm, id, new Secret(secret), challenge);
}

describe('the answer to a challenge', () => {
  // Made with another implementation of the digests.
  test.each<[ChapAlgorithm, string]>([
    ['md5', '4f305ec932b9e52c8d5867a7e5032326'],
    ['sha1', '3e49fbda3d5b0e432e540f083e2174436e121054'],
    ['sha256', 'c743ea1b59561ea57083fdad1272db97ba019e01a30b8b6ab72bed501c627e5f'],
    ['sha3-256', '1c5a02ecc42e8cb4c8a91f5d525d12835a2f5ffb05ec4e4c08a39df89f131ce6'],
  ])('is the %s digest of identifier, secret and challenge', (algorithm, digest) => {
    const { number } = chapAlgorithms[algorithm];
    const answer = sent(begun().step('CHAP', asked({ CHAP_A: String(number) })));
    expect(Object.fromEntries(answer)).toEqual({ CHAP_N: 'alice', CHAP_R: `0x${digest}` });
  });

  test('is the same for a challenge in capitals, or with an identifier in hexadecimal', () => {
    const plain = sent(begun().step('CHAP', asked()));
    for (const over of [
      { CHAP_C: `0X${CHALLENGE.toString('hex').toUpperCase()}` },
      { CHAP_I: '0x5a' },
    ]) {
      expect(sent(begun().step('CHAP', asked(over)))).toEqual(plain);
    }
  });

  test('is written in base64 where the target writes its challenge so (§6.1)', () => {
    const plain = sent(begun({ mutual }).step('CHAP', asked()));
    const base64 = begun({ mutual }).step(
      'CHAP',
      asked({ CHAP_C: `0b${CHALLENGE.toString('base64')}` }),
    );
    for (const key of ['CHAP_R', 'CHAP_C']) {
      const bytes = parseChapBinary(plain.get(key)!)!;
      expect(plain.get(key)).toBe(hex(bytes));
      expect(sent(base64).get(key)).toBe(`0b${bytes.toString('base64')}`);
    }
  });

  test('is given to challenges of 1 to 1024 bytes, and to no others', () => {
    for (const bytes of [1, 1024]) {
      const challenge = hex(Buffer.alloc(bytes, 7));
      expect(sent(begun().step('CHAP', asked({ CHAP_C: challenge }))).size).toBe(2);
    }
    for (const CHAP_C of [hex(Buffer.alloc(1025)), '0x', '0b', '12', 'zz', null]) {
      expect(codeOf(begun().step('CHAP', asked({ CHAP_C })))).toBe('ISCSI_CHAP_BAD_ANSWER');
    }
  });
});

describe('the list of algorithms', () => {
  test('begins with MD5, and follows what is wished', () => {
    const list = (over: Partial<ChapOptions>) =>
      new ChapAuthenticator(options(over), seededRng(1)).step('CHAP', []);
    expect(list({})).toEqual([['CHAP_A', '5,8,7,6']]);
    expect(list({ algorithms: ['sha256', 'md5'] })).toEqual([['CHAP_A', '7,5']]);
  });

  test.each(['6', '9', 'Reject', 'None', '5,7', ''])(
    'does not hold %j, and the login fails for it',
    (CHAP_A) => {
      const chap = begun({ algorithms: ['sha256', 'md5'] });
      expect(codeOf(chap.step('CHAP', asked({ CHAP_A })))).toBe('ISCSI_CHAP_ALGORITHM');
    },
  );
});

describe('an answer that breaks the rules', () => {
  test.each<[string, TextPair[]]>([
    ['without an algorithm', asked({ CHAP_A: null })],
    ['without an identifier', asked({ CHAP_I: null })],
    ['with an identifier of two bytes', asked({ CHAP_I: '256' })],
    ['with more than was asked for', asked({ CHAP_N: 'x' })],
    ['with a key that comes twice', [...asked(), ['CHAP_I', '1']]],
  ])('%s ends the login', (_, pairs) => {
    expect(codeOf(begun().step('CHAP', pairs))).toBe('ISCSI_CHAP_BAD_ANSWER');
  });

  test('that comes before or after its time ends the login', () => {
    const early = new ChapAuthenticator(options(), seededRng(1));
    expect(codeOf(early.step('CHAP', asked()))).toBe('ISCSI_CHAP_BAD_ANSWER');
    const late = begun();
    sent(late.step('CHAP', asked()));
    expect(codeOf(late.step('CHAP', asked()))).toBe('ISCSI_CHAP_BAD_ANSWER');
  });

  test('that says nothing is waited out', () => {
    const chap = begun();
    expect(chap.step('CHAP', [])).toEqual([]);
    expect(chap.mayAskToGoOn).toBe(false);
    expect(chap.missing?.code).toBe('ISCSI_CHAP_SKIPPED');
  });
});

describe('mutual authentication', () => {
  test('is complete when the target has answered our challenge, which is as long as the digest', () => {
    const chap = begun({ mutual });
    const answer = sent(chap.step('CHAP', asked({ CHAP_A: '7' })));
    expect(parseChapBinary(answer.get('CHAP_C')!)).toHaveLength(32);
    expect(chap.mayAskToGoOn).toBe(true);
    expect(chap.missing).toMatchObject({ code: 'ISCSI_CHAP_SKIPPED' });
    expect(chap.missing?.message).toMatch(/without proving/);
    const right = proof(answer, THEIRS, 'sha256');
    const base64 = `0b${right.toString('base64')}`;
    expect(
      chap.step('CHAP', [
        ['CHAP_N', 'storage'],
        ['CHAP_R', base64],
      ]),
    ).toEqual([]);
    expect(chap.missing).toBeNull();
  });

  const mutuallyAsked = () => {
    const chap = begun({ mutual });
    const answer = sent(chap.step('CHAP', asked()));
    return { chap, answer };
  };

  test('fails for another secret, another name, and an answer of another length', () => {
    for (const [name, secret, cut] of [
      ['storage', 'some-other-secret', 16],
      ['mallory', THEIRS, 16],
      ['storage', THEIRS, 15],
    ] as const) {
      const { chap, answer } = mutuallyAsked();
      const response = hex(proof(answer, secret).subarray(0, cut));
      const step = chap.step('CHAP', [
        ['CHAP_N', name],
        ['CHAP_R', response],
      ]);
      expect(codeOf(step)).toBe('ISCSI_CHAP_TARGET_FAILED');
      expect(chap.missing).not.toBeNull();
    }
  });

  test('fails for an answer that lacks a part or has too much', () => {
    for (const keep of [['CHAP_N'], ['CHAP_R'], ['CHAP_N', 'CHAP_R', 'CHAP_C']]) {
      const { chap, answer } = mutuallyAsked();
      const all: TextPair[] = [
        ['CHAP_N', 'storage'],
        ['CHAP_R', hex(proof(answer, THEIRS))],
        ['CHAP_C', '0x00'],
      ];
      const step = chap.step(
        'CHAP',
        all.filter(([key]) => keep.includes(key)),
      );
      expect(codeOf(step)).toBe('ISCSI_CHAP_BAD_ANSWER');
    }
  });

  test('refuses the answer that our own secret makes (§9.2.1)', () => {
    const { chap, answer } = mutuallyAsked();
    const response = hex(proof(answer, OURS));
    const step = chap.step('CHAP', [
      ['CHAP_N', 'storage'],
      ['CHAP_R', response],
    ]);
    expect(codeOf(step)).toBe('ISCSI_CHAP_REFLECTED');
  });

  test('never asks what the target has asked (§9.2.1)', () => {
    const echo: Rng = { ...seededRng(1), fill: (into) => into.set([90, ...CHALLENGE]) };
    const chap = begun({ mutual }, echo);
    expect(() => chap.step('CHAP', asked())).toThrow(/random bytes/);
  });

  test('answers no challenge that it has issued on another connection (§9.2.1)', () => {
    const challenges = new IssuedChallenges();
    const first = begun({ mutual, challenges });
    const answer = sent(first.step('CHAP', asked()));
    const second = begun({ mutual, challenges }, seededRng(2));
    const reflection = asked({ CHAP_C: answer.get('CHAP_C')! });
    expect(codeOf(second.step('CHAP', reflection))).toBe('ISCSI_CHAP_REFLECTED');
  });

  test('draws its challenges from the generator that it was given', () => {
    const drawn = [1, 2].map((seed) =>
      sent(begun({ mutual }, seededRng(seed)).step('CHAP', asked())).get('CHAP_C'),
    );
    expect(drawn[0]).not.toBe(drawn[1]);
  });
});

describe('issued challenges', () => {
  test('are remembered in a bounded number, the newest longest', () => {
    const challenges = new IssuedChallenges();
    const challenge = (n: number) => Buffer.from(String(n));
    for (let n = 0; n < 5000; n++) challenges.add(challenge(n));
    expect([0, 4999].map((n) => challenges.has(challenge(n)))).toEqual([false, true]);
  });
});

describe('secrets', () => {
  const make = (over: Partial<ChapOptions>) => () =>
    new ChapAuthenticator(options(over), seededRng(1));

  test('below 96 bits are refused in either direction, unless they are allowed', () => {
    const weak = new Secret('elevenbytes');
    expect(make({ secret: weak })).toThrow(
      expect.objectContaining({ code: 'ISCSI_CHAP_WEAK_SECRET' }),
    );
    expect(make({ mutual: { user: 'storage', secret: weak } })).toThrow(
      /"storage" has fewer than 12/,
    );
    expect(make({ secret: weak, allowWeakSecrets: true })).not.toThrow();
    expect(make({ secret: new Secret('twelve-bytes') })).not.toThrow();
  });

  test('that are equal in both directions are refused', () => {
    expect(make({ mutual: { user: 'storage', secret: new Secret(OURS) } })).toThrow(
      expect.objectContaining({ code: 'ISCSI_CHAP_EQUAL_SECRETS' }),
    );
  });

  test('are seen in no error, and not when options are printed', () => {
    const seen: string[] = [];
    const all = options({ mutual });
    seen.push(inspect(all, { depth: 9 }), JSON.stringify(all), `${all.secret}`);
    const { chap, answer } = { chap: begun({ mutual }), answer: new Map<string, string>() };
    seen.push(inspect(chap, { depth: 9, showHidden: true }));
    for (const [key, value] of sent(chap.step('CHAP', asked()))) answer.set(key, value);
    const wrong = chap.step('CHAP', [
      ['CHAP_N', 'x'],
      ['CHAP_R', hex(proof(answer, 'wrong-wrong-wrong'))],
    ]);
    seen.push((wrong as OrionError).describe(), inspect(wrong));
    for (const text of seen) {
      expect(text).not.toContain(OURS);
      expect(text).not.toContain(THEIRS);
      expect(text).not.toContain(Buffer.from(OURS).toString('hex'));
    }
  });
});

describe('a login with CHAP', () => {
  const chap = { user: 'alice', secret: OURS, mutual: { user: 'storage', secret: THEIRS } };
  type Fixture = Awaited<ReturnType<typeof targetFixture>>;

  const sessionOptions = (fixture: Fixture, authentication: ChapOptions | undefined) => ({
    network: fixture.network.host('initiator'),
    clock: fixture.clock,
    rng: seededRng(3),
    portals: [fixture.target.addresses[0]!],
    targetName: TARGET_NAME,
    initiatorName: 'iqn.2026-11.test:initiator',
    isid: makeIsid('test', TARGET_NAME, 0),
    authentication,
  });

  async function outcome(fixture: Fixture, promise: Promise<unknown>): Promise<unknown> {
    let result: unknown;
    promise.then(
      (value) => {
        result = value ?? null;
      },
      (error: unknown) => {
        result = error;
      },
    );
    await fixture.clock.runUntil(() => result !== undefined, 60_000);
    return result;
  }

  test.each(['md5', 'sha1', 'sha256', 'sha3-256'] as const)(
    'opens a session with %s, one way and mutual, and lists targets',
    async (algorithm) => {
      const fixture = await targetFixture({ chap: { ...chap, algorithms: [algorithm] } });
      for (const authentication of [options(), options({ mutual })]) {
        const opened = sessionOptions(fixture, authentication);
        expect(await outcome(fixture, openSession(opened))).toMatchObject({ state: 'open' });
        expect(await outcome(fixture, discover(opened))).toMatchObject([{ name: TARGET_NAME }]);
      }
    },
  );

  test.each<[string, ChapOptions | undefined, string]>([
    ['without any', undefined, 'ISCSI_LOGIN_REFUSED'],
    [
      'with another secret',
      options({ secret: new Secret('another-secret') }),
      'ISCSI_LOGIN_REFUSED',
    ],
    ['with another user', options({ user: 'bob' }), 'ISCSI_LOGIN_REFUSED'],
    [
      'with another secret for the target',
      options({ mutual: { user: 'storage', secret: new Secret('another-secret') } }),
      'ISCSI_CHAP_TARGET_FAILED',
    ],
  ])('%s opens none, and says what to do', async (_, authentication, code) => {
    const fixture = await targetFixture({ chap });
    const error = await outcome(fixture, openSession(sessionOptions(fixture, authentication)));
    expect(error).toMatchObject({ code, outcome: 'not-executed' });
    expect((error as OrionError).hint).toMatch(/secret/);
    expect(fixture.target.sessions()).toEqual([]);
  });

  test('takes a target that wants none only where that is allowed', async () => {
    const fixture = await targetFixture();
    const lax = sessionOptions(fixture, options({ isRequired: false }));
    expect(await outcome(fixture, openSession(lax))).toMatchObject({ state: 'open' });
    for (const strict of [options(), options({ mutual, isRequired: false })]) {
      const error = await outcome(fixture, openSession(sessionOptions(fixture, strict)));
      expect(error).toMatchObject({ code: 'ISCSI_LOGIN_REFUSED' });
    }
  });

  /** A target that answers the security stage word for word; its operational stage is the usual one. */
  function scripted(
    answers: readonly (readonly [transit: boolean, pairs: readonly TextPair[]])[],
    target = new FakeTarget(),
  ) {
    let at = 0;
    target.onLogin = (request) => {
      if (request.csg !== LoginStage.Security) return false;
      const [transit, pairs] = answers[Math.min(at++, answers.length - 1)]!;
      target.loginResponse(request, { transit, nsg: transit ? 1 : 0 }, pairs);
      return true;
    };
    return target;
  }

  const open = (target: FakeTarget, authentication: ChapOptions) =>
    openSession({ ...openOptions(target, new VirtualClock()), authentication }).then(
      () => null,
      (error: OrionError) => error,
    );
  const METHOD: TextPair[] = [
    ['AuthMethod', 'CHAP'],
    ['TargetPortalGroupTag', '1'],
  ];

  test.each<[string, Parameters<typeof scripted>[0], RegExp]>([
    [
      'at once',
      [
        [
          true,
          [
            ['AuthMethod', 'None'],
            ['TargetPortalGroupTag', '1'],
          ],
        ],
      ],
      /not among what we/,
    ],
    ['without a word about it', [[true, []]], /AuthMethod was not answered/],
    ['with CHAP, but without a challenge', [[true, METHOD]], /goes on before the authentication/],
    [
      'in place of a challenge',
      [
        [false, METHOD],
        [true, []],
      ],
      /goes on before the authentication/,
    ],
    [
      'together with its challenge',
      [
        [false, METHOD],
        [true, asked()],
      ],
      /without proving/,
    ],
    [
      'in place of its proof',
      [
        [false, METHOD],
        [false, asked()],
        [true, []],
      ],
      /without proving/,
    ],
  ])('a target that goes on %s is left', async (_, script, text) => {
    const target = scripted(script);
    const error = await open(target, options({ mutual }));
    expect(error?.message).toMatch(text);
    expect(target.destroyed).not.toBeNull();
  });

  test('is done with one method and under one name on all connections of a session (§9.2)', async () => {
    const answers: Parameters<typeof scripted>[0] = [
      [false, METHOD],
      [false, asked()],
      [true, []],
    ];
    const authentication = options();
    const r = await wires(3, (wire) => scripted(answers, wire), { authentication });
    expect(r.session.connections().map(({ state }) => state)).toEqual(Array(3).fill('LOGGED_IN'));
    for (const wire of r.net.wires) {
      const said = wire.of(Opcode.LoginRequest).flatMap(({ data }) => parseText(data).pairs!);
      const ofKey = (name: string) => said.filter(([key]) => key === name).map(([, text]) => text);
      expect(ofKey('AuthMethod')).toEqual(['CHAP']);
      expect(ofKey('InitiatorName')).toEqual(['iqn.2026-11.lab:me']);
      expect(ofKey('CHAP_N')).toEqual([authentication.user]);
    }
  });

  test('asks to go on with its last word', async () => {
    const target = scripted([
      [false, METHOD],
      [false, asked()],
      [true, []],
    ]);
    expect(await open(target, options())).toBeNull();
    const logins = target.of(Opcode.LoginRequest);
    expect(logins.map(({ pdu }) => pdu.transit)).toEqual([false, false, true, true]);
    const names = logins.map(({ data }) => parseText(data).pairs!.map(([key]) => key));
    expect(names[0]).toEqual(['InitiatorName', 'SessionType', 'TargetName', 'AuthMethod']);
    expect(names.slice(1, 3)).toEqual([['CHAP_A'], ['CHAP_N', 'CHAP_R']]);
  });

  test('is tried once more with MD5 alone where a list is refused', async () => {
    const target = new FakeTarget();
    const lists: string[] = [];
    target.onLogin = (request, data) => {
      const keys = new Map(parseText(data).pairs!);
      const list = keys.get('CHAP_A');
      if (list !== undefined) lists.push(list);
      if (request.csg !== LoginStage.Security) return false;
      if (list === undefined) {
        const isFirst = keys.has('AuthMethod');
        const over = isFirst ? { transit: false, nsg: 0 } : {};
        target.loginResponse(request, over, isFirst ? METHOD : []);
      } else if (list === '5') target.loginResponse(request, { transit: false, nsg: 0 }, asked());
      else target.loginResponse(request, { statusClass: 2, statusDetail: 1 });
      return true;
    };
    expect(await open(target, options())).toBeNull();
    expect(lists).toEqual(['5,8,7,6', '5']);
    lists.length = 0;
    target.onLogin = (request, data) => {
      if (new Map(parseText(data).pairs!).has('AuthMethod')) {
        target.loginResponse(request, { transit: false, nsg: 0 }, METHOD);
      } else target.loginResponse(request, { statusClass: 2, statusDetail: 1 });
      return true;
    };
    const before = target.connects;
    expect((await open(target, options()))?.code).toBe('ISCSI_LOGIN_REFUSED');
    expect(target.connects - before).toBe(2);
  });
});
