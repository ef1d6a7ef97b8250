import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Receiver } from './receiver.ts';

/** Frames of 1 length-prefix header of 4 bytes and a payload; odd lengths are wanted into a destination. */
function frames(payloads: readonly Buffer[]): Buffer {
  return Buffer.concat(
    payloads.flatMap((payload) => {
      const header = Buffer.alloc(4);
      header.writeUInt32LE(payload.length);
      return [header, payload];
    }),
  );
}

function collector(): { receiver: Receiver; got: Buffer[] } {
  const got: Buffer[] = [];
  let payloadBytes = 0;
  let into: Buffer | null = null;
  const receiver: Receiver = new Receiver((buffer, at) => {
    if (payloadBytes === 0) {
      payloadBytes = buffer.readUInt32LE(at);
      into = payloadBytes % 2 === 1 ? Buffer.alloc(payloadBytes + 7) : null;
      receiver.want(payloadBytes, into, into === null ? 0 : 7);
      return;
    }
    if (into !== null) expect(buffer).toBe(into);
    got.push(Buffer.from(buffer.subarray(at, at + payloadBytes)));
    payloadBytes = 0;
    receiver.want(4);
  }, 4096);
  receiver.want(4);
  return { receiver, got };
}

const payloadsOf = (lengths: readonly number[]): Buffer[] =>
  lengths.map((length, i) => Buffer.alloc(length, i + 1));

const lengths = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 8_000, max: 70_001 })),
  { minLength: 1, maxLength: 12 },
);

describe('a receiver', () => {
  test('delivers every segment whole, however the stream is cut', () => {
    const property = fc.property(lengths, fc.integer({ min: 1, max: 9_000 }), (sizes, cut) => {
      const { receiver, got } = collector();
      const payloads = payloadsOf(sizes);
      const stream = frames(payloads);
      for (let at = 0; at < stream.length; at += cut) {
        const chunk = Buffer.from(stream.subarray(at, at + cut));
        receiver.push(chunk, chunk.length);
      }
      expect(got.length).toBe(payloads.length);
      got.forEach((payload, i) => {
        expect(payload.equals(payloads[i]!)).toBe(true);
      });
    });
    fc.assert(property, { numRuns: 60 });
  });

  test('delivers the same when the stream reads into the buffers that it offers', () => {
    const property = fc.property(lengths, fc.integer({ min: 1, max: 40_000 }), (sizes, most) => {
      const { receiver, got } = collector();
      const payloads = payloadsOf(sizes);
      const stream = frames(payloads);
      for (let at = 0; at < stream.length; ) {
        const buffer = receiver.buffer();
        const length = stream.copy(buffer, 0, at, Math.min(at + most, stream.length));
        at += length;
        receiver.push(buffer, length);
      }
      expect(got.map((payload) => payload.length)).toEqual(sizes);
      got.forEach((payload, i) => {
        expect(payload.equals(payloads[i]!)).toBe(true);
      });
    });
    fc.assert(property, { numRuns: 60 });
  });

  test('reads a header alone after a long payload, so that the next one needs no copy', () => {
    const { receiver } = collector();
    const stream = frames(payloadsOf([40_001, 40_001]));
    const offered: number[] = [];
    for (let at = 0; at < stream.length; ) {
      const buffer = receiver.buffer();
      offered.push(buffer.length);
      const length = stream.copy(buffer, 0, at, stream.length);
      at += length;
      receiver.push(buffer, length);
    }
    // The first header comes with the beginning of its payload, the second does not.
    expect(offered).toEqual([4096, 40_001 - 4092, 4, 40_001]);
  });

  test('delivers nothing after stop', () => {
    const { receiver, got } = collector();
    receiver.stop();
    receiver.push(frames(payloadsOf([3])), 7);
    expect(got).toEqual([]);
  });
});
