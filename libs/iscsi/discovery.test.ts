import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isOrionError } from '../core/errors.ts';
import { TARGET_NAME, targetFixture } from '../testkit/target-fixture.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { type Address, formatAddress } from '../wire/network.ts';
import { discover, groupsOf, parseSendTargets, sendTargets } from './discovery.ts';
import { nameInvalidReason, normalizeName } from './names.ts';
import { openSession } from './open-session.ts';
import { LogoutReason, Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { parseTargetAddress } from './target-address.ts';
import { openOptions } from './testing/fake-session.ts';
import { FakeTarget } from './testing/fake-target.ts';
import { encodeText, parseText, type TextPair } from './text.ts';

const USED: Address = { kind: 'tcp', host: '192.0.2.1', port: 3270 };

const listed = (pairs: readonly TextPair[]) =>
  parseSendTargets(encodeText(pairs), USED).map(({ name, portals }) => [
    name,
    ...portals.map(({ address, tpgt }) => `${formatAddress(address)},${tpgt}`),
  ]);

describe('the answer to SendTargets (App. C)', () => {
  test('is a list of targets, each with the addresses that follow its name', () => {
    expect(
      listed([
        ['TargetName', 'iqn.2026-11.lab:one'],
        ['TargetAddress', '10.0.0.1:3260,1'],
        ['TargetAddress', '[2001:db8::1]:3261,2'],
        ['TargetAddress', '[2001:db8::2],2'],
        ['TargetAddress', 'storage.example.com,65535'],
        ['TargetName', 'iqn.2026-11.lab:two'],
        ['TargetName', 'IQN.2026-11.lab:Three'],
        ['TargetAddress', '10.0.0.2,0x10'],
      ]),
    ).toEqual([
      [
        'iqn.2026-11.lab:one',
        '10.0.0.1:3260,1',
        '[2001:db8::1]:3261,2',
        '[2001:db8::2]:3260,2',
        'storage.example.com:3260,65535',
      ],
      // Without an address it is where we asked.
      ['iqn.2026-11.lab:two', '192.0.2.1:3270,null'],
      ['iqn.2026-11.lab:three', '10.0.0.2:3260,16'],
    ]);
  });

  test('with an address of "every address" means the one that we used', () => {
    const name: TextPair = ['TargetName', 'iqn.2026-11.lab:one'];
    expect(listed([name, ['TargetAddress', '0.0.0.0:3260,1']])[0]![1]).toBe('192.0.2.1:3260,1');
    expect(listed([name, ['TargetAddress', '[::]:3260,1']])[0]![1]).toBe('192.0.2.1:3260,1');
  });

  test.each<[string, TextPair[]]>([
    ['an address before any name', [['TargetAddress', '10.0.0.1,1']]],
    ['an empty name', [['TargetName', '']]],
    ['a name too long', [['TargetName', `iqn.2026-11.lab:${'x'.repeat(300)}`]]],
    ['a refusal', [['SendTargets', 'Reject']]],
    ...['', ':3260,1', '10.0.0.1:0,1', '10.0.0.1,65536', '10.0.0.1,1,2', 'a b', '[::1', 'x/y'].map(
      (address): [string, TextPair[]] => [
        `the address ${JSON.stringify(address)}`,
        [
          ['TargetName', 'iqn.2026-11.lab:one'],
          ['TargetAddress', address],
        ],
      ],
    ),
  ])('is refused with %s', (_, pairs) => {
    expect(() => listed(pairs)).toThrow(expect.objectContaining({ code: 'ISCSI_PROTOCOL' }));
  });

  test('is bounded in targets and in portals', () => {
    const name = (n: number): TextPair => ['TargetName', `iqn.2026-11.lab:${n}`];
    const address: TextPair = ['TargetAddress', '10.0.0.1,1'];
    const many = Array.from({ length: 16_385 }, (_, n) => name(n));
    expect(() => listed(many)).toThrow(/more than 16384 targets/);
    expect(() => listed([name(1), ...Array(1025).fill(address)])).toThrow(/more than 1024 portals/);
  });

  test('of any bytes is a list or an error of ours, never anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          parseSendTargets(Buffer.from(bytes), USED);
        } catch (error) {
          expect(isOrionError(error)).toBe(true);
        }
      }),
    );
  });

  test('any text as an address is one with a host and a port, or none', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const found = parseTargetAddress(text);
        if (found === null) return;
        const { address, tpgt } = found;
        expect(address.kind).toBe('tcp');
        expect(tpgt === null || (tpgt >= 0 && tpgt <= 65_535)).toBe(true);
        expect(parseTargetAddress(formatAddress(address))?.address).toEqual(address);
      }),
    );
  });
});

test('portals are grouped by their tag, in the order in which they were told (§4.4.1)', () => {
  const portal = (host: string, tpgt: number | null) => ({
    address: { kind: 'tcp', host, port: 3260 } as const,
    tpgt,
  });
  const portals = [portal('a', 2), portal('b', 1), portal('c', 2), portal('d', null)];
  expect(
    groupsOf(portals).map(({ tpgt, portals: of }) => [tpgt, ...of.map(formatAddress)]),
  ).toEqual([
    [2, 'a:3260', 'c:3260'],
    [1, 'b:3260'],
    [null, 'd:3260'],
  ]);
});

describe('a discovery session', () => {
  /** A target that gives its list in pieces of `size` bytes. */
  function pieces(text: Buffer, size: number): FakeTarget {
    const target = new FakeTarget();
    let at = 0;
    target.onPdu = ({ pdu }) => {
      if (pdu.opcode === Opcode.TextRequest) {
        const piece = text.subarray(at, at + size);
        at += size;
        const final = at >= text.length;
        target.send(
          {
            opcode: Opcode.TextResponse,
            final,
            continue: !final,
            lun: Buffer.alloc(8, final ? 0 : 3),
            itt: pdu.itt,
            ttt: final ? RESERVED_TAG : 77,
            ...target.numbers(true),
          },
          piece,
        );
      }
      if (pdu.opcode === Opcode.LogoutRequest) target.close();
    };
    return target;
  }

  test('asks for an answer in parts under one tag, and joins it as it is (§11.10.3, §6.2)', async () => {
    const text = encodeText([
      ['TargetName', 'iqn.2026-11.lab:one'],
      ['TargetAddress', '10.0.0.1:3260,1'],
    ]);
    for (const size of [1, 7, 1000]) {
      const target = pieces(text, size);
      const found = await discover(openOptions(target, new VirtualClock()));
      expect(found).toMatchObject([{ name: 'iqn.2026-11.lab:one', portals: [{ tpgt: 1 }] }]);
      const requests = target.of(Opcode.TextRequest);
      expect(requests).toHaveLength(Math.ceil(text.length / size));
      expect(new Set(requests.map(({ pdu }) => pdu.itt)).size).toBe(1);
      for (const [index, { pdu, data }] of requests.entries()) {
        expect(pdu).toMatchObject({ final: true, continue: false, immediate: true });
        expect(pdu.ttt).toBe(index === 0 ? RESERVED_TAG : 77);
        expect(pdu.lun).toEqual(Buffer.alloc(8, index === 0 ? 0 : 3));
        if (index > 0) expect(data).toHaveLength(0);
      }
    }
  });

  test('sends SendTargets and a logout of the session, and nothing else (§13.21)', async () => {
    const target = pieces(encodeText([['TargetName', 'iqn.2026-11.lab:one']]), 4096);
    await discover({ ...openOptions(target, new VirtualClock()), target: 'IQN.2026-11.lab:ONE' });
    const sent = target.received.filter(({ pdu }) => pdu.opcode !== Opcode.LoginRequest);
    expect(sent.map(({ pdu }) => pdu.opcode)).toEqual([Opcode.TextRequest, Opcode.LogoutRequest]);
    expect(parseText(sent[0]!.data).pairs).toEqual([['SendTargets', 'iqn.2026-11.lab:one']]);
    expect(sent[1]!.pdu).toMatchObject({ reason: LogoutReason.CloseSession });
    const [first] = target.of(Opcode.LoginRequest);
    expect(Object.fromEntries(parseText(first!.data).pairs!)).toMatchObject({
      SessionType: 'Discovery',
    });
    expect(Object.keys(Object.fromEntries(parseText(first!.data).pairs!))).not.toContain(
      'TargetName',
    );
  });

  test('waits for an answer that takes long without a ping of its own (§13.21)', async () => {
    const target = pieces(encodeText([['TargetName', 'iqn.2026-11.lab:one']]), 4096);
    const clock = new VirtualClock();
    const { onPdu } = target;
    target.onPdu = (received) => {
      clock.after(received.pdu.opcode === Opcode.TextRequest ? 5000 : 0, () => onPdu(received));
    };
    const found = discover(openOptions(target, clock));
    await clock.advance(6000);
    expect(await found).toHaveLength(1);
    const sent = target.received.filter(({ pdu }) => pdu.opcode !== Opcode.LoginRequest);
    expect(sent.map(({ pdu }) => pdu.opcode)).toEqual([Opcode.TextRequest, Opcode.LogoutRequest]);
    expect(clock.pending).toBe(0);
  });

  test('answers the pings of the target (§11.18)', async () => {
    const target = pieces(encodeText([['TargetName', 'iqn.2026-11.lab:one']]), 4096);
    const { onPdu } = target;
    let pinged = false;
    target.onPdu = (received) => {
      if (!pinged) {
        pinged = true;
        target.send({
          opcode: Opcode.NopIn,
          lun: Buffer.alloc(8),
          itt: RESERVED_TAG,
          ttt: 5,
          ...target.numbers(false),
        });
      }
      onPdu(received);
    };
    await discover(openOptions(target, new VirtualClock()));
    expect(target.of(Opcode.NopOut).map(({ pdu }) => pdu.ttt)).toEqual([5]);
  });

  test('gives the addresses that the map has for those that it was told', async () => {
    const target = pieces(
      encodeText([
        ['TargetName', 'iqn.2026-11.lab:one'],
        ['TargetAddress', '10.0.2.15:3260,1'],
        ['TargetAddress', '10.0.2.16:3260,1'],
      ]),
      4096,
    );
    const to: Address = { kind: 'tcp', host: '127.0.0.1', port: 3270 };
    const found = await discover({
      ...openOptions(target, new VirtualClock()),
      mapAddress: (address) => (formatAddress(address) === '10.0.2.15:3260' ? to : address),
    });
    expect(found[0]!.portals.map(({ address }) => formatAddress(address))).toEqual([
      '127.0.0.1:3270',
      '10.0.2.16:3260',
    ]);
  });

  test('that never ends its answer is given up', async () => {
    const target = pieces(encodeText([['TargetName', 'x'.repeat(100_000)]]), 10);
    const failed = discover(openOptions(target, new VirtualClock()));
    await expect(failed).rejects.toMatchObject({ code: 'ISCSI_PROTOCOL' });
  });
});

test('a normal session asks with SendTargets= for the portals of its own target (App. C)', async () => {
  const fixture = await targetFixture();
  const { clock, target } = fixture;
  const opening = openSession({
    ...openOptions(new FakeTarget(), clock),
    network: fixture.network.host('initiator'),
    portals: [target.addresses[0]!],
    targetName: TARGET_NAME,
  });
  let found: unknown = null;
  opening
    .then((session) => sendTargets(session, ''))
    .then(
      (list) => {
        found = list;
      },
      (error: unknown) => {
        found = error;
      },
    );
  await clock.runUntil(() => found !== null, 60_000);
  expect(found).toMatchObject([{ name: TARGET_NAME, portals: [{ tpgt: 1 }, { tpgt: 2 }] }]);
});

describe('names', () => {
  test('are sent in one form: NFKC and lower case (§4.2.7.2)', () => {
    expect(normalizeName('IQN.2026-11.LAB:Disk')).toBe('iqn.2026-11.lab:disk');
    expect(normalizeName('iqn.2026-11.lab:ﬁle')).toBe('iqn.2026-11.lab:file');
    expect(normalizeName('iqn.2026-11.lab:dísk')).toBe(normalizeName('iqn.2026-11.lab:dísk'));
  });

  test('in one form stay in that form', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const normal = normalizeName(text);
        expect(normalizeName(normal)).toBe(normal);
      }),
    );
  });

  test.each([
    'iqn.2026-11.lab:disk_1',
    'IQN.2026-11.LAB',
    'iqn.2026-11.lab:größe',
    'naa.52004567BA64678D',
    'naa.62004567ba64678d0123456789abcdef',
  ])('%s is one', (name) => expect(nameInvalidReason(name)).toBeNull());

  test.each([
    'iqn.2026-11.lab:a b',
    'iqn.2026-11.lab:a\0b',
    'iqn.2026-11.lab:a=b',
    'iqn.2026-11.lab:a\u200bb/',
    'iqn.2026-00.lab:x',
    'iqn.2026-11.:x',
    'naa.123',
    'eui.02004567a425678',
    `iqn.2026-11.${'ﬁ'.repeat(110)}`,
  ])('%j is none', (name) => expect(nameInvalidReason(name)).toMatch(/./));
});
