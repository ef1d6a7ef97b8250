import { expect } from 'vitest';
import { CmdFlag, NbdCmd, NbdErr, TransmissionFlag } from '../constants.ts';
import { BOTH, EXPORT_BYTES, EXPORT_NAME, NONE, type RowCase, type RowContext } from './case.ts';
import { type RawPeer, rawRequest } from './raw-peer.ts';

async function going({ connect }: RowContext, sizes = false): Promise<RawPeer> {
  const peer = await connect();
  await peer.go(EXPORT_NAME, sizes);
  return peer;
}

const MIB = 1024 * 1024;
const WITH_RANGE = [NbdCmd.Read, NbdCmd.Trim, NbdCmd.WriteZeroes, NbdCmd.Cache] as const;

export const transmissionRows: readonly RowCase[] = [
  {
    row: 60,
    title: 'HAS_FLAGS is always set, and flush, FUA, trim and zeroes are advertised',
    controls: BOTH,
    async run({ connect }) {
      const peer = await connect();
      const flags = await peer.go(EXPORT_NAME);
      const { HasFlags, SendFlush, SendFua, SendTrim, SendWriteZeroes } = TransmissionFlag;
      const wanted = HasFlags | SendFlush | SendFua | SendTrim | SendWriteZeroes;
      expect(flags & wanted).toBe(wanted);
      // Rows 61 and 62.
      expect(flags & TransmissionFlag.SendDf).toBe(0);
      peer.leave();
    },
  },
  {
    row: 67,
    title: 'a client that negotiated no sizes may read and write at any byte',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      const base = Buffer.alloc(4096, 0x11);
      expect(await peer.request({ command: NbdCmd.Write, offset: 8192, payload: base })).toBe(0);
      const odd = Buffer.from('seventeen bytes!!');
      const cases = [8193, 8192 + 505, 8192 + 1023, 8192 + 2048];
      for (const offset of cases) {
        expect(await peer.request({ command: NbdCmd.Write, offset, payload: odd })).toBe(0);
        odd.copy(base, offset - 8192);
        expect(await peer.read(offset, odd.length)).toEqual(odd);
      }
      expect(await peer.read(8192, 4096)).toEqual(base);
      const zeroes = { command: NbdCmd.WriteZeroes, offset: 8192 + 100, length: 1500 };
      expect(await peer.request(zeroes)).toBe(0);
      base.fill(0, 100, 1600);
      expect(await peer.read(8192, 4096)).toEqual(base);
      expect((await peer.read(1, 1048590)).length).toBe(1048590);
      peer.leave();
    },
  },
  {
    row: 69,
    title: 'a read returns what was written, byte for byte',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      const data = Buffer.alloc(3 * MIB);
      for (let i = 0; i < data.length; i += 4)
        data.writeUInt32LE(Math.imul(i, 2654435761) >>> 0, i);
      expect(await peer.request({ command: NbdCmd.Write, offset: MIB, payload: data })).toBe(0);
      expect((await peer.read(MIB, data.length)).equals(data)).toBe(true);
      peer.leave();
    },
  },
  {
    row: 73,
    title: 'the payload of a refused write is consumed',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      const payload = Buffer.alloc(200_000, 0x25);
      const wrong = { command: NbdCmd.Write, offset: EXPORT_BYTES, payload };
      expect(await peer.request(wrong)).not.toBe(0);
      const badFlag = { command: NbdCmd.Write, flags: 0x4000, offset: 0, payload };
      expect(await peer.request(badFlag)).toBe(NbdErr.EINVAL);
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 74,
    title: 'a flush succeeds, and with an offset or a length it is EINVAL',
    controls: ['nbdkit'],
    async run(context) {
      const peer = await going(context);
      expect(await peer.request({ command: NbdCmd.Flush })).toBe(0);
      expect(await peer.request({ command: NbdCmd.Flush, offset: 512 })).toBe(NbdErr.EINVAL);
      expect(await peer.request({ command: NbdCmd.Flush, length: 512 })).toBe(NbdErr.EINVAL);
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 75,
    title: 'FUA is accepted on every command',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      const flags = CmdFlag.Fua;
      expect(await peer.request({ command: NbdCmd.Flush, flags })).toBe(0);
      expect(await peer.request({ command: NbdCmd.Trim, flags, length: 4096 })).toBe(0);
      expect(await peer.request({ command: NbdCmd.WriteZeroes, flags, length: 4096 })).toBe(0);
      const payload = Buffer.alloc(4096, 7);
      expect(await peer.request({ command: NbdCmd.Write, flags, payload })).toBe(0);
      expect(await peer.request({ command: NbdCmd.Read, flags, length: 4096 })).toBe(0);
      expect(await peer.take(4096)).toEqual(payload);
      peer.send(rawRequest({ command: NbdCmd.Disc, flags }));
      await peer.gone;
    },
  },
  {
    row: 76,
    title: 'a trim longer than the largest payload does not disconnect',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      await peer.request({ command: NbdCmd.Trim, offset: 0, length: EXPORT_BYTES });
      await peer.request({ command: NbdCmd.Trim, offset: 0, length: 0xffffffff });
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 77,
    title: 'WRITE_ZEROES reads back as zeroes, with and without NO_HOLE, and is never ENOTSUP',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      for (const flags of [0, CmdFlag.NoHole, CmdFlag.NoHole | CmdFlag.Fua]) {
        const payload = Buffer.alloc(MIB, 0xee);
        expect(await peer.request({ command: NbdCmd.Write, offset: MIB, payload })).toBe(0);
        const zeroes = { command: NbdCmd.WriteZeroes, flags, offset: MIB + 4096, length: 600_064 };
        expect(await peer.request(zeroes)).toBe(0);
        payload.fill(0, 4096, 4096 + 600_064);
        expect((await peer.read(MIB, MIB)).equals(payload)).toBe(true);
      }
      peer.leave();
    },
  },
  {
    row: 78,
    title: 'CACHE is accepted, with an unknown flag it is EINVAL',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      expect(await peer.request({ command: NbdCmd.Cache, length: 4096 })).toBe(0);
      const wrong = { command: NbdCmd.Cache, flags: 0x100, length: 4096 };
      expect(await peer.request(wrong)).toBe(NbdErr.EINVAL);
      peer.leave();
    },
  },
  {
    row: 82,
    title: 'DISC answers everything outstanding before it closes',
    controls: ['nbdkit'],
    async run(context) {
      const peer = await going(context);
      peer.send(
        rawRequest({ command: NbdCmd.Read, cookie: 5n, length: 4096 }),
        rawRequest({ command: NbdCmd.Read, cookie: 6n, length: MIB }),
        rawRequest({ command: NbdCmd.Disc }),
      );
      const cookies: bigint[] = [];
      for (let i = 0; i < 2; i++) {
        const { error, cookie } = await peer.reply();
        cookies.push(cookie);
        // nbdkit answers with ESHUTDOWN what it has read but not begun when one of its threads reads the DISC.
        if (context.server === 'nbdkit' && error === NbdErr.ESHUTDOWN) continue;
        expect(error).toBe(0);
        await peer.take(cookie === 5n ? 4096 : MIB);
      }
      expect(cookies.sort()).toEqual([5n, 6n]);
      await peer.gone;
      expect(peer.unread).toBe(0);
    },
  },
  {
    row: 83,
    title: 'past the end reading and trimming are EINVAL, writing and zeroing ENOSPC',
    controls: ['nbdkit'],
    async run(context) {
      const peer = await going(context);
      for (const [offset, length] of [
        [EXPORT_BYTES, 512],
        [EXPORT_BYTES - 512, 1024],
        [EXPORT_BYTES + 2 ** 33, 512],
        [2 ** 52, 512],
      ] as const) {
        const payload = Buffer.alloc(length);
        const { EINVAL, ENOSPC } = NbdErr;
        expect(await peer.request({ command: NbdCmd.Read, offset, length })).toBe(EINVAL);
        expect(await peer.request({ command: NbdCmd.Trim, offset, length })).toBe(EINVAL);
        expect(await peer.request({ command: NbdCmd.Cache, offset, length })).toBe(EINVAL);
        expect(await peer.request({ command: NbdCmd.Write, offset, payload })).toBe(ENOSPC);
        expect(await peer.request({ command: NbdCmd.WriteZeroes, offset, length })).toBe(ENOSPC);
      }
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 83,
    title: 'offsets of 2^53 and more are refused',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      for (const offset of [2n ** 53n, 2n ** 63n, 2n ** 64n - 512n]) {
        expect(await peer.request({ command: NbdCmd.Read, offset, length: 512 })).not.toBe(0);
        const payload = Buffer.alloc(512);
        expect(await peer.request({ command: NbdCmd.Write, offset, payload })).not.toBe(0);
      }
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 86,
    title: 'an unknown command is EINVAL and the connection stays',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      for (const command of [9, 77, 0xffff]) {
        expect(await peer.request({ command, length: 512 })).toBe(NbdErr.EINVAL);
      }
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 87,
    title: 'a read over the maximum is an error, a write of 33 MiB no disaster',
    controls: ['nbdkit'],
    async run(context) {
      const peer = await going(context);
      const length = 128 * MIB;
      expect(await peer.request({ command: NbdCmd.Read, length })).not.toBe(0);
      const payload = Buffer.alloc(33 * MIB);
      expect(await peer.request({ command: NbdCmd.Write, payload })).not.toBe(0);
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 88,
    title: 'requests of length zero succeed',
    controls: ['qemu-nbd'],
    async run(context) {
      const peer = await going(context);
      for (const command of [...WITH_RANGE, NbdCmd.Write]) {
        expect(await peer.request({ command, offset: 4096, length: 0 })).toBe(0);
      }
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 89,
    title: 'every flag bit on every command is answered, and never kills the server',
    controls: NONE,
    async run(context) {
      const peer = await going(context);
      for (let command = 0; command <= 9; command++) {
        if (command === NbdCmd.Disc) continue;
        for (let bit = 0; bit < 16; bit++) {
          const length = command === NbdCmd.Flush ? 0 : 4096;
          const payload = command === NbdCmd.Write ? { payload: Buffer.alloc(4096) } : {};
          const error = await peer.request({ command, flags: 1 << bit, length, ...payload });
          if (command === NbdCmd.Read && error === 0) await peer.take(4096);
          const fine = bit === 0 || (command === NbdCmd.WriteZeroes && (bit === 1 || bit === 4));
          const known = command <= NbdCmd.WriteZeroes;
          expect(error, `command ${command} flag bit ${bit}`).toBe(
            fine && known ? 0 : NbdErr.EINVAL,
          );
        }
      }
      await peer.expectAlive();
      peer.leave();
    },
  },
  {
    row: 90,
    title: 'a bad request magic is a hard disconnect',
    controls: ['nbdkit'],
    async run(context) {
      const peer = await going(context);
      peer.send(rawRequest({ command: NbdCmd.Read, length: 512, magic: 0x12560953 }));
      await peer.gone;
      expect(peer.unread).toBe(0);
    },
  },
  {
    row: 91,
    title: 'cookies are opaque: any 64 bits come back, and may be used again',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      for (const cookie of [0n, 1n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n]) {
        expect(await peer.request({ command: NbdCmd.Read, cookie, length: 512 })).toBe(0);
        await peer.take(512);
      }
      peer.leave();
    },
  },
  {
    row: 91,
    title: 'a request that arrives byte by byte is served',
    controls: BOTH,
    async run(context) {
      const peer = await going(context);
      const payload = Buffer.from('0123456789abcdef'.repeat(32));
      for (const byte of rawRequest({ command: NbdCmd.Write, payload })) {
        peer.send(Buffer.from([byte]));
        await new Promise(setImmediate);
      }
      expect((await peer.reply()).error).toBe(0);
      expect(await peer.read(0, 512)).toEqual(payload);
      peer.leave();
    },
  },
];
