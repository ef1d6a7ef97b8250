import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../core/clock.ts';
import { OrionError } from '../core/errors.ts';
import { BUS_MESSAGE_BYTES_MAX } from '../core/limits.ts';
import { CALLS_INFLIGHT_MAX, Calls } from './calls.ts';
import { decodePayload, decodeReply, encodeAnswer, encodeFailure, encodePayload } from './codec.ts';
import { StatusCell } from './listeners.ts';
import { SERVE_INFLIGHT_MAX, ServeLimit } from './serve-limit.ts';
import { subjectMatches } from './subject.ts';

function codeOf(run: () => unknown): string {
  try {
    run();
    return 'fine';
  } catch (error) {
    return error instanceof OrionError ? error.code : `not ours: ${String(error)}`;
  }
}

describe('codec', () => {
  test('any bytes are either a value or BUS_BAD_MESSAGE, never another error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(['fine', 'BUS_BAD_MESSAGE']).toContain(codeOf(() => decodePayload(bytes, 's')));
        expect(codeOf(() => decodeReply(bytes, 's'))).not.toContain('not ours');
      }),
      { numRuns: 2000 },
    );
  });

  test('any value of JSON comes back as it was', () => {
    // Through JSON first, which knows no -0; and msgpackr renames __proto__ on purpose.
    const values = fc
      .jsonValue()
      .filter((value) => !JSON.stringify(value).includes('__proto__'))
      .map((value) => JSON.parse(JSON.stringify(value)) as unknown);
    fc.assert(
      fc.property(values, (value) => {
        expect(decodePayload(encodePayload(value, 's'), 's')).toEqual(value);
      }),
    );
  });

  test('a deep nest and a lie about a length are refused, and cost no memory', () => {
    const nest = new Uint8Array(60_000).fill(0x91);
    expect(codeOf(() => decodePayload(nest, 's'))).toBe('BUS_BAD_MESSAGE');
    const liar = new Uint8Array([0xdd, 0xff, 0xff, 0xff, 0xff]);
    expect(codeOf(() => decodePayload(liar, 's'))).toBe('BUS_BAD_MESSAGE');
    const large = new Uint8Array(BUS_MESSAGE_BYTES_MAX + 1);
    expect(codeOf(() => decodePayload(large, 's'))).toBe('BUS_BAD_MESSAGE');
  });

  test('decoded bytes are a copy: nothing of the receive buffer is kept', () => {
    const wire = encodePayload({ bytes: new Uint8Array([1, 2, 3]) }, 's');
    const { bytes } = decodePayload(wire, 's') as { bytes: Uint8Array };
    expect(bytes.buffer).not.toBe(wire.buffer);
    wire.fill(0);
    expect([...bytes]).toEqual([1, 2, 3]);
  });

  test('an error envelope with nonsense in it is a bad message of unknown outcome', () => {
    for (const error of [null, 1, {}, { code: 1 }, { code: 'X', message: 'm', outcome: 'maybe' }]) {
      const wire = encodePayload({ error }, 's');
      expect(codeOf(() => decodeReply(wire, 's'))).toBe('BUS_BAD_MESSAGE');
    }
    expect(codeOf(() => decodeReply(encodePayload('x', 's'), 's'))).toBe('BUS_BAD_MESSAGE');
    expect(decodeReply(encodeAnswer(undefined, 's'), 's')).toBeUndefined();
  });

  test('a huge error text is cut, so that the failure still fits into a reply', () => {
    const wire = encodeFailure(new Error('x'.repeat(1_000_000)), 's');
    expect(codeOf(() => decodeReply(wire, 's'))).toBe('BUS_REMOTE');
  });
});

describe('bounds', () => {
  test('a service with too many requests under way refuses more, and says nothing was done', async () => {
    const waiting: (() => void)[] = [];
    const limit = new ServeLimit(() => new Promise((resolve) => waiting.push(() => resolve(1))));
    const request = encodePayload(null, 's');
    const answers = Array.from({ length: SERVE_INFLIGHT_MAX }, () => limit.answer('s', request));
    const refused = await limit.answer('s', request);
    expect(codeOf(() => decodeReply(refused, 's'))).toBe('BUS_OVERLOADED');
    for (const done of waiting) done();
    await Promise.all(answers);
    const after = limit.answer('s', request);
    waiting.at(-1)!();
    expect(decodeReply(await after, 's')).toBe(1);
  });

  test('a client with too many calls under way refuses more', async () => {
    const calls = new Calls(systemClock, new StatusCell('connected'));
    const never = () => calls.run({ timeoutMs: 60_000 }, {}, () => undefined).catch((e) => e);
    const all = Array.from({ length: CALLS_INFLIGHT_MAX }, never);
    expect(await never()).toMatchObject({ code: 'BUS_OVERLOADED', outcome: 'not-executed' });
    calls.breakOff();
    expect(await all[0]).toMatchObject({ code: 'BUS_DISCONNECTED', outcome: 'unknown' });
    await Promise.all(all);
  });
});

test('subject patterns match whole tokens', () => {
  expect(subjectMatches('a.>', 'a')).toBe(false);
  expect(subjectMatches('a.>', 'a.b.c')).toBe(true);
  expect(subjectMatches('a.*', 'a.b')).toBe(true);
  expect(subjectMatches('a.*', 'a.b.c')).toBe(false);
  expect(subjectMatches('a.b', 'a.bc')).toBe(false);
  expect(subjectMatches('*.b', 'a.b')).toBe(true);
});
