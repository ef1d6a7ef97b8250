import { describe, expect, test } from 'vitest';
import { seededRng } from '../core/rng.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import type { Network } from '../wire/network.ts';
import { discover, groupsOf, parseSendTargets, sendTargets } from './discovery.ts';
import { makeIsid } from './isid.ts';
import { openSession } from './open-session.ts';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { openOptions, TARGET } from './testing/fake-session.ts';
import { FakeTarget, settle } from './testing/fake-target.ts';
import { encodeText, parseText, type TextPair } from './text.ts';

/** Rules of RFC 7143 about login and discovery that no other test beside this one shows. */

const text = (data: Buffer): readonly TextPair[] => parseText(data).pairs!;

function requests(target: FakeTarget) {
  return target.of(Opcode.LoginRequest).map(({ pdu, data }) => ({ pdu, pairs: text(data) }));
}

async function login(target: FakeTarget, over: object = {}) {
  return openSession({ ...openOptions(target, new VirtualClock()), ...over });
}

describe('a login', () => {
  test('all requests of one login carry the same identity, and no CmdSN is used up', async () => {
    const target = new FakeTarget();
    let round = 0;
    target.onLogin = (request) => {
      if (request.csg !== 0) return false;
      round += 1;
      const said: TextPair[] = [
        ['AuthMethod', 'None'],
        ['TargetPortalGroupTag', '1'],
      ];
      const stays = { transit: false, nsg: 0 };
      target.loginResponse(request, round < 4 ? stays : {}, round === 1 ? said : []);
      return true;
    };
    const session = await login(target);
    const sent = requests(target);
    expect(sent.length).toBeGreaterThan(4);
    for (const { pdu } of sent) {
      const { itt, cid, tsih, isid, cmdSn } = sent[0]!.pdu;
      expect(pdu).toMatchObject({ itt, cid, tsih, isid, cmdSn, versionMin: 0, versionMax: 0 });
    }
    expect(session.cmdSn >>> 0).toBe(sent[0]!.pdu.cmdSn);
  });

  test('the security stage carries no key that belongs to a later one', async () => {
    const target = new FakeTarget();
    await login(target);
    const early = requests(target).filter(({ pdu }) => pdu.csg === 0);
    const allowed = /^(InitiatorName|InitiatorAlias|TargetName|SessionType|AuthMethod|CHAP_.)$/;
    for (const [key] of early.flatMap(({ pairs }) => pairs)) expect(key).toMatch(allowed);
    expect(early).toHaveLength(1);
  });

  test('keys that nobody knows are answered NotUnderstood, and the login goes on', async () => {
    const target = new FakeTarget();
    const proposed: TextPair[] = [
      ['X-com.example.fast', 'Yes'],
      ['X#com.example.old', '1'],
    ];
    let replies: readonly TextPair[] = [];
    let asked = false;
    target.onLogin = (request, data) => {
      if (request.csg !== 1) return false;
      if (asked) replies = text(data);
      else target.loginResponse(request, { transit: false, nsg: 0 }, proposed);
      const first = !asked;
      asked = true;
      return first;
    };
    const clock = new VirtualClock();
    const opened = openSession(openOptions(target, clock));
    opened.catch(() => {});
    await settle();
    for (const [name] of proposed) expect(replies).toContainEqual([name, 'NotUnderstood']);
    const offered = requests(target).flatMap(({ pairs }) => pairs.map(([name]) => name));
    expect(offered.filter((name) => /Mark/.test(name))).toEqual([]);
    await clock.advance(20_000);
  });

  test('what a target says of its architecture changes nothing', async () => {
    const plain = await login(new FakeTarget());
    const target = new FakeTarget();
    let first = true;
    target.onLogin = (request) => {
      if (request.csg !== 0) return false;
      const said: TextPair[] = [
        ['AuthMethod', 'None'],
        ['TargetPortalGroupTag', '1'],
        ['X#NodeArchitecture', 'com.example/arch=x/os=y'],
      ];
      if (first) target.loginResponse(request, { transit: false, nsg: 0 }, said);
      else target.loginResponse(request, {});
      first = false;
      return true;
    };
    const session = await login(target);
    expect(session.login.params).toEqual(plain.login.params);
    const sent = requests(target).flatMap(({ pairs }) => pairs);
    expect(sent.filter(([name, value]) => /Arch/.test(name) && value !== 'NotUnderstood')).toEqual(
      [],
    );
  });

  test('a name goes out in lower case and in one form of its characters', async () => {
    const target = new FakeTarget();
    await login(target, { targetName: 'IQN.2026-11.Lab:ﬁne-DISK' });
    expect(requests(target)[0]!.pairs).toContainEqual(['TargetName', 'iqn.2026-11.lab:fine-disk']);
  });

  test('a path slot has the same ISID wherever and whenever it is made', () => {
    const one = makeIsid('cluster', TARGET, 3);
    expect(makeIsid('cluster', TARGET, 3).equals(one)).toBe(true);
    expect(one).toHaveLength(6);
    expect(one[0]! >> 6).toBe(2);
    const others = [
      makeIsid('cluster', TARGET, 4),
      makeIsid('other', TARGET, 3),
      makeIsid('cluster', `${TARGET}2`, 3),
    ];
    expect(new Set([one, ...others].map((isid) => isid.toString('hex'))).size).toBe(4);
  });

  test('a portal that takes no connection is given up in time', async () => {
    const limits: number[] = [];
    const deaf: Network = {
      connect: (_address, _sink, { timeoutMs }) => {
        limits.push(timeoutMs);
        return Promise.reject(new Error(`no connection within ${timeoutMs} ms`));
      },
      listen: () => Promise.reject(new Error('deaf')),
    };
    const options = { ...openOptions(new FakeTarget(), new VirtualClock()), network: deaf };
    await expect(openSession({ ...options, timeouts: { connectMs: 1234 } })).rejects.toThrow(
      'no connection within 1234 ms',
    );
    expect(limits).toEqual([1234]);
  });
});

describe('discovery', () => {
  function discovery(target: FakeTarget, clock = new VirtualClock()) {
    const { targetName: _, ...options } = openOptions(target, clock);
    return discover({ ...options, rng: seededRng(1) });
  }

  /** Answers SendTargets with these parts, and the logout. */
  function answers(target: FakeTarget, parts: readonly (readonly [Buffer, object])[]): void {
    let next = 0;
    target.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.TextRequest) {
        const [data, over] = parts[next++]!;
        const { itt, lun } = pdu;
        target.send(
          {
            ...{ opcode: Opcode.TextResponse, final: true, continue: false, lun, itt },
            ...{ ttt: RESERVED_TAG, ...target.numbers(true), ...over },
          },
          data,
        );
      }
      if (pdu.opcode === Opcode.LogoutRequest) {
        const { itt } = pdu;
        const times = { time2Wait: 0, time2Retain: 0 };
        target.send({
          ...{ opcode: Opcode.LogoutResponse, response: 0, itt, ...times },
          ...target.numbers(true),
        });
      }
    };
  }

  const LIST = encodeText([
    ['TargetName', 'iqn.2026-11.lab:a'],
    ['TargetAddress', '10.0.0.1:3260,1'],
    ['TargetName', 'iqn.2026-11.lab:b'],
    ['TargetAddress', '10.0.0.1:3261,2'],
  ]);

  test('a discovery session says so at once, and offers nothing that has no meaning in it', async () => {
    const target = new FakeTarget();
    answers(target, [[LIST, {}]]);
    await discovery(target);
    const [first, ...later] = requests(target);
    expect(first!.pairs).toContainEqual(['SessionType', 'Discovery']);
    expect(first!.pairs.map(([key]) => key)).not.toContain('TargetName');
    const keys = later.flatMap(({ pairs }) => pairs.map(([key]) => key));
    expect(keys).toContain('MaxRecvDataSegmentLength');
    const meaningless = [
      ...['MaxConnections', 'InitialR2T', 'ImmediateData', 'MaxBurstLength', 'FirstBurstLength'],
      ...['MaxOutstandingR2T', 'DataPDUInOrder', 'DataSequenceInOrder', 'TaskReporting'],
    ];
    expect(keys.filter((key) => meaningless.includes(key))).toEqual([]);
  });

  test('a discovery session asks, answers pings, and logs out, nothing else', async () => {
    const target = new FakeTarget();
    answers(target, [[LIST, {}]]);
    const answer = target.onPdu;
    target.onPdu = (received) => {
      const ping = {
        opcode: Opcode.NopIn,
        lun: Buffer.alloc(8),
        itt: RESERVED_TAG,
        ttt: 9,
      } as const;
      if (received.pdu.opcode === Opcode.TextRequest) {
        target.send({ ...ping, ...target.numbers(false) });
      }
      answer(received);
    };
    const found = await discovery(target);
    await settle();
    expect(found.map(({ name }) => name)).toEqual(['iqn.2026-11.lab:a', 'iqn.2026-11.lab:b']);
    const after = target.received.filter(({ pdu }) => pdu.opcode !== Opcode.LoginRequest);
    expect(after.map(({ pdu }) => pdu.opcode).sort()).toEqual(
      [Opcode.NopOut, Opcode.TextRequest, Opcode.LogoutRequest].sort(),
    );
    const request = target.of(Opcode.TextRequest)[0]!;
    expect(request.pdu).toMatchObject({ final: true, continue: false, ttt: RESERVED_TAG });
    expect(text(request.data)).toEqual([['SendTargets', 'All']]);
    expect(target.of(Opcode.LogoutRequest)[0]!.pdu.reason).toBe(0);
  });

  test('an answer to SendTargets in several parts is asked for part by part', async () => {
    const target = new FakeTarget();
    const cut = 23; // inside a key
    answers(target, [
      [LIST.subarray(0, cut), { final: false, continue: true, ttt: 71 }],
      [LIST.subarray(cut, 60), { final: false, ttt: 72 }],
      [LIST.subarray(60), {}],
    ]);
    expect(await discovery(target)).toHaveLength(2);
    const sent = target.of(Opcode.TextRequest);
    expect(sent.map(({ pdu }) => pdu.ttt)).toEqual([RESERVED_TAG, 71, 72]);
    expect(sent.map(({ data }) => data.length > 0)).toEqual([true, false, false]);
    expect(sent.every(({ pdu }) => pdu.final)).toBe(true);
  });

  test('a normal session may ask for the portals of its own target', async () => {
    const target = new FakeTarget();
    answers(target, [[LIST.subarray(0, LIST.length / 2), {}]]);
    const session = await login(target);
    const found = await sendTargets(session, '');
    expect(found.map(({ name }) => name)).toEqual(['iqn.2026-11.lab:a']);
    expect(text(target.of(Opcode.TextRequest)[0]!.data)).toEqual([['SendTargets', '']]);
  });

  test('addresses belong to the target before them, in every form of the RFC', () => {
    const used = { kind: 'tcp', host: 'portal', port: 3260 } as const;
    const list = parseSendTargets(
      encodeText([
        ['TargetName', 'a'],
        ['TargetAddress', '10.1.0.45:3000,2'],
        ['TargetAddress', '[2001:db8::1],1'],
        ['TargetAddress', 'storage.example.com:5003,65535'],
        ['TargetAddress', '10.1.0.46'],
        ['TargetName', 'b'],
      ]),
      used,
    );
    const at = (host: string, port: number, tpgt: number | null) => ({
      address: { kind: 'tcp', host, port },
      tpgt,
    });
    expect(list).toEqual([
      {
        name: 'a',
        portals: [
          at('10.1.0.45', 3000, 2),
          at('2001:db8::1', 3260, 1),
          at('storage.example.com', 5003, 65535),
          at('10.1.0.46', 3260, null),
        ],
      },
      { name: 'b', portals: [at('portal', 3260, null)] },
    ]);
    for (const bad of ['', 'a:1,70000', 'a:99999', '[::1', 'a b']) {
      expect(() =>
        parseSendTargets(
          encodeText([
            ['TargetName', 'a'],
            ['TargetAddress', bad],
          ]),
          used,
        ),
      ).toThrow(/§13.8/);
    }
    expect(() => parseSendTargets(encodeText([['TargetAddress', 'a']]), used)).toThrow(/App. C/);
  });

  test('portals with one tag are one group, which a session may span; other tags are other groups', () => {
    const [target] = parseSendTargets(
      encodeText([
        ['TargetName', 'a'],
        ['TargetAddress', '10.0.0.1,2'],
        ['TargetAddress', '10.0.1.1,1'],
        ['TargetAddress', '10.0.0.2,2'],
        ['TargetAddress', '10.0.0.3'],
      ]),
      { kind: 'tcp', host: 'portal', port: 3260 },
    );
    const groups = groupsOf(target!.portals).map(({ tpgt, portals }) => ({
      tpgt,
      hosts: portals.map((address) => (address.kind === 'tcp' ? address.host : '')),
    }));
    expect(groups).toEqual([
      { tpgt: 2, hosts: ['10.0.0.1', '10.0.0.2'] },
      { tpgt: 1, hosts: ['10.0.1.1'] },
      { tpgt: null, hosts: ['10.0.0.3'] },
    ]);
  });

  test('a portal without a port is on 3260, and on no other', () => {
    const ports = ['10.0.0.1', '10.0.0.1:860', '[::1]', '[::1]:860,1'].map((address) => {
      const [found] = parseSendTargets(
        encodeText([
          ['TargetName', 'a'],
          ['TargetAddress', address],
        ]),
        { kind: 'tcp', host: 'portal', port: 3260 },
      );
      const { address: at } = found!.portals[0]!;
      return at.kind === 'tcp' ? at.port : null;
    });
    expect(ports).toEqual([3260, 860, 3260, 860]);
  });
});
