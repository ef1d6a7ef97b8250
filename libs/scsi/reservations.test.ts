import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  iscsiTransportId,
  parseFullStatus,
  parseIscsiTransportId,
  parseReadKeys,
  parseReadReservation,
  parseReserveCapabilities,
  ReservationType,
  registerAndMoveParameters,
  reserveOutParameters,
} from './persistent-reserve.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

const KEY = 0x0123456789abcdefn;

describe('what PERSISTENT RESERVE OUT sends', () => {
  test('is the key, the other key and the flags', () => {
    expect(
      reserveOutParameters({ key: KEY, actionKey: 0xffffffffffffffffn, aptpl: true }).toString(
        'hex',
      ),
    ).toBe(`0123456789abcdefffffffffffffffff00000000${'01000000'}`);
    expect(reserveOutParameters({ key: 0n, actionKey: 1n, allTargetPorts: true })[20]).toBe(4);
  });

  test('names the other port in REGISTER AND MOVE by name and ISID', () => {
    const list = registerAndMoveParameters({
      key: 1n,
      actionKey: 2n,
      unregister: true,
      relativePort: 0x102,
      initiatorName: 'iqn.2026-11.lab:b',
      isid: hex('80aabbccddee'),
    });
    // 17 + 17 characters and a zero, padded to 36.
    expect(list.toString('hex')).toBe(
      '0000000000000001' +
        '0000000000000002' +
        '00020102' +
        '00000028' +
        '45000024' +
        Buffer.from('iqn.2026-11.lab:b,i,0x80aabbccddee\0\0').toString('hex'),
    );
  });

  test('pads a short name to 20 bytes', () => {
    const id = iscsiTransportId('iqn.a');
    expect(id).toHaveLength(24);
    expect(parseIscsiTransportId(id)).toBe('iqn.a');
  });
});

describe('what PERSISTENT RESERVE IN answers', () => {
  const keys = hex('00000007 00000010 0123456789abcdef 0000000000000002');

  test('lists keys, as many as arrived', () => {
    expect(parseReadKeys(keys)).toEqual({ generation: 7, keys: [KEY, 2n], totalBytes: 24 });
    expect(parseReadKeys(keys.subarray(0, 23))!.keys).toEqual([KEY]);
    expect(parseReadKeys(keys.subarray(0, 7))).toBeNull();
  });

  test('names the reservation, or none', () => {
    expect(parseReadReservation(hex('0000000100000000'))).toEqual({ generation: 1, held: null });
    const held = hex(`00000002 00000010 0123456789abcdef 00000000 00 05 0000`);
    expect(parseReadReservation(held)).toEqual({
      generation: 2,
      held: { key: KEY, type: ReservationType.WriteExclusiveRegistrantsOnly, scope: 0 },
    });
    expect(parseReadReservation(held.subarray(0, 20))).toBeNull();
  });

  test('tells what it can', () => {
    expect(parseReserveCapabilities(hex('0008 0d 81 ea01 0000'))).toEqual({
      persistCapable: true,
      persistActive: true,
      allTargetPorts: true,
      specifyInitiatorPorts: true,
      types: [1, 3, 5, 6, 7, 8],
    });
    expect(parseReserveCapabilities(hex('0008 01 00 0000 0000'))!.types).toBeNull();
  });

  test('tells every registration with its port', () => {
    const id = iscsiTransportId('iqn.2026-11.lab:a', hex('80aabbccddee'));
    const one = (key: string, flags: string): Buffer =>
      Buffer.concat([
        hex(`${key} 00000000 ${flags} 00000000 0001 ${id.length.toString(16).padStart(8, '0')}`),
        id,
      ]);
    const body = Buffer.concat([one('0123456789abcdef', '0105'), one('0000000000000002', '0200')]);
    const page = Buffer.concat([
      hex(`00000003 ${body.length.toString(16).padStart(8, '0')}`),
      body,
    ]);
    expect(parseFullStatus(page)).toEqual({
      generation: 3,
      totalBytes: page.length,
      registrations: [
        {
          key: KEY,
          holder: true,
          allTargetPorts: false,
          type: 5,
          scope: 0,
          relativePort: 1,
          initiator: 'iqn.2026-11.lab:a,i,0x80aabbccddee',
        },
        {
          key: 2n,
          holder: false,
          allTargetPorts: true,
          type: 0,
          scope: 0,
          relativePort: 1,
          initiator: 'iqn.2026-11.lab:a,i,0x80aabbccddee',
        },
      ],
    });
    for (let cut = 0; cut < page.length; cut++) {
      expect(parseFullStatus(page.subarray(0, cut))?.registrations.length ?? 0).toBeLessThan(2);
    }
  });

  test('is parsed or refused, whatever it holds', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const parse of [parseReadKeys, parseFullStatus, parseReadReservation]) parse(bytes);
        parseReserveCapabilities(bytes);
        parseIscsiTransportId(bytes);
      }),
    );
  });
});
