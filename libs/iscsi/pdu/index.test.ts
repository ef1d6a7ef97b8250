import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BHS_BYTES, type PduCodec } from './bhs.ts';
import { codecs, decodeHeader, decodePdu, encodePdu, invalidReason, type Pdu } from './index.ts';
import { nameOf, Opcode } from './opcodes.ts';

const all = Object.values(Opcode);

describe('the PDU registry', () => {
  test('holds exactly the opcodes of the list, each codec under its own opcode', () => {
    expect(Object.keys(codecs).map(Number).sort()).toEqual([...all].sort());
    for (const opcode of all) expect(codecs[opcode].opcode).toBe(opcode);
  });

  test('names an opcode, and says so of an unknown one', () => {
    expect(nameOf(Opcode, 0x25)).toBe('DataIn');
    expect(nameOf(Opcode, 0x2f)).toBe('unknown (0x2f)');
  });
});

describe('every PDU codec', () => {
  const header = fc.uint8Array({ minLength: BHS_BYTES, maxLength: BHS_BYTES });

  test('decodes any 48 bytes of its opcode without throwing, and judges them', () => {
    fc.assert(
      fc.property(fc.constantFrom(...all), header, (opcode, bytes) => {
        const from = Buffer.from(bytes);
        from[0] = opcode;
        const pdu = decodeHeader(from);
        expect(pdu?.opcode).toBe(opcode);
        const reason = invalidReason(pdu!);
        expect(reason === null || reason.includes('§')).toBe(true);
      }),
    );
  });

  test('gives the same value after encode and decode', () => {
    fc.assert(
      fc.property(fc.constantFrom(...all), header, (opcode, bytes) => {
        const from = Buffer.from(bytes);
        from[0] = opcode | (from[0]! & 0x40);
        const codec = codecs[opcode] as PduCodec<Pdu>;
        const once = codec.decode(from, 0);
        const into = Buffer.alloc(BHS_BYTES + 8, 0xff);
        codec.encode(once, into, 4);
        expect(codec.decode(into, 4)).toEqual(once);
        expect(into.subarray(0, 4).equals(Buffer.alloc(4, 0xff))).toBe(true);
        expect(into.subarray(52).equals(Buffer.alloc(4, 0xff))).toBe(true);
      }),
    );
  });

  test('asks for more bytes at every truncation of a whole PDU', () => {
    const pdu = decodeHeader(Buffer.from([Opcode.NopIn, 0x80, ...Buffer.alloc(46)]))!;
    const whole = encodePdu(pdu, Buffer.from('hello'));
    expect(whole.length).toBe(56);
    for (let i = 0; i < whole.length; i++) expect(decodePdu(whole.subarray(0, i))).toBeNull();
    const decoded = decodePdu(Buffer.concat([whole, Buffer.from('next')]));
    expect(decoded).toMatchObject({ bytes: 56, data: Buffer.from('hello') });
  });

  test('says that an opcode does not exist', () => {
    const bytes = Buffer.alloc(BHS_BYTES);
    bytes[0] = 0x2f;
    expect(decodePdu(bytes)).toMatch(/opcode 0x2f/);
  });
});
