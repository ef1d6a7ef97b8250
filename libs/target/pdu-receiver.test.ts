import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { At, BHS_BYTES, padOf, putU24 } from '../iscsi/pdu/bhs.ts';
import { crc32c } from '../wire/crc32c.ts';
import { PduReceiver } from './pdu-receiver.ts';

interface Sample {
  readonly ahsWords: number;
  readonly length: number;
  readonly use: 'collect' | 'place' | 'skip';
}

function sealed(bytes: Buffer): Buffer {
  const digest = Buffer.alloc(4);
  digest.writeUInt32LE(crc32c(bytes));
  return Buffer.concat([bytes, digest]);
}

/** A PDU as it stands on the wire; its number is in the byte behind the opcode. */
function wire({ ahsWords, length }: Sample, index: number, header: boolean, data: boolean): Buffer {
  const head = Buffer.alloc(BHS_BYTES + ahsWords * 4, index + 1);
  head[1] = index;
  head[At.totalAhsLength] = ahsWords;
  putU24(head, At.dataSegmentLength, length);
  const body = Buffer.alloc(length + padOf(length));
  body.fill(index + 1, 0, length);
  return Buffer.concat([header ? sealed(head) : head, data && length > 0 ? sealed(body) : body]);
}

function receive(
  samples: readonly Sample[],
  stream: Buffer,
  cut: number,
  digests: [boolean, boolean],
) {
  const got: string[] = [];
  const wrong: string[] = [];
  const placed = Buffer.alloc(80_000);
  const receiver: PduReceiver = new PduReceiver({
    dataLengthMax: 1 << 20,
    onHeader(header, at, length) {
      const index = header[at + 1]!;
      const { use } = samples[index]!;
      if (length === 0) got.push(`${index}`);
      // A little room is missing: the rest is dropped.
      else if (use === 'place') receiver.place(placed.subarray(0, 8 + Math.max(1, length - 3)), 8);
      else if (use === 'skip') receiver.skip();
    },
    onData(data) {
      got.push(`data ${data === null ? '' : data.length}`);
    },
    onOversized: () => wrong.push('oversized'),
    onWrongDigest(part) {
      wrong.push(part);
      return false;
    },
  });
  receiver.useDigests(...digests);
  // A receiver begins with a header of the login; what was asked for first has no digest.
  const login = Buffer.alloc(BHS_BYTES);
  login[1] = 0;
  receiver.push(login, login.length);
  got.length = 0;
  for (let at = 0; at < stream.length && wrong.length === 0; at += cut) {
    const chunk = Buffer.from(stream.subarray(at, at + cut));
    receiver.push(chunk, chunk.length);
  }
  return { got, wrong };
}

const samples = fc.array(
  fc.record({
    ahsWords: fc.constantFrom(0, 0, 1, 5, 255),
    length: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 300 }), fc.constant(70_001)),
    use: fc.constantFrom('collect', 'place', 'skip'),
  }),
  { minLength: 1, maxLength: 6 },
) as fc.Arbitrary<Sample[]>;

describe('the receiver of a target', () => {
  test('takes PDUs with any digests, additional headers and data, however they are cut', () => {
    const property = fc.property(
      samples,
      fc.boolean(),
      fc.boolean(),
      fc.constantFrom(1, 7, 50, 4_000, 1_000_000),
      (pdus, header, data, cut) => {
        const stream = Buffer.concat(pdus.map((pdu, at) => wire(pdu, at, header, data)));
        const { got, wrong } = receive(pdus, stream, cut, [header, data]);
        expect(wrong).toEqual([]);
        expect(got).toEqual(
          pdus.map(({ length, use }, at) =>
            length === 0 ? `${at}` : `data ${use === 'collect' ? length : ''}`,
          ),
        );
      },
    );
    fc.assert(property, { numRuns: 15 });
  });

  test('notices each changed bit of header, additional header, data, pad and digests', () => {
    for (const use of ['collect', 'place', 'skip'] as const) {
      const pdu: Sample = { ahsWords: 2, length: 13, use };
      const stream = wire(pdu, 0, true, true);
      for (let bit = 0; bit < stream.length * 8; bit++) {
        // The length of the additional header says where the digest is: too long means that it has not come yet.
        if (bit >> 3 === At.totalAhsLength) continue;
        const damaged = Buffer.from(stream);
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        const { wrong } = receive([pdu], damaged, damaged.length, [true, true]);
        expect(wrong).toEqual([bit >> 3 < BHS_BYTES + 8 + 4 ? 'header' : 'data']);
      }
    }
  });
});
