import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ScsiCommand } from './pdu/index.ts';
import { Opcode, RESERVED_TAG } from './pdu/opcodes.ts';
import { LUN, lastCommand, pattern, type Rig, read, rig, write } from './testing/fake-session.ts';
import { settle } from './testing/fake-target.ts';

describe('what the target may not do', () => {
  type Break = (r: Rig) => void | Promise<void>;
  const readCommand: (r: Rig) => Promise<ScsiCommand> = async (r) => {
    read(r, 0, Buffer.alloc(4096));
    return lastCommand(r);
  };
  const writeCommand = async (r: Rig) => {
    write(r, 0, pattern(65536));
    return lastCommand(r);
  };
  const violations: [string, Break, RegExp][] = [
    [
      'R2T with a wrong R2TSN',
      async (r) => r.target.r2t(await writeCommand(r), 8192, 512, { r2tSn: 3 }),
      /R2TSN 3/,
    ],
    [
      'R2T beyond the command',
      async (r) => r.target.r2t(await writeCommand(r), 65024, 1024),
      /beyond/,
    ],
    ['R2T for nothing', async (r) => r.target.r2t(await writeCommand(r), 8192, 0), /0 bytes/],
    ['R2T above the burst', async (r) => r.target.r2t(await writeCommand(r), 8192, 32768), /burst/],
    [
      'R2T for what was sent',
      async (r) => r.target.r2t(await writeCommand(r), 0, 512),
      /sent already/,
    ],
    [
      'R2T for the last bytes only',
      async (r) => r.target.r2t(await writeCommand(r), 65024, 512),
      /R2T at 65024, expected 8192/,
    ],
    [
      'R2T that leaves a gap behind another',
      async (r) => {
        const command = await writeCommand(r);
        r.target.r2t(command, 8192, 512);
        r.target.r2t(command, 9216, 512, { r2tSn: 1 });
      },
      /R2T at 9216, expected 8704/,
    ],
    [
      'R2T without a tag',
      async (r) => r.target.r2t(await writeCommand(r), 8192, 512, { ttt: RESERVED_TAG }),
      /without a tag/,
    ],
    ['R2T for a read', async (r) => r.target.r2t(await readCommand(r), 0, 512), /does not write/],
    [
      'R2T for an unknown task',
      async (r) => r.target.r2t(await writeCommand(r), 8192, 512, { itt: 5 }),
      /there is not/,
    ],
    [
      'Data-In for a write',
      async (r) => r.target.dataIn(await writeCommand(r), pattern(512)),
      /does not read/,
    ],
    [
      'Data-In beyond the command',
      async (r) => r.target.dataIn(await readCommand(r), pattern(5000)),
      /beyond/,
    ],
    [
      'Data-In with a gap',
      async (r) => r.target.dataIn(await readCommand(r), pattern(512), { offset: 512 }),
      /expected 0/,
    ],
    [
      'Data-In with a wrong DataSN',
      async (r) => r.target.dataIn(await readCommand(r), pattern(512), { dataSn: 1 }),
      /DataSN 1/,
    ],
    [
      'Data-In with S without F',
      async (r) => r.target.dataIn(await readCommand(r), pattern(512), { final: false, status: 0 }),
      /S without F/,
    ],
    [
      'a response twice',
      async (r) => {
        const command = await readCommand(r);
        r.target.respond(command);
        r.target.respond(command);
      },
      /there is not/,
    ],
    [
      'a StatSN that jumps',
      async (r) => {
        r.target.statSn += 1;
        r.target.respond(await readCommand(r));
      },
      /StatSN/,
    ],
    [
      'a segment above what we declared',
      (r) => {
        const header = Buffer.alloc(48);
        header[0] = Opcode.DataIn;
        header.writeUIntBE(262145, 5, 3);
        r.target.sendBytes(header);
      },
      /262145/,
    ],
    [
      'an additional header segment that is cut off',
      (r) => {
        const header = Buffer.alloc(52);
        header[0] = Opcode.NopIn;
        header[4] = 1;
        header[49] = 2;
        r.target.sendBytes(header);
      },
      /additional header/,
    ],
    [
      'an opcode that there is not',
      (r) => r.target.sendBytes(Buffer.alloc(48, 0x2e)),
      /data segment|unknown/,
    ],
    [
      'a login response in full feature phase',
      (r) => {
        const header = Buffer.alloc(48);
        header[0] = Opcode.LoginResponse;
        r.target.sendBytes(header);
      },
      /LoginResponse in full feature/,
    ],
    [
      'a SenseLength beyond its segment',
      async (r) => {
        const command = await readCommand(r);
        r.target.send(
          {
            opcode: Opcode.ScsiResponse,
            bidiOverflow: false,
            bidiUnderflow: false,
            overflow: false,
            underflow: false,
            response: 0,
            status: 2,
            itt: command.itt,
            snackTag: 0,
            ...r.target.numbers(true),
            expDataSn: 0,
            bidiResidual: 0,
            residual: 0,
          },
          Buffer.from([0, 99, 1, 2]),
        );
      },
      /SenseLength/,
    ],
    [
      'a residual above the length',
      async (r) => r.target.respond(await readCommand(r), { residual: -5000 }),
      /residual of 5000/,
    ],
    [
      'an answer to a ping that is none',
      async (r) => {
        const command = await readCommand(r);
        r.target.send({
          opcode: Opcode.NopIn,
          lun: LUN,
          itt: command.itt,
          ttt: RESERVED_TAG,
          ...r.target.numbers(true),
        });
      },
      /in answer to something else/,
    ],
    [
      'tasks terminated without FastAbort',
      (r) => {
        r.target.send({
          opcode: Opcode.AsyncMessage,
          lun: LUN,
          ...r.target.numbers(true),
          event: 5,
          vendorCode: 0,
          parameter1: 0,
          parameter2: 0,
          parameter3: 0,
        });
      },
      /FastAbort/,
    ],
  ];
  test.each(violations)('%s ends the session with that cause', async (_, break_, message) => {
    const r = await rig((t) => {
      t.wants = { MaxRecvDataSegmentLength: 8192, MaxBurstLength: 16384 };
    });
    const causes: Error[] = [];
    r.session.onClosed((cause) => causes.push(cause));
    await break_(r);
    await settle();
    expect(causes).toHaveLength(1);
    expect(causes[0]!.message).toMatch(message);
    expect(causes[0]).toMatchObject({ code: 'ISCSI_PROTOCOL' });
    expect(r.session.state).toBe('closed');
    expect(r.target.destroyed).not.toBeNull();
    expect(r.session.stats.inflight).toBe(0);
    let again: Error | null = null;
    r.session.onClosed((cause) => {
      again = cause;
    });
    expect(again).toBe(causes[0]);
  });

  type Kind = 'read' | 'write';
  type Answer = 'Data-In' | 'R2T';
  const answers: [Answer, Kind, 0 | 1][] = [
    ['Data-In', 'read', 0],
    ['Data-In', 'read', 1],
    ['R2T', 'write', 0],
    ['R2T', 'write', 1],
  ];
  test.each(answers)(
    '%s under the tag of a ping, in the place of a %s that is done, ends the session at recovery level %i (§7.13)',
    async (answer, kind, errorRecoveryLevel) => {
      const r = await rig(
        (t) => {
          t.wants = { MaxRecvDataSegmentLength: 8192, ErrorRecoveryLevel: errorRecoveryLevel };
        },
        { errorRecoveryLevel, timeouts: { nopIntervalMs: 1000 } },
      );
      const seen = kind === 'read' ? read(r, 0, Buffer.alloc(4096)) : write(r, 0, pattern(4096));
      const command = await lastCommand(r);
      if (kind === 'read') r.target.dataIn(command, pattern(4096), { status: 0 });
      else r.target.respond(command);
      await settle();
      expect(seen.state).toBe('done');
      await r.clock.advance(2500);
      const { itt } = r.target.of(Opcode.NopOut).at(-1)!.pdu;
      const sent = r.target.received.length;
      if (answer === 'R2T') r.target.r2t(command, 0, 4096, { itt });
      else r.target.dataIn({ ...command, itt }, pattern(512), { status: 0 });
      await settle();
      expect(r.session.cause).toMatchObject({ code: 'ISCSI_PROTOCOL' });
      expect(r.session.cause!.message).toMatch(/no SCSI command \(§7\.13\)/);
      expect(r.session.stats.inflight).toBe(0);
      expect(r.target.received).toHaveLength(sent);
    },
  );

  test('a wish for an acknowledgement of data is ignored at recovery level 0 (§11.7.2)', async () => {
    const r = await rig();
    const seen = read(r, 0, Buffer.alloc(512));
    r.target.dataIn(await lastCommand(r), pattern(512), {
      status: 0,
      flags: { acknowledge: true },
    });
    await settle();
    expect(seen.state).toBe('done');
    expect(r.session.state).toBe('open');
  });

  test('any bytes are survived: ignored or the end of the session, and every command settles', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 100 }), { maxLength: 4 }),
        async (chunks) => {
          const r = await rig();
          const seen = [read(r, 0, Buffer.alloc(4096)), write(r, 0, pattern(4096))];
          await settle();
          for (const chunk of chunks) r.target.sendBytes(Buffer.from(chunk));
          r.target.close();
          await settle();
          expect(r.session.state).toBe('closed');
          expect(seen.every((s) => s.state !== 'pending')).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('any single corrupted byte of an answer is an error or nothing, never a hang once the connection ends', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(47), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const r = await rig();
        const seen = read(r, 0, Buffer.alloc(512));
        const command = await lastCommand(r);
        const sent: Buffer[] = [];
        r.target.sendBytes = (bytes) => sent.push(bytes) as never;
        r.target.dataIn(command, pattern(512), { status: 0 });
        delete (r.target as { sendBytes?: unknown }).sendBytes;
        const bytes = Buffer.concat(sent);
        bytes[at] = bytes[at]! ^ flip;
        r.target.sendBytes(bytes);
        await settle();
        r.target.close();
        await settle();
        expect(seen.state).not.toBe('pending');
      }),
      { numRuns: 100 },
    );
  });
});
