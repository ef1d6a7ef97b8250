import { describe, expect, test } from 'vitest';
import { type ChapAlgorithm, chapResponse, parseChapBinary } from '../iscsi/chap-digest.ts';
import { LoginStage } from '../iscsi/pdu/opcodes.ts';
import type { TextPair } from '../iscsi/text.ts';
import { Secret } from '../security/secret.ts';
import type { RawInitiator } from '../testkit/raw-initiator.ts';
import { TARGET_NAME, targetFixture } from '../testkit/target-fixture.ts';

const NAMES: TextPair[] = [
  ['InitiatorName', 'iqn.2026-11.test:initiator'],
  ['TargetName', TARGET_NAME],
];
const { Security, Operational, FullFeature } = LoginStage;
const OURS = 'initiator-secret';
const THEIRS = 'secret-of-target';
const CHAP = { user: 'alice', secret: OURS, mutual: { user: 'storage', secret: THEIRS } };
const STAY = { csg: Security, nsg: 0, transit: false };
const GO_ON = { csg: Security, nsg: Operational };

const connected = async (chap: Partial<typeof CHAP> & { algorithms?: ChapAlgorithm[] } = {}) =>
  targetFixture({ chap: { ...CHAP, ...chap } });

async function begin(initiator: RawInitiator, list = '5'): Promise<Map<string, string>> {
  const method = await initiator.loginStep(STAY, [...NAMES, ['AuthMethod', 'CHAP,None']]);
  expect(method.keys[0]).toEqual(['AuthMethod', 'CHAP']);
  const { keys } = await initiator.loginStep(STAY, [['CHAP_A', list]]);
  return new Map(keys);
}

function answer(asked: Map<string, string>, over: { user?: string; secret?: string } = {}) {
  const { user = 'alice', secret = OURS } = over;
  const challenge = parseChapBinary(asked.get('CHAP_C')!)!;
  const response = chapResponse('md5', Number(asked.get('CHAP_I')), new Secret(secret), challenge);
  return [
    ['CHAP_N', user],
    ['CHAP_R', `0b${response.toString('base64')}`],
  ] as TextPair[];
}

const statusOf = ({ pdu }: { pdu: { statusClass: number; statusDetail: number } }) =>
  `${pdu.statusClass}.${pdu.statusDetail}`;

describe('a target with CHAP', () => {
  test('lets in who knows the secret, and goes on only then', async () => {
    const { connect, target } = await connected();
    const initiator = await connect();
    const method = await initiator.loginStep(GO_ON, [...NAMES, ['AuthMethod', 'CHAP']]);
    expect(method.pdu).toMatchObject({ statusClass: 0, transit: false });
    const { keys, pdu } = await initiator.loginStep(GO_ON, [['CHAP_A', '99,7,5']]);
    expect(pdu.transit).toBe(false);
    const asked = new Map(keys);
    expect(asked.get('CHAP_A')).toBe('7');
    const challenge = parseChapBinary(asked.get('CHAP_C')!)!;
    expect(challenge).toHaveLength(32);
    const id = Number(asked.get('CHAP_I'));
    const response = chapResponse('sha256', id, new Secret(OURS), challenge).toString('hex');
    const last = await initiator.loginStep(GO_ON, [
      ['CHAP_N', 'alice'],
      ['CHAP_R', `0x${response}`],
    ]);
    expect(last.pdu).toMatchObject({ statusClass: 0, transit: true, nsg: Operational });
    await initiator.loginStep({ csg: Operational, nsg: FullFeature }, []);
    expect(target.sessions()).toHaveLength(1);
  });

  test('proves itself to who asks', async () => {
    const { connect } = await connected();
    const initiator = await connect();
    const asked = await begin(initiator);
    const challenge = Buffer.alloc(20, 9);
    const { keys, pdu } = await initiator.loginStep(GO_ON, [
      ...answer(asked),
      ['CHAP_I', '17'],
      ['CHAP_C', `0x${challenge.toString('hex')}`],
    ]);
    expect(pdu.transit).toBe(true);
    const proof = chapResponse('md5', 17, new Secret(THEIRS), challenge).toString('hex');
    expect(keys).toEqual([
      ['CHAP_N', 'storage'],
      ['CHAP_R', `0x${proof}`],
    ]);
  });

  test.each<[string, (asked: Map<string, string>) => TextPair[]]>([
    ['another secret', (asked) => answer(asked, { secret: 'another-secret' })],
    ['another user', (asked) => answer(asked, { user: 'bob' })],
    ['no answer', () => [['CHAP_N', 'alice']]],
    [
      'an answer that is no binary value',
      () => [
        ['CHAP_N', 'alice'],
        ['CHAP_R', '17'],
      ],
    ],
    ['half a question back', (asked) => [...answer(asked), ['CHAP_I', '1']]],
    [
      'its own challenge back (§9.2.1)',
      (asked) => [...answer(asked), ['CHAP_I', '1'], ['CHAP_C', asked.get('CHAP_C')!]],
    ],
  ])('refuses %s with "authentication failure" and closes', async (_, pairs) => {
    const { connect, target } = await connected();
    const initiator = await connect();
    const asked = await begin(initiator);
    expect(statusOf(await initiator.loginStep(GO_ON, pairs(asked)))).toBe('2.1');
    await initiator.waitClosed();
    expect(target.sessions()).toEqual([]);
  });

  test('refuses a challenge that it has issued on another connection (§9.2.1)', async () => {
    const { connect } = await connected();
    const [first, second] = [await connect(), await connect()];
    const [asked, other] = [await begin(first), await begin(second)];
    const reflection: TextPair[] = [
      ...answer(asked),
      ['CHAP_I', other.get('CHAP_I')!],
      ['CHAP_C', other.get('CHAP_C')!],
    ];
    expect(statusOf(await first.loginStep(GO_ON, reflection))).toBe('2.1');
  });

  test('refuses who skips the stage, offers no CHAP, or offers none of its algorithms', async () => {
    const { connect } = await connected({ algorithms: ['sha256'] });
    const first = async (stage: { csg: number; nsg: number }, keys: TextPair[]) =>
      statusOf(await (await connect()).loginStep(stage, [...NAMES, ...keys]));
    expect(await first({ csg: Operational, nsg: FullFeature }, [])).toBe('2.1');
    expect(await first(GO_ON, [])).toBe('2.1');
    expect(await first(GO_ON, [['AuthMethod', 'None']])).toBe('2.1');
    const initiator = await connect();
    await initiator.loginStep(STAY, [...NAMES, ['AuthMethod', 'CHAP']]);
    expect(statusOf(await initiator.loginStep(STAY, [['CHAP_A', '5']]))).toBe('2.1');
    // An answer before the question.
    const hasty = await connect();
    const keys: TextPair[] = [
      ...NAMES,
      ['AuthMethod', 'CHAP'],
      ['CHAP_N', 'alice'],
      ['CHAP_R', '0x1'],
    ];
    expect(statusOf(await hasty.loginStep(STAY, keys))).toBe('2.1');
  });

  test('that has no account for the other direction refuses who asks', async () => {
    const { connect } = await targetFixture({ chap: { user: 'alice', secret: OURS } });
    const initiator = await connect();
    const asked = await begin(initiator);
    const keys: TextPair[] = [...answer(asked), ['CHAP_I', '1'], ['CHAP_C', '0x0102']];
    expect(statusOf(await initiator.loginStep(GO_ON, keys))).toBe('2.1');
  });

  test('does not start with one secret for both directions, or none', async () => {
    for (const chap of [
      { ...CHAP, mutual: { user: 'storage', secret: OURS } },
      { user: 'alice', secret: '' },
    ]) {
      await expect(targetFixture({ chap })).rejects.toMatchObject({ code: 'TARGET_BAD_OPTION' });
    }
  });
});
