import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../block/memory.ts';
import { intBetween, seededRng } from '../core/rng.ts';
import { Receiver } from '../wire/receiver.ts';
import { ClientHandshake } from './client-handshake.ts';
import { NbdOpt, NbdRep, REP_ERROR_BIT } from './constants.ts';
import { Handshake, type HandshakeStep } from './handshake.ts';
import { DEFAULT_NBD_LIMITS } from './limits.ts';
import { decodeInfoRequest, decodeOptionHeader, isInvalid } from './options.ts';
import { clientVectors, serverVectors } from './vectors/handshakes.ts';

const device = new MemoryDevice({ sizeBytes: 8 * 1024 * 1024 });
const exp = { name: 'ram', description: 'a RAM disk', device };

/** Runs a handshake over `bytes`, delivered in chunks of the given lengths; gives how far it came. */
function run(bytes: Buffer, chunkBytes: (at: number) => number) {
  const sent: Buffer[] = [];
  let last: HandshakeStep = { kind: 'more' };
  const handshake = new Handshake({
    client: { id: 1, remote: 'test' },
    exports: {
      list: () => [exp],
      find: (name) => (name === '' || name === 'ram' ? exp : null),
    },
    limits: DEFAULT_NBD_LIMITS,
    draining: () => false,
    send: (reply) => sent.push(reply),
  });
  const receiver: Receiver = new Receiver((buffer, at) => {
    last = handshake.segment(buffer, at);
    if (last.kind === 'more') receiver.want(handshake.need);
    else receiver.stop();
  });
  receiver.want(handshake.need);
  for (let at = 0; at < bytes.length; ) {
    const chunk = Buffer.from(bytes.subarray(at, at + chunkBytes(at)));
    receiver.push(chunk, chunk.length);
    at += chunk.length;
  }
  return { last, sent: Buffer.concat(sent), handshake, receiver };
}

describe.each(clientVectors)('the handshake of $name ($source)', (vector) => {
  const client = Buffer.from(vector.client, 'hex');

  test('ends as it should and is answered byte for byte as it was', () => {
    const { last, sent } = run(client, () => client.length);
    expect(last.kind).toBe(vector.end);
    expect(sent.toString('hex')).toBe(vector.server);
  });

  test('is the same byte by byte', () => {
    const { last, sent } = run(client, () => 1);
    expect(last.kind).toBe(vector.end);
    expect(sent.toString('hex')).toBe(vector.server);
  });

  test('cut anywhere waits for more', () => {
    for (let length = 0; length < client.length; length++) {
      const { last } = run(client.subarray(0, length), () => 7);
      expect(last.kind).toBe('more');
    }
  });

  test('with any byte changed ends in an answer, a refusal or a wait, never in a throw', () => {
    for (let at = 0; at < client.length; at++) {
      for (const flip of [0x01, 0x80, 0xff]) {
        const broken = Buffer.from(client);
        broken[at]! ^= flip;
        const { last } = run(broken, () => broken.length);
        expect(['more', 'drop', 'end', 'transmission']).toContain(last.kind);
      }
    }
  });
});

test('random bytes never throw, and never get an export', () => {
  const rng = seededRng(11);
  for (let i = 0; i < 300; i++) {
    const bytes = Buffer.alloc(intBetween(rng, 4, 400));
    rng.fill(bytes);
    bytes.writeUInt32BE(3, 0);
    if (i % 2 === 0 && bytes.length > 12) bytes.write('IHAVEOPT', 4, 'latin1');
    const { last } = run(bytes, () => intBetween(rng, 1, 50));
    expect(['more', 'drop']).toContain(last.kind);
  }
});

describe.each(serverVectors)('our client with the server of "$name" ($source)', (vector) => {
  const server = Buffer.from(vector.server, 'hex');
  const client = Buffer.from(vector.client, 'hex');

  function connect(bytes: Buffer) {
    let at = 0;
    const sent: Buffer[] = [];
    const handshake = new ClientHandshake({
      take(length) {
        if (at + length > bytes.length) return Promise.reject(new Error('the server left'));
        at += length;
        return Promise.resolve(Buffer.from(bytes.subarray(at - length, at)));
      },
      send: (out) => sent.push(out),
    });
    return { handshake, sent, left: () => bytes.length - at };
  }

  /** The options of the vector, one after the other. */
  async function replay(bytes: Buffer) {
    const { handshake, sent, left } = connect(bytes);
    await handshake.greet();
    const types: number[] = [];
    for (let at = 4; at < client.length; ) {
      const { option, length } = decodeOptionHeader(client, at)!;
      const data = client.subarray(at + 16, at + 16 + length);
      at += 16 + length;
      const request = decodeInfoRequest(data);
      if ((option === NbdOpt.Go || option === NbdOpt.Info) && !isInvalid(request)) {
        const info = await handshake.info(option, request.name, request.infos);
        expect(info.sizeBytes).toBe(8 * 1024 * 1024);
        types.push(NbdRep.Ack);
      } else types.push((await handshake.option(option, data)).at(-1)!.type);
    }
    return { types, sent: Buffer.concat(sent), left: left() };
  }

  test('takes every reply, and sends what the other client sent', async () => {
    const { types, sent, left } = await replay(server);
    expect(types.filter((type) => type >= REP_ERROR_BIT)).toEqual([]);
    expect(left).toBe(0);
    expect(sent.toString('hex')).toBe(vector.client);
  });

  test('cut anywhere fails and does not hang', async () => {
    for (let length = 0; length < server.length; length += 3) {
      await expect(replay(server.subarray(0, length))).rejects.toThrow();
    }
  });
});
