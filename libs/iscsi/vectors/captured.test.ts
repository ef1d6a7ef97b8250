import { describe, expect, test } from 'vitest';
import { BHS_BYTES } from '../pdu/bhs.ts';
import { decodePdu, encodePdu, invalidReason, type Pdu, type WholePdu } from '../pdu/index.ts';
import { parseText } from '../text.ts';
import { type CapturedPdu, capturedPdus } from './captured.ts';

function bytesOf({ header, data }: CapturedPdu): Buffer {
  const segment =
    typeof data === 'string' ? Buffer.from(data, 'hex') : Buffer.alloc(data.length, data.byte);
  const pad = Buffer.alloc(-segment.length & 3);
  return Buffer.concat([Buffer.from(header, 'hex'), segment, pad]);
}

function decode(bytes: Buffer): WholePdu {
  const whole = decodePdu(bytes);
  if (whole === null || typeof whole === 'string') throw new Error(String(whole));
  return whole;
}

/** Fields as the vectors write them. */
function plain(pdu: Pdu): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(pdu).map(([key, value]) => [
      key,
      Buffer.isBuffer(value) ? value.toString('hex') : value,
    ]),
  );
}

describe.each(
  capturedPdus.map((vector) => [`${vector.name} of ${vector.source}`, vector] as const),
)('%s', (_, vector) => {
  const bytes = bytesOf(vector);

  test('is decoded to what it says', () => {
    const { pdu, data } = decode(bytes);
    expect(plain(pdu)).toEqual(vector.value);
    expect(invalidReason(pdu)).toBeNull();
    if (/Login|Text/.test(vector.name)) expect(parseText(data).error).toBeNull();
  });

  test('is encoded to the same bytes', () => {
    const { pdu, data } = decode(bytes);
    expect(encodePdu(pdu, data).toString('hex')).toBe(bytes.toString('hex'));
  });

  test('is asked for more at every truncation', () => {
    for (let i = 0; i < bytes.length; i += i < 64 ? 1 : 97) {
      expect(decodePdu(bytes.subarray(0, i))).toBeNull();
    }
  });

  test('with any byte of its header changed is another PDU, an invalid one, or none', () => {
    for (let at = 0; at < BHS_BYTES; at++) {
      const copy = Buffer.from(bytes);
      copy[at] = copy[at]! ^ 0xff;
      const whole = decodePdu(copy);
      if (whole !== null && typeof whole !== 'string') invalidReason(whole.pdu);
    }
  });
});
