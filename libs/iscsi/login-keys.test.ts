import { describe, expect, test } from 'vitest';
import type { OrionError } from '../core/errors.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { type Address, formatAddress } from '../wire/network.ts';
import { defaultParams, type KeyDefinition, keys, parseValue, settledByOffer } from './keys.ts';
import { LoginMachine, type LoginOptions, type LoginStep, noAuthentication } from './login.ts';
import type { LoginEvent } from './login-trace.ts';
import { openSession } from './open-session.ts';
import type { LoginResponse } from './pdu/index.ts';
import { Opcode } from './pdu/opcodes.ts';
import { wantedParams } from './session-options.ts';
import { openOptions } from './testing/fake-session.ts';
import { FakeTarget } from './testing/fake-target.ts';
import { encodeText, parseText, type TextPair } from './text.ts';

const ISID = Buffer.from('800000000001', 'hex');

function machine(over: Partial<LoginOptions> = {}): LoginMachine {
  return new LoginMachine({
    initiatorName: 'iqn.2026-11.lab:me',
    targetName: 'iqn.2026-11.lab:disk1',
    isid: ISID,
    tsih: 0,
    cid: 0,
    cmdSn: 7,
    itt: 1,
    authenticator: noAuthentication,
    wanted: {},
    ...over,
  });
}

function response(over: Partial<LoginResponse> = {}): LoginResponse {
  return {
    opcode: Opcode.LoginResponse,
    dataSegmentLength: 0,
    transit: true,
    continue: false,
    csg: 0,
    nsg: 1,
    versionMax: 0,
    versionActive: 0,
    isid: ISID,
    tsih: 0,
    itt: 1,
    statSn: 1,
    expCmdSn: 7,
    maxCmdSn: 7,
    statusClass: 0,
    statusDetail: 0,
    ...over,
  };
}

const SECURITY: TextPair[] = [
  ['AuthMethod', 'None'],
  ['TargetPortalGroupTag', '1'],
];

/** A login that has come to its operational stage, with what was offered there. */
function operational(over: Partial<LoginOptions> = {}) {
  const login = machine(over);
  login.start();
  const step = login.step(response(), encodeText(SECURITY));
  return { login, offered: sent(step) };
}

function sent(step: LoginStep): Map<string, string> {
  if (step.kind !== 'send') throw step.kind === 'failed' ? step.error : new Error(step.kind);
  return new Map(parseText(step.text).pairs!);
}

function finish(login: LoginMachine, pairs: readonly TextPair[]): LoginStep {
  return login.step(response({ csg: 1, nsg: 3, tsih: 5, statSn: 2 }), encodeText(pairs));
}

function failed(step: LoginStep): OrionError {
  if (step.kind !== 'failed') throw new Error(`it goes on: ${step.kind}`);
  return step.error;
}

describe('the key table', () => {
  const row = (key: KeyDefinition) => {
    const shape =
      key.type === 'number'
        ? key.range.join('-')
        : key.type === 'list'
          ? key.values.join(',')
          : key.type;
    const result = key.type === 'text' ? '' : (key.result ?? '');
    return `${key.use} ${key.scope} ${key.sender} ${shape} ${result} §${key.section}`;
  };

  // Written down from the RFC once more, by hand: §13.1 to §13.26, §12.1, RFC 7144 §7.1.1.
  test.each([
    ['HeaderDigest', 'IO connection both CRC32C,None first §13.1'],
    ['DataDigest', 'IO connection both CRC32C,None first §13.1'],
    ['MaxConnections', 'LO session both 1-65535 min §13.2'],
    ['SendTargets', 'FFPO session initiator text  §13.3'],
    ['TargetName', 'IO session both text  §13.4'],
    ['InitiatorName', 'IO session initiator text  §13.5'],
    ['TargetAlias', 'ALL session target text  §13.6'],
    ['InitiatorAlias', 'ALL session initiator text  §13.7'],
    ['TargetAddress', 'ALL session target text  §13.8'],
    ['TargetPortalGroupTag', 'IO session target 0-65535  §13.9'],
    ['InitialR2T', 'LO session both boolean or §13.10'],
    ['ImmediateData', 'LO session both boolean and §13.11'],
    ['MaxRecvDataSegmentLength', 'ALL connection both 512-16777215  §13.12'],
    ['MaxBurstLength', 'LO session both 512-16777215 min §13.13'],
    ['FirstBurstLength', 'LO session both 512-16777215 min §13.14'],
    ['DefaultTime2Wait', 'LO session both 0-3600 max §13.15'],
    ['DefaultTime2Retain', 'LO session both 0-3600 min §13.16'],
    ['MaxOutstandingR2T', 'LO session both 1-65535 min §13.17'],
    ['DataPDUInOrder', 'LO session both boolean or §13.18'],
    ['DataSequenceInOrder', 'LO session both boolean or §13.19'],
    ['ErrorRecoveryLevel', 'LO session both 0-2 min §13.20'],
    ['SessionType', 'LO session initiator text  §13.21'],
    ['TaskReporting', 'LO session both FastAbort,ResponseFence,RFC3720 first §13.23'],
    ['iSCSIProtocolLevel', 'LO session both 0-31 min §13.24'],
    ['X#NodeArchitecture', 'LO session both text  §13.26'],
    ['AuthMethod', 'IO connection both CHAP,None first §12.1'],
  ] as const)('%s is %s', (name, expected) => {
    expect(row(keys[name])).toBe(expected);
  });

  test('has no other keys', () => expect(Object.keys(keys)).toHaveLength(26));

  test('knows what means nothing in a discovery session (§13: "Irrelevant when")', () => {
    const irrelevant = Object.entries(keys as Record<string, KeyDefinition>)
      .filter(([, key]) => !key.discovery)
      .map(([name]) => name);
    expect(irrelevant.sort()).toEqual(
      [
        'DataPDUInOrder',
        'DataSequenceInOrder',
        'FirstBurstLength',
        'ImmediateData',
        'InitialR2T',
        'MaxBurstLength',
        'MaxConnections',
        'MaxOutstandingR2T',
        'TaskReporting',
        'iSCSIProtocolLevel',
      ].sort(),
    );
  });

  test('takes a portal group tag as any binary value of 16 bits (§13.9)', () => {
    const tag = (text: string) => parseValue('TargetPortalGroupTag', text);
    expect([tag('0'), tag('65535'), tag('0xffff'), tag('0bAQI=')]).toEqual([0, 65535, 65535, 258]);
    expect([tag('65536'), tag('0bAQID'), tag('-1'), tag('')]).toEqual([null, null, null, null]);
  });

  test('knows when an offer decides alone (§6.2.2)', () => {
    expect(settledByOffer('InitialR2T', 'Yes')).toBe(true);
    expect(settledByOffer('InitialR2T', 'No')).toBeNull();
    expect(settledByOffer('ImmediateData', 'No')).toBe(false);
    expect(settledByOffer('ImmediateData', 'Yes')).toBeNull();
    expect(settledByOffer('MaxBurstLength', '512')).toBeNull();
  });
});

describe('offers', () => {
  test('hold TaskReporting with all that is below it, and the protocol level (§13.23, RFC 7144)', () => {
    const { offered } = operational({ wanted: wantedParams });
    expect(offered.get('TaskReporting')).toBe('FastAbort,ResponseFence,RFC3720');
    expect(offered.get('iSCSIProtocolLevel')).toBe('2');
  });

  test.each([
    ['no answer', []],
    [
      'NotUnderstood',
      [
        ['TaskReporting', 'NotUnderstood'],
        ['iSCSIProtocolLevel', 'NotUnderstood'],
      ],
    ],
  ] as const)('of keys of later documents fall back to the defaults with %s', (_, answers) => {
    const { TaskReporting, iSCSIProtocolLevel } = wantedParams;
    const { login } = operational({ wanted: { TaskReporting, iSCSIProtocolLevel } as never });
    const step = finish(login, answers);
    expect(step).toMatchObject({
      kind: 'done',
      result: { params: { TaskReporting: 'RFC3720', iSCSIProtocolLevel: 1 } },
    });
  });

  test('that are agreed on are held in the params of the session', () => {
    const { TaskReporting, iSCSIProtocolLevel } = wantedParams;
    const { login } = operational({ wanted: { TaskReporting, iSCSIProtocolLevel } as never });
    const step = finish(login, [
      ['TaskReporting', 'FastAbort'],
      ['iSCSIProtocolLevel', '2'],
    ]);
    expect(step).toMatchObject({
      result: { params: { TaskReporting: 'FastAbort', iSCSIProtocolLevel: 2 } },
    });
  });

  test('that decide alone need no answer, others do (§6.2.2)', () => {
    const wanted = { InitialR2T: true, ImmediateData: false };
    expect(finish(operational({ wanted }).login, [])).toMatchObject({
      result: { params: { InitialR2T: true, ImmediateData: false } },
    });
    const open = finish(operational({ wanted: { InitialR2T: false } }).login, []);
    expect(failed(open).message).toMatch(/InitialR2T=No was not answered/);
  });

  test('keep to one R2T where recovery wants data in order (§13.19)', () => {
    const wanted = { ...wantedParams, ErrorRecoveryLevel: 1 };
    expect(operational({ wanted }).offered.get('MaxOutstandingR2T')).toBe('1');
    const free = { ...wanted, DataSequenceInOrder: false };
    expect(operational({ wanted: free }).offered.get('MaxOutstandingR2T')).toBe('8');
  });

  test('of a connection that joins a session hold no key of the leading login (§13)', () => {
    const session = { ...defaultParams(), MaxBurstLength: 4096 };
    const login = machine({ tsih: 5, wanted: wantedParams, session });
    expect([...sent(login.start()).keys()]).toEqual(['InitiatorName', 'TargetName', 'AuthMethod']);
    const step = login.step(response({ tsih: 5 }), encodeText(SECURITY));
    const offered = [...sent(step).keys()];
    expect(offered.sort()).toEqual(['DataDigest', 'HeaderDigest', 'MaxRecvDataSegmentLength']);
    const answers: TextPair[] = [
      ['HeaderDigest', 'None'],
      ['DataDigest', 'None'],
    ];
    expect(finish(login, answers)).toMatchObject({ result: { params: { MaxBurstLength: 4096 } } });
  });

  test('of a connection that joins a session end in the authentication method of the session (§9.2)', () => {
    const session = { ...defaultParams(), AuthMethod: 'CHAP' };
    const authenticator = { ...noAuthentication, offer: 'CHAP,None' };
    const login = machine({ tsih: 5, session, authenticator });
    login.start();
    const step = login.step(response({ tsih: 5 }), encodeText(SECURITY));
    expect(failed(step).message).toMatch(/AuthMethod=None in a session .* CHAP/);
  });

  test('of a discovery session leave out what means nothing there (§13.21)', () => {
    const wanted = { ...wantedParams, ErrorRecoveryLevel: 2 };
    const { offered } = operational({ targetName: null, wanted });
    expect([...offered.keys()].sort()).toEqual([
      'DataDigest',
      'DefaultTime2Retain',
      'DefaultTime2Wait',
      'ErrorRecoveryLevel',
      'HeaderDigest',
      'MaxRecvDataSegmentLength',
    ]);
    expect(offered.get('ErrorRecoveryLevel')).toBe('0');
  });

  test('longer than a login PDU are cut, with C=1 and T=0 in all parts but the last (§11.12.2)', () => {
    const login = machine({ initiatorName: `iqn.2026-11.lab:${'x'.repeat(20_000)}` });
    const parts: { pdu: { continue: boolean; transit: boolean }; bytes: number }[] = [];
    let text = Buffer.alloc(0);
    let step = login.start();
    while (step.kind === 'send') {
      parts.push({ pdu: step.pdu, bytes: step.text.length });
      text = Buffer.concat([text, step.text]);
      if (!step.pdu.continue) break;
      step = login.step(response({ transit: false, nsg: 0 }), Buffer.alloc(0));
    }
    expect(parts.map(({ bytes }) => bytes <= 8192)).toEqual([true, true, true]);
    expect(parts.map(({ pdu }) => pdu.continue)).toEqual([true, true, false]);
    expect(parts.map(({ pdu }) => pdu.transit)).toEqual([false, false, true]);
    expect(parseText(text).pairs![0]![1]).toHaveLength(20_016);
  });
});

describe('what a target says', () => {
  const proposal = (pairs: readonly TextPair[], over: Partial<LoginOptions> = {}) => {
    const { login } = operational(over);
    return login.step(response({ csg: 1, transit: false, nsg: 0, statSn: 2 }), encodeText(pairs));
  };

  test('on its own account is answered: with the result, Reject, Irrelevant or NotUnderstood', () => {
    const answers = sent(
      proposal([
        ['MaxBurstLength', '65536'],
        ['DefaultTime2Wait', '9999'],
        ['InitialR2T', 'maybe'],
        ['X-com.example.key', 'a'],
        ['Y-unheard', 'b'],
        ['OFMarker', 'Yes'],
        ['IFMarkInt', '1'],
        ['X#NodeArchitecture', 'x'.repeat(300)],
      ]),
    );
    expect(Object.fromEntries(answers)).toEqual({
      MaxBurstLength: '65536',
      DefaultTime2Wait: 'Reject',
      InitialR2T: 'Reject',
      'X-com.example.key': 'NotUnderstood',
      'Y-unheard': 'NotUnderstood',
      OFMarker: 'Reject',
      IFMarkInt: 'Reject',
    });
    const discovery = proposal([['MaxBurstLength', '65536']], { targetName: null });
    expect(sent(discovery).get('MaxBurstLength')).toBe('Irrelevant');
  });

  test.each<[string, TextPair[], RegExp]>([
    ['an unknown key twice', [...two('X-a', '1')], /X-a came twice/],
    ['a marker twice', [...two('IFMarker', 'No')], /IFMarker came twice/],
    ['a refusal of nothing', [['MaxBurstLength', 'Reject']], /answers nothing/],
    ['that our name is not understood', [['InitiatorName', 'NotUnderstood']], /has to understand/],
    ['a key that is ours to send', [['InitiatorAlias', 'x']], /initiator's to send/],
    ['CHAP after the security stage', [['CHAP_R', '0x00']], /outside the security stage/],
    [
      'more unknown keys than there can be',
      Array.from({ length: 65 }, (_, n): TextPair => [`X-${n}`, '1']),
      /more than 64 unknown/,
    ],
  ])('is the end of it with %s', (_, pairs, message) => {
    expect(failed(proposal(pairs)).message).toMatch(message);
  });

  function two(name: string, value: string): TextPair[] {
    return [
      [name, value],
      [name, value],
    ];
  }

  test('is the end of it when it goes on without having been asked to (§11.13.6)', () => {
    const login = machine({ authenticator: { ...noAuthentication, mayAskToGoOn: false } });
    expect(sent(login.start()).get('AuthMethod')).toBe('None');
    const step = login.step(response(), encodeText(SECURITY));
    expect(failed(step).message).toMatch(/which we did not ask for/);
  });

  test.each([
    ['back to where it is', { csg: 0, nsg: 0 }],
    ['to a stage that is reserved', { csg: 0, nsg: 2 }],
    ['beyond the one that was asked for', { csg: 0, nsg: 3 }],
    ['on with its text cut', { continue: true }],
    ['on from another stage', { csg: 1, nsg: 3 }],
  ])('is the end of it when it goes %s (§6.3)', (_, over) => {
    const login = machine();
    login.start();
    expect(failed(login.step(response(over), encodeText(SECURITY))).code).toBe(
      'ISCSI_LOGIN_FAILED',
    );
  });
});

describe('the portal group', () => {
  test('that answers has to be the expected one, where one is (§13.9)', () => {
    for (const [tpgt, ok] of [
      [1, true],
      [null, true],
      [2, false],
      [0, false],
    ] as const) {
      const login = machine({ tpgt });
      login.start();
      const step = login.step(response(), encodeText(SECURITY));
      if (ok) expect(step.kind).toBe('send');
      else expect(failed(step).code).toBe('ISCSI_PORTAL_GROUP');
    }
  });

  test('may have the tag 0, and has to have one', () => {
    for (const tag of [['TargetPortalGroupTag', '0'] as const, null]) {
      const login = machine();
      login.start();
      const pairs: TextPair[] = [['AuthMethod', 'None'], ...(tag === null ? [] : [tag])];
      const step = login.step(response(), encodeText(pairs));
      expect(step.kind).toBe(tag === null ? 'failed' : 'send');
    }
  });
});

describe('a redirection', () => {
  const LATER = 3;

  function redirecting(hops: readonly (readonly [detail: number, ...addresses: string[]])[]) {
    const target = new FakeTarget();
    const asked: string[] = [];
    const connect = target.connect.bind(target);
    target.connect = (address, sink) => {
      asked.push(formatAddress(address));
      return connect(address, sink);
    };
    let at = 0;
    target.onLogin = (request) => {
      const hop = hops[at++];
      if (hop === undefined) return false;
      const [statusDetail, ...addresses] = hop;
      const pairs = addresses.map((address): TextPair => ['TargetAddress', address]);
      target.loginResponse(request, { statusClass: 1, statusDetail }, pairs);
      return true;
    };
    const moved: string[] = [];
    const options = {
      ...openOptions(target, new VirtualClock()),
      onMoved: (from: Address, to: Address) =>
        moved.push(`${formatAddress(from)} > ${formatAddress(to)}`),
    };
    return { options, asked, moved };
  }

  test('for good is told, one for now is not, and the next login begins at home again', async () => {
    for (const [hops, expected] of [
      [[[2, '10.0.0.2']], ['fake:3260 > 10.0.0.2:3260']],
      [[[1, '10.0.0.2']], []],
      [
        [
          [2, '10.0.0.2'],
          [1, '10.0.0.3'],
        ],
        ['fake:3260 > 10.0.0.2:3260'],
      ],
      [
        [
          [1, '10.0.0.2'],
          [2, '10.0.0.3'],
        ],
        [],
      ],
    ] as const) {
      const { options, asked, moved } = redirecting(hops);
      await openSession(options);
      expect(moved).toEqual(expected);
      await openSession(options);
      expect(asked[0]).toBe(asked[asked.length - 1]);
    }
  });

  test('goes to the mapped address, with the default port, and past addresses that do not answer', async () => {
    const { options, asked } = redirecting([[1, 'nonsense,,', '[2001:db8::7],1', '10.0.0.9:99']]);
    await openSession({
      ...options,
      mapAddress: (address) =>
        formatAddress(address) === '[2001:db8::7]:3260'
          ? { kind: 'tcp', host: '127.0.0.1', port: 3270 }
          : address,
    });
    expect(asked).toEqual(['fake:3260', '127.0.0.1:3270']);
  });

  test('into another portal group than it says is refused', async () => {
    const { options } = redirecting([[1, '10.0.0.2:3260,7']]);
    await expect(openSession(options)).rejects.toMatchObject({ code: 'ISCSI_PORTAL_GROUP' });
  });

  test.each([
    ['without an address', [1]],
    ['with none that is one', [1, 'nowhere:port', ':::']],
    ['of a kind that there is not', [LATER, '10.0.0.2']],
  ] as const)('%s fails', async (_, hop) => {
    const { options } = redirecting([hop]);
    await expect(openSession(options)).rejects.toMatchObject({ code: 'ISCSI_LOGIN_FAILED' });
  });
});

describe('the trace of a login', () => {
  test('tells every step and every key, with what was offered, answered, and holds', async () => {
    const target = new FakeTarget();
    target.wants = { MaxRecvDataSegmentLength: 65_536, MaxBurstLength: 131_072 };
    const events: LoginEvent[] = [];
    const options = openOptions(target, new VirtualClock());
    await openSession({ ...options, trace: (event) => events.push(event) });
    expect(events.map(({ kind }) => kind).filter((kind) => kind !== 'key')).toEqual([
      'connecting',
      'connected',
      'sent',
      'received',
      'authenticated',
      'sent',
      'received',
    ]);
    expect(events).toContainEqual({
      kind: 'key',
      name: 'MaxBurstLength',
      offered: '16773120',
      answered: '131072',
      outcome: 131_072,
      section: '13.13',
      why: 'the smaller of both',
    });
    expect(events).toContainEqual(
      expect.objectContaining({ name: 'MaxRecvDataSegmentLength', offered: null, outcome: 65_536 }),
    );
  });
});
