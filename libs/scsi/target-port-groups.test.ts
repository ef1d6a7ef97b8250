import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AluaState, parseTargetPortGroups, targetPortGroupStates } from './target-port-groups.ts';
import { parseDesignators, targetPortOf } from './vpd.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

const groups = '80df 0001 00 02 00 02  0000 0001 0000 0002' + '02df 0002 00 02 00 01  0000 0003';
const parsed = [
  { group: 1, state: AluaState.ActiveOptimized, preferred: true, ports: [1, 2] },
  { group: 2, state: AluaState.Standby, preferred: false, ports: [3] },
];

describe('REPORT TARGET PORT GROUPS', () => {
  test('is understood with the short and with the extended header', () => {
    expect(parseTargetPortGroups(hex(`0000001c ${groups}`))).toEqual({
      groups: parsed,
      transitionSeconds: null,
      totalBytes: 32,
    });
    expect(parseTargetPortGroups(hex(`00000020 103c0000 ${groups}`))).toEqual({
      groups: parsed,
      transitionSeconds: 60,
      totalBytes: 36,
    });
  });

  test('a state without a meaning counts as unavailable', () => {
    const answer = parseTargetPortGroups(hex('00000008 07df 0001 00 02 00 00'))!;
    expect(answer.groups[0]!.state).toBe(AluaState.Unavailable);
  });

  test('cut off anywhere it gives less or nothing', () => {
    const whole = hex(`00000020 103c0000 ${groups}`);
    for (let cut = 0; cut <= whole.length; cut++) {
      const answer = parseTargetPortGroups(whole.subarray(0, cut));
      expect(answer?.groups.length ?? 0).toBeLessThanOrEqual(2);
    }
  });

  test('is parsed or refused, whatever it holds', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        parseTargetPortGroups(bytes);
      }),
    );
  });

  test('SET TARGET PORT GROUPS names groups and states', () => {
    const list = targetPortGroupStates([
      { group: 0x102, state: AluaState.ActiveOptimized },
      { group: 2, state: AluaState.Standby },
    ]);
    expect(list.toString('hex')).toBe('00000000' + '00000102' + '02000002');
  });
});

describe('the target port', () => {
  test('is read from the designators of its association', () => {
    const page = hex('0083 0018' + '51940004 00000007' + '51950004 00000102' + '01040004 00000009');
    expect(targetPortOf(parseDesignators(page)!)).toEqual({ relativePort: 7, group: 0x102 });
  });

  test('is not known where the page does not tell, or tells too little', () => {
    expect(targetPortOf([])).toEqual({ relativePort: null, group: null });
    const short = hex('0083 0006' + '51940002 0007');
    expect(targetPortOf(parseDesignators(short)!).relativePort).toBeNull();
  });
});
