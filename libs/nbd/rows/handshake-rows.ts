import { expect } from 'vitest';
import { ClientFlag, NbdInfo, NbdOpt, NbdRep, REP_ERROR_BIT } from '../constants.ts';
import { encodeOption } from '../options.ts';
import { BOTH, EXPORT_BYTES, EXPORT_DESCRIPTION, EXPORT_NAME, NONE, type RowCase } from './case.ts';
import type { RawReply } from './raw-peer.ts';

const UNKNOWN_OPTION = 0x07654321;
const NO_FIXED_NEWSTYLE = ClientFlag.NoZeroes;

function infoData(nameBytes: number, rest: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(nameBytes, 0);
  return Buffer.concat([length, rest]);
}

/** An option header that declares more than is sent. */
function declare(option: number, length: number): Buffer {
  const header = encodeOption(option, Buffer.alloc(0));
  header.writeUInt32BE(length, 12);
  return header;
}

function infoOf(replies: readonly RawReply[], type: number): Buffer | undefined {
  return replies.find(({ type: t, data }) => t === NbdRep.Info && data.readUInt16BE(0) === type)
    ?.data;
}

function sizeAndFlags(replies: readonly RawReply[]): [number, number] {
  const data = infoOf(replies, NbdInfo.Export)!;
  expect(data.length).toBe(12);
  return [Number(data.readBigUInt64BE(2)), data.readUInt16BE(10)];
}

/** Each entry of a malformed GO: the option data, and why it is wrong. */
const MALFORMED: readonly (readonly [string, Buffer])[] = [
  ['empty', Buffer.alloc(0)],
  ['five bytes', Buffer.alloc(5)],
  ['name longer than the data', infoData(100, Buffer.from('ram\0\0'))],
  ['name length 2^32-1', infoData(0xffffffff, Buffer.from('ram\0\0'))],
  ['count promises more', infoData(3, Buffer.from('ram\0\x02\0\x03'))],
  ['bytes too many', infoData(3, Buffer.from('ram\0\0\0'))],
];

export const handshakeRows: readonly RowCase[] = [
  {
    row: 9,
    title: 'the greeting is NBDMAGIC, IHAVEOPT and the flags FIXED_NEWSTYLE|NO_ZEROES, no more',
    controls: BOTH,
    async run({ connect }) {
      const peer = await connect();
      const greeting = await peer.take(18);
      expect(greeting.toString('latin1', 0, 16)).toBe('NBDMAGICIHAVEOPT');
      expect(greeting.readUInt16BE(16)).toBe(3);
      expect(peer.unread).toBe(0);
      peer.leave();
    },
  },
  {
    row: 11,
    title: 'a client flag that is not known drops the connection',
    controls: BOTH,
    async run({ connect }) {
      for (const flags of [0x80000003, 0x7, 0x13]) {
        const peer = await connect();
        await peer.greet(flags);
        await peer.gone;
        expect(peer.unread).toBe(0);
      }
    },
  },
  {
    row: 12,
    title:
      'a client without fixed newstyle gets ERR_INVALID for options and can still use EXPORT_NAME',
    controls: ['nbdkit'],
    async run({ connect }) {
      const peer = await connect();
      await peer.greet(NO_FIXED_NEWSTYLE);
      expect(await peer.verdict(NbdOpt.List)).toBe(NbdRep.ErrInvalid);
      expect(await peer.verdict(NbdOpt.StartTls)).toBeGreaterThan(REP_ERROR_BIT);
      peer.send(encodeOption(NbdOpt.ExportName, Buffer.from(EXPORT_NAME)));
      expect(Number((await peer.take(10)).readBigUInt64BE(0))).toBe(EXPORT_BYTES);
      peer.leave();
    },
  },
  {
    row: 13,
    title: 'a bad option magic drops the connection',
    controls: BOTH,
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      peer.send(Buffer.alloc(16, 0x5a));
      await peer.gone;
    },
  },
  {
    row: 14,
    title: 'an unknown option is consumed with its payload and answered with ERR_UNSUP',
    controls: BOTH,
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      for (const bytes of [0, 1, 511, 70_000, 3_000_000]) {
        expect(await peer.verdict(UNKNOWN_OPTION, Buffer.alloc(bytes, 0xa5))).toBe(NbdRep.ErrUnsup);
      }
      await peer.expectInStep();
      peer.leave();
    },
  },
  {
    row: 15,
    title: 'an error reply echoes the option and carries a text for people',
    controls: ['qemu-nbd'],
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      const [reply] = await peer.option(UNKNOWN_OPTION);
      expect(reply!.type).toBe(NbdRep.ErrUnsup);
      expect(reply!.data.toString('utf8')).toMatch(/option/i);
      peer.leave();
    },
  },
  {
    row: 16,
    title: 'a declared option length of 128 MiB drops the connection before anything is stored',
    controls: BOTH,
    async run({ connect }) {
      for (const option of [NbdOpt.Go, UNKNOWN_OPTION]) {
        const peer = await connect();
        await peer.greet();
        peer.send(declare(option, 128 * 1024 * 1024));
        await peer.gone;
      }
    },
  },
  {
    row: 17,
    title:
      'a name of 4097 bytes, with NUL or not UTF-8 is ERR_INVALID, one of 4096 is only unknown',
    controls: NONE,
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      const name = (bytes: Buffer): Buffer =>
        infoData(bytes.length, Buffer.concat([bytes, Buffer.alloc(2)]));
      const bad = [Buffer.alloc(4097, 0x61), Buffer.from('ra\0m'), Buffer.from([0xc3, 0x28])];
      for (const bytes of bad) {
        expect(await peer.verdict(NbdOpt.Info, name(bytes))).toBe(NbdRep.ErrInvalid);
      }
      const long = name(Buffer.alloc(4096, 0x61));
      expect(await peer.verdict(NbdOpt.Info, long)).toBe(NbdRep.ErrUnknown);
      await peer.expectInStep();
      peer.leave();
    },
  },
  {
    row: 19,
    title: 'every refused option is answered once and leaves the stream in step',
    controls: NONE,
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      const refused: [number, Buffer][] = [
        [NbdOpt.List, Buffer.from('data')],
        [NbdOpt.StartTls, Buffer.alloc(0)],
        [NbdOpt.StartTls, Buffer.from('x')],
        [NbdOpt.PeekExport, Buffer.from('abc')],
        [NbdOpt.Info, Buffer.alloc(200_000)],
        [NbdOpt.Go, Buffer.from([0, 0, 0, 2, 0x6e, 0x6f, 0, 0])],
        [NbdOpt.ListMetaContext, Buffer.alloc(3)],
        [NbdOpt.SetMetaContext, Buffer.alloc(0)],
        [UNKNOWN_OPTION, Buffer.alloc(9)],
        ...MALFORMED.map(([, data]): [number, Buffer] => [NbdOpt.Go, data]),
      ];
      for (const [option, data] of refused) {
        const replies = await peer.option(option, data);
        expect(replies.map(({ type }) => type >= REP_ERROR_BIT)).toEqual([true]);
        await peer.expectInStep();
        expect(peer.unread).toBe(0);
      }
      peer.leave();
    },
  },
  {
    row: 21,
    title: 'EXPORT_NAME answers size and flags, with 124 zeroes unless the client dropped them',
    controls: BOTH,
    async run({ connect }) {
      for (const [flags, bytes] of [
        [ClientFlag.FixedNewstyle, 134],
        [ClientFlag.FixedNewstyle | ClientFlag.NoZeroes, 10],
      ] as const) {
        const peer = await connect();
        await peer.greet(flags);
        peer.send(encodeOption(NbdOpt.ExportName, Buffer.from(EXPORT_NAME)));
        const reply = await peer.take(bytes);
        expect(Number(reply.readBigUInt64BE(0))).toBe(EXPORT_BYTES);
        expect(reply.readUInt16BE(8) & 1).toBe(1);
        expect(reply.subarray(10).every((byte) => byte === 0)).toBe(true);
        await peer.expectAlive();
        peer.leave();
      }
    },
  },
  {
    row: 22,
    title: 'EXPORT_NAME of an unknown export closes without a byte',
    controls: ['qemu-nbd'],
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      peer.send(encodeOption(NbdOpt.ExportName, Buffer.from('nonesuch')));
      await peer.gone;
      expect(peer.unread).toBe(0);
    },
  },
  {
    row: 24,
    title: 'ABORT is acknowledged, whatever data it brings, then the connection is closed',
    controls: BOTH,
    async run({ connect }) {
      for (const data of [Buffer.alloc(0), Buffer.alloc(100, 1)]) {
        const peer = await connect();
        await peer.greet();
        expect(await peer.verdict(NbdOpt.Abort, data)).toBe(NbdRep.Ack);
        await peer.gone;
      }
    },
  },
  {
    row: 25,
    title: 'LIST names the exports with their descriptions, and refuses data',
    controls: ['qemu-nbd'],
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      const replies = await peer.option(NbdOpt.List);
      expect(replies.at(-1)).toEqual({ type: NbdRep.Ack, data: Buffer.alloc(0) });
      expect(replies[0]!.type).toBe(NbdRep.Server);
      const { data } = replies[0]!;
      const nameBytes = data.readUInt32BE(0);
      expect(data.toString('utf8', 4, 4 + nameBytes)).toBe(EXPORT_NAME);
      expect(data.toString('utf8', 4 + nameBytes)).toBe(EXPORT_DESCRIPTION);
      expect(await peer.verdict(NbdOpt.List, Buffer.from('x'))).toBe(NbdRep.ErrInvalid);
      await peer.expectInStep();
      peer.leave();
    },
  },
  {
    row: 27,
    title: 'INFO and GO with lengths that do not fit are ERR_INVALID',
    controls: BOTH,
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      for (const option of [NbdOpt.Info, NbdOpt.Go]) {
        for (const [what, data] of MALFORMED) {
          expect(await peer.verdict(option, data), what).toBe(NbdRep.ErrInvalid);
        }
      }
      await peer.expectInStep();
      peer.leave();
    },
  },
  {
    row: 28,
    title: 'an unknown export is ERR_UNKNOWN, and a second GO works',
    controls: ['qemu-nbd'],
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      for (const option of [NbdOpt.Info, NbdOpt.Go]) {
        const replies = await peer.info(option, 'nonesuch');
        expect(replies.map(({ type }) => type)).toEqual([NbdRep.ErrUnknown]);
      }
      expect((await peer.info(NbdOpt.Go, EXPORT_NAME)).at(-1)!.type).toBe(NbdRep.Ack);
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 29,
    title: 'INFO_EXPORT comes before ACK although nobody asked for it, nothing after ACK',
    controls: BOTH,
    async run({ connect }) {
      const peer = await connect();
      await peer.greet(ClientFlag.FixedNewstyle);
      for (const option of [NbdOpt.Info, NbdOpt.Go]) {
        const replies = await peer.info(option, EXPORT_NAME);
        expect(sizeAndFlags(replies)[0]).toBe(EXPORT_BYTES);
        expect(replies.at(-1)!.type).toBe(NbdRep.Ack);
      }
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 30,
    title: 'INFO_NAME and INFO_DESCRIPTION come when asked for (row 31 too)',
    controls: ['qemu-nbd'],
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      const asked = [NbdInfo.Name, NbdInfo.Description];
      const replies = await peer.info(NbdOpt.Info, EXPORT_NAME, asked);
      expect(infoOf(replies, NbdInfo.Name)!.toString('utf8', 2)).toBe(EXPORT_NAME);
      expect(infoOf(replies, NbdInfo.Description)!.toString('utf8', 2)).toBe(EXPORT_DESCRIPTION);
      peer.leave();
    },
  },
  {
    row: 32,
    title: 'INFO_BLOCK_SIZE comes when asked for, within the rules of row 66',
    controls: ['qemu-nbd'],
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      const replies = await peer.info(NbdOpt.Go, EXPORT_NAME, [NbdInfo.BlockSize]);
      const data = infoOf(replies, NbdInfo.BlockSize)!;
      const [min, preferred, max] = [2, 6, 10].map((at) => data.readUInt32BE(at)) as [
        number,
        number,
        number,
      ];
      const isPower = (n: number): boolean => n > 0 && (n & (n - 1)) === 0;
      expect([isPower(min), isPower(preferred)]).toEqual([true, true]);
      expect(min).toBeLessThanOrEqual(65536);
      expect(preferred).toBeGreaterThanOrEqual(Math.max(min, 512));
      expect(max).toBeGreaterThanOrEqual(Math.max(preferred, 2 ** 20));
      expect(EXPORT_BYTES % min).toBe(0);
      peer.leave();
    },
  },
  {
    row: 33,
    title: 'information requests that are not known are ignored',
    controls: BOTH,
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      const replies = await peer.info(NbdOpt.Go, EXPORT_NAME, [0x1234, 0xffff]);
      expect(replies.at(-1)!.type).toBe(NbdRep.Ack);
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 34,
    title: 'GO after INFO with the same parameters gives the same answer',
    controls: BOTH,
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      const infos = [NbdInfo.Name, NbdInfo.Description, NbdInfo.BlockSize];
      const first = await peer.info(NbdOpt.Info, EXPORT_NAME, infos);
      const second = await peer.info(NbdOpt.Go, EXPORT_NAME, infos);
      expect(second).toEqual(first);
      peer.leave();
    },
  },
  {
    row: 37,
    title: 'STARTTLS is answered with ERR_POLICY, and nothing ever wants TLS',
    controls: BOTH,
    async run({ connect }) {
      const peer = await connect();
      await peer.greet();
      expect(await peer.verdict(NbdOpt.StartTls)).toBe(NbdRep.ErrPolicy);
      expect((await peer.info(NbdOpt.Go, EXPORT_NAME)).at(-1)!.type).toBe(NbdRep.Ack);
      peer.leave();
    },
  },
];
