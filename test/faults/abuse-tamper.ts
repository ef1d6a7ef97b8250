import { intBetween, pick, type Rng } from '#core/rng.ts';
import { Opcode } from '#iscsi/pdu/opcodes.ts';
import type { Tamper, Tampered } from './tampering-network.ts';

/** Bytes of a stream before the first harm, at most; less than a session of the abuse has. */
const FIRST_HARM_BYTES_MAX = 24 * 1024;
const NEXT_HARM_BYTES_MAX = 8 * 1024;
const KEPT_CHUNKS = 16;

type Harm = (bytes: Buffer, rng: Rng, earlier: readonly Buffer[]) => Tampered;

function random(rng: Rng, bytes: number): Buffer {
  const into = Buffer.alloc(bytes);
  rng.fill(into);
  return into;
}

/** A header of a real opcode with anything in it, and often of an honest length. */
function randomHeader(rng: Rng): Buffer {
  const header = random(rng, 48);
  header[0] = pick(rng, Object.values(Opcode));
  if (rng.float() < 0.8) header[4] = 0;
  if (rng.float() < 0.8) header.writeUIntBE(rng.float() < 0.5 ? 0 : intBetween(rng, 1, 64), 5, 3);
  if (rng.float() < 0.5) header.writeUInt32BE(0xffffffff, 16);
  return header;
}

const HARMS: Readonly<Record<string, Harm>> = {
  flipBit(bytes, rng) {
    bytes[intBetween(rng, 0, bytes.length - 1)]! ^= 1 << intBetween(rng, 0, 7);
    return { bytes };
  },
  changeBytes(bytes, rng) {
    for (let i = intBetween(rng, 1, 8); i > 0; i--) {
      bytes[intBetween(rng, 0, bytes.length - 1)] = rng.u32() & 0xff;
    }
    return { bytes };
  },
  remove(bytes, rng) {
    const from = intBetween(rng, 0, bytes.length - 1);
    const to = intBetween(rng, from + 1, bytes.length);
    return { bytes: Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]) };
  },
  insert(bytes, rng) {
    const at = intBetween(rng, 0, bytes.length);
    const more = random(rng, intBetween(rng, 1, 200));
    return { bytes: Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at)]) };
  },
  header(bytes, rng) {
    return { bytes: Buffer.concat([randomHeader(rng), random(rng, 64), bytes]) };
  },
  repeat(bytes) {
    return { bytes: Buffer.concat([bytes, bytes]) };
  },
  replay(bytes, rng, earlier) {
    const old = earlier.length === 0 ? bytes : pick(rng, earlier);
    return { bytes: rng.float() < 0.5 ? Buffer.concat([old, bytes]) : old };
  },
  swap(bytes) {
    const middle = bytes.length >> 1;
    return { bytes: Buffer.concat([bytes.subarray(middle), bytes.subarray(0, middle)]) };
  },
  end(bytes, rng) {
    const end = pick(rng, ['close', 'reset', 'silence'] as const);
    return { bytes: bytes.subarray(0, intBetween(rng, 0, bytes.length)), end };
  },
  endless(bytes, rng) {
    const more = Array.from({ length: 400 }, () => randomHeader(rng));
    return { bytes: Buffer.concat([bytes, ...more]) };
  },
};

/** Harms every stream at random places, in random ways; tells `struck` of each. */
export function harming(rng: Rng, struck: (harm: string) => void): Tamper {
  const names = Object.keys(HARMS);
  const streams = new Map<number, { next: number; earlier: Buffer[] }>();
  return (bytes, at, connection) => {
    let stream = streams.get(connection);
    if (stream === undefined) {
      stream = { next: intBetween(rng, 0, FIRST_HARM_BYTES_MAX), earlier: [] };
      streams.set(connection, stream);
    }
    if (at + bytes.length <= stream.next || bytes.length === 0) {
      stream.earlier.push(Buffer.from(bytes));
      if (stream.earlier.length > KEPT_CHUNKS) stream.earlier.shift();
      return { bytes };
    }
    stream.next = at + bytes.length + intBetween(rng, 0, NEXT_HARM_BYTES_MAX);
    const name = pick(rng, names);
    struck(name);
    return HARMS[name]!(bytes, rng, stream.earlier);
  };
}
