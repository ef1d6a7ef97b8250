import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  answerInvalidReason,
  answerProposal,
  combine,
  defaultParams,
  formatValue,
  type KeyName,
  keyOf,
  keys,
  parseValue,
} from './keys.ts';

const negotiated = (Object.keys(keys) as KeyName[]).filter((name) => {
  const key = keyOf(name);
  return key.type !== 'text' && key.result !== undefined && key.type !== 'list';
});

function anyValueOf(name: KeyName): fc.Arbitrary<number | boolean> {
  const key = keyOf(name);
  if (key.type === 'number') return fc.integer({ min: key.range[0], max: key.range[1] });
  return fc.boolean();
}

const negotiation = fc
  .constantFrom(...negotiated)
  .chain((name) => fc.tuple(fc.constant(name), anyValueOf(name), anyValueOf(name)));

describe('the key table', () => {
  test('has the defaults of the RFC', () => {
    expect(defaultParams()).toMatchObject({
      MaxRecvDataSegmentLength: 8192,
      MaxBurstLength: 262144,
      FirstBurstLength: 65536,
      InitialR2T: true,
      ImmediateData: true,
      MaxOutstandingR2T: 1,
      HeaderDigest: 'None',
      ErrorRecoveryLevel: 0,
    });
  });

  test('a default is a legal value of its own key', () => {
    for (const [name, value] of Object.entries(defaultParams())) {
      expect(parseValue(name as KeyName, formatValue(value))).toBe(value);
    }
  });

  test('an answer that one side computes is accepted by the other, and both have the same value', () => {
    fc.assert(
      fc.property(negotiation, ([name, ours, theirs]) => {
        const answer = answerProposal(name, formatValue(ours), theirs);
        expect(answerInvalidReason(name, formatValue(ours), answer.text)).toBeNull();
        expect(answer.value).toBe(combine(name, ours, theirs));
        expect(combine(name, ours, theirs)).toBe(combine(name, theirs, ours));
      }),
    );
  });

  test.each([
    ['MaxBurstLength', '262144', '262145'],
    ['MaxBurstLength', '262144', '100'],
    ['MaxBurstLength', '262144', '0x'],
    ['MaxBurstLength', '262144', ''],
    ['MaxOutstandingR2T', '8', '0'],
    ['InitialR2T', 'Yes', 'No'],
    ['InitialR2T', 'No', 'yes'],
    ['ImmediateData', 'No', 'Yes'],
    ['DefaultTime2Wait', '5', '2'],
    ['HeaderDigest', 'None', 'CRC32C'],
    ['HeaderDigest', 'None', 'MD5'],
  ] as const)('%s offered as %s may not be answered with "%s"', (name, offer, answer) => {
    expect(answerInvalidReason(name, offer, answer)).toMatch(/§/);
  });

  test('numbers may be hexadecimal', () => {
    expect(answerInvalidReason('MaxBurstLength', '262144', '0x20000')).toBeNull();
    expect(parseValue('MaxBurstLength', '0X20000')).toBe(131072);
  });

  test('a list is answered with the first value of it that we want, or Reject', () => {
    expect(answerProposal('AuthMethod', 'KRB5,CHAP,None', 'None,CHAP').text).toBe('CHAP');
    expect(answerProposal('AuthMethod', 'KRB5,SRP', 'None').text).toBe('Reject');
  });

  test('any text as a value is judged without throwing', () => {
    fc.assert(
      fc.property(fc.constantFrom(...(Object.keys(keys) as KeyName[])), fc.string(), (name, s) => {
        parseValue(name, s);
        expect(typeof answerProposal(name, s, 'None').text).toBe('string');
      }),
    );
  });
});
