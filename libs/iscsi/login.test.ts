import { describe, expect, test } from 'vitest';
import { OrionError } from '../core/errors.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { formatValue } from './keys.ts';
import { loginStatuses } from './login-status.ts';
import { openSession } from './open-session.ts';
import { Opcode } from './pdu/opcodes.ts';
import { wantedParams } from './session-options.ts';
import { openOptions } from './testing/fake-session.ts';
import { FakeTarget, settle } from './testing/fake-target.ts';
import { encodeText, parseText, type TextPair } from './text.ts';

async function failure(promise: Promise<unknown>): Promise<OrionError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(OrionError);
  return error as OrionError;
}

function tryLogin(setUp: (target: FakeTarget) => void) {
  const target = new FakeTarget();
  setUp(target);
  const clock = new VirtualClock();
  return { target, clock, promise: openSession(openOptions(target, clock)) };
}

/** A target that takes everything that we offer in the operational stage. */
const allAnswers: TextPair[] = Object.entries(wantedParams)
  .filter(([name]) => name !== 'MaxRecvDataSegmentLength')
  .map(([name, value]) => [name, formatValue(value).split(',').at(-1)!]);

describe('a login', () => {
  test('begins with the security stage, says each key once, and takes what was agreed', async () => {
    const { target, promise } = tryLogin((t) => {
      t.wants = { MaxRecvDataSegmentLength: 65536, MaxBurstLength: 131072, InitialR2T: false };
    });
    const session = await promise;
    const [security, operational] = target.of(Opcode.LoginRequest);
    expect(security!.pdu).toMatchObject({ csg: 0, nsg: 1, transit: true, tsih: 0 });
    expect(operational!.pdu).toMatchObject({ csg: 1, nsg: 3, transit: true, tsih: 0 });
    expect(operational!.pdu.itt).toBe(security!.pdu.itt);
    const keys = [security!, operational!].flatMap(({ data }) => parseText(data).pairs!);
    expect(new Set(keys.map(([key]) => key)).size).toBe(keys.length);
    expect(keys).toContainEqual(['InitiatorName', 'iqn.2026-11.lab:me']);
    expect(keys).toContainEqual(['TargetName', 'iqn.2026-11.lab:disk1']);
    expect(session).toMatchObject({ tsih: 0x1234, remoteTpgt: 1, state: 'open' });
    expect(session.login).toMatchObject({ targetSegmentBytes: 65536, ourSegmentBytes: 262144 });
    expect(session.login.params).toMatchObject({ MaxBurstLength: 131072, InitialR2T: false });
    // FirstBurstLength may not be above MaxBurstLength (§13.14).
    expect(session.login.params.FirstBurstLength).toBe(65536);
  });

  test('goes on asking when the target does not transit at once, but not for ever', async () => {
    let stays = 3;
    const { promise } = tryLogin((t) => {
      t.onLogin = (request) => {
        if (stays-- <= 0) return false;
        t.loginResponse(request, { transit: false, nsg: 0 });
        return true;
      };
    });
    // AuthMethod is never answered then, which is another matter.
    expect((await failure(promise)).message).toMatch(/AuthMethod was not answered|portal group/);

    const endless = tryLogin((t) => {
      t.onLogin = (request) => {
        t.loginResponse(request, { transit: false, nsg: 0 });
        return true;
      };
    });
    expect((await failure(endless.promise)).message).toMatch(/no end after 16/);
    expect(endless.target.destroyed).not.toBeNull();
  });

  test('joins an answer that comes in parts, cut inside a key', async () => {
    const text = encodeText([
      ['AuthMethod', 'None'],
      ['TargetPortalGroupTag', '7'],
    ]);
    const { target, promise } = tryLogin((t) => {
      let part = 0;
      t.onLogin = (request) => {
        if (request.csg !== 0) return false;
        const piece = part === 0 ? text.subarray(0, 20) : text.subarray(20);
        const last = part++ > 0;
        const response = { transit: last, continue: !last, nsg: last ? 1 : 0 };
        t.send(
          {
            opcode: Opcode.LoginResponse,
            csg: 0,
            versionMax: 0,
            versionActive: 0,
            isid: request.isid,
            tsih: 0,
            itt: request.itt,
            ...t.numbers(true),
            statusClass: 0,
            statusDetail: 0,
            ...response,
          },
          piece,
        );
        return true;
      };
    });
    expect((await promise).remoteTpgt).toBe(7);
    expect(target.of(Opcode.LoginRequest)[1]!.data).toHaveLength(0);
  });

  test.each(Object.keys(loginStatuses).filter((code) => Number(code) >= 0x0200))(
    'names the refusal %i',
    async (code) => {
      const number = Number(code);
      const { target, promise } = tryLogin((t) => {
        t.onLogin = (request) => {
          t.loginResponse(request, { statusClass: number >> 8, statusDetail: number & 0xff });
          return true;
        };
      });
      const error = await failure(promise);
      expect(error).toMatchObject({ code: 'ISCSI_LOGIN_REFUSED', outcome: 'not-executed' });
      expect(error.message).toContain(loginStatuses[number]!.name);
      expect(error.fields).toMatchObject({ portal: 'fake:3260' });
      expect(target.destroyed).not.toBeNull();
    },
  );

  test('follows a redirection, and not one that goes in a circle', async () => {
    let redirects = 2;
    const { target, promise } = tryLogin((t) => {
      t.onLogin = (request) => {
        if (redirects-- <= 0) return false;
        t.loginResponse(request, { statusClass: 1, statusDetail: 1 }, [
          ['TargetAddress', '10.0.0.2:3260,1'],
        ]);
        return true;
      };
    });
    await promise;
    expect(target.connects).toBe(3);

    const circle = tryLogin((t) => {
      t.onLogin = (request) => {
        t.loginResponse(request, { statusClass: 1, statusDetail: 1 }, [['TargetAddress', 'a:1']]);
        return true;
      };
    });
    expect((await failure(circle.promise)).code).toBe('ISCSI_REDIRECT_LOOP');
    expect(circle.target.connects).toBe(5);
  });

  const broken: [string, (t: FakeTarget) => void, RegExp][] = [
    ['a key that comes twice', (t) => (t.extraKeys = [['MaxBurstLength', '512']]), /came twice/],
    ['an answer out of range', (t) => (t.answers = { MaxBurstLength: '1' }), /§13\.13/],
    ['an answer above our offer', (t) => (t.answers = { MaxConnections: '2' }), /§6\.2\.2/],
    ['a Boolean that is none', (t) => (t.answers = { InitialR2T: 'yes' }), /§13\.10/],
    ['a digest that we did not offer', (t) => (t.answers = { DataDigest: 'CRC32C' }), /§6\.2\.1/],
    [
      'a key that every target knows',
      (t) => (t.answers = { MaxBurstLength: 'NotUnderstood' }),
      /§6\.2/,
    ],
    [
      'an offer without an answer',
      (t) => (t.answers = { ImmediateData: null }),
      /was not answered/,
    ],
    [
      'a segment size out of range',
      (t) => (t.wants = { MaxRecvDataSegmentLength: 100 }),
      /§13\.12/,
    ],
    [
      'a TSIH of 0',
      (t) => {
        t.onLogin = (r) => {
          if (r.csg === 0) return false;
          t.loginResponse(r, { tsih: 0 }, allAnswers);
          return true;
        };
      },
      /TSIH is 0/,
    ],
    [
      'a response to another task',
      (t) => {
        t.onLogin = (r) => {
          t.loginResponse(r, { itt: 99 });
          return true;
        };
      },
      /another task/,
    ],
    [
      'a jump to full feature phase',
      (t) => {
        t.onLogin = (r) => {
          t.loginResponse(r, { nsg: 3 }, [['AuthMethod', 'None']]);
          return true;
        };
      },
      /did not ask for/,
    ],
    [
      'authentication that we did not offer',
      (t) => {
        t.onLogin = (r) => {
          t.loginResponse(r, { transit: false, nsg: 0 }, [['AuthMethod', 'CHAP']]);
          return true;
        };
      },
      /not among what we offered/,
    ],
    [
      'a protocol version that there is not',
      (t) => {
        t.onLogin = (r) => {
          t.loginResponse(r, { versionActive: 9 });
          return true;
        };
      },
      /version 9/,
    ],
    [
      'text that is none',
      (t) => {
        t.onLogin = (r) => {
          t.send(
            {
              opcode: Opcode.LoginResponse,
              transit: true,
              continue: false,
              csg: 0,
              nsg: 1,
              versionMax: 0,
              versionActive: 0,
              isid: r.isid,
              tsih: 0,
              itt: r.itt,
              ...t.numbers(true),
              statusClass: 0,
              statusDetail: 0,
            },
            Buffer.from('garbage'),
          );
          return true;
        };
      },
      /§6\.1/,
    ],
    [
      'another kind of PDU',
      (t) => {
        t.onLogin = () => {
          t.send({
            opcode: Opcode.NopIn,
            lun: Buffer.alloc(8),
            itt: 0xffffffff,
            ttt: 5,
            ...t.numbers(false),
          });
          return true;
        };
      },
      /NopIn/,
    ],
    [
      'a segment longer than 8192 bytes',
      (t) => {
        t.onLogin = () => {
          const header = Buffer.alloc(48);
          header[0] = Opcode.LoginResponse;
          header.writeUIntBE(8193, 5, 3);
          t.sendBytes(header);
          return true;
        };
      },
      /8193/,
    ],
    [
      'garbage',
      (t) => {
        t.onLogin = () => {
          t.sendBytes(
            Buffer.from('HTTP/1.1 400 Bad Request\r\nContent-Length: 11\r\n\r\nBad Request'),
          );
          return true;
        };
      },
      /data segment|login/,
    ],
    [
      'an end in the middle',
      (t) => {
        t.onLogin = () => {
          t.sendBytes(Buffer.alloc(20));
          t.close();
          return true;
        };
      },
      /closed the connection in the middle of a PDU/,
    ],
  ];
  test.each(broken)('fails on %s, and drops the connection', async (_, setUp, message) => {
    const { target, promise } = tryLogin(setUp);
    const error = await failure(promise);
    expect(error.message).toMatch(message);
    expect(error.outcome).not.toBe('final');
    await settle();
    expect(target.destroyed).not.toBeNull();
  });

  test('answers what the target proposes, and what it does not know', async () => {
    let replied: readonly (readonly [string, string])[] = [];
    const { promise } = tryLogin((t) => {
      let round = 0;
      t.onLogin = (request, data) => {
        if (request.csg === 0) return false;
        if (round++ > 0) {
          replied = parseText(data).pairs!;
          t.loginResponse(request, {});
          return true;
        }
        const proposals: TextPair[] = [
          ['X-com.example.key', '1'],
          ['IFMarker', 'No'],
          ['OFMarkInt', '2048~8192'],
          ['X#NodeArchitecture', 'some,thing'],
        ];
        t.loginResponse(request, { transit: false, nsg: 0 }, [...allAnswers, ...proposals]);
        return true;
      };
    });
    await promise;
    expect(replied).toEqual([
      ['X-com.example.key', 'NotUnderstood'],
      ['IFMarker', 'Reject'],
      ['OFMarkInt', 'Reject'],
    ]);
  });

  test('Reject and Irrelevant leave a key at its default', async () => {
    const { promise } = tryLogin((t) => {
      t.answers = { FirstBurstLength: 'Irrelevant', MaxBurstLength: 'Reject' };
    });
    const { params } = (await promise).login;
    expect(params).toMatchObject({ FirstBurstLength: 65536, MaxBurstLength: 262144 });
  });

  test('gives up a target that says nothing', async () => {
    const { target, clock, promise } = tryLogin((t) => {
      t.onLogin = () => true;
    });
    const failed = failure(promise);
    await clock.advance(11_000);
    expect((await failed).code).toBe('ISCSI_LOGIN_TIMEOUT');
    expect(target.destroyed).not.toBeNull();
  });

  test('refuses a name that is none before it connects', async () => {
    const target = new FakeTarget();
    const options = { ...openOptions(target, new VirtualClock()), targetName: 'disk1' };
    await expect(async () => openSession(options)).rejects.toMatchObject({
      code: 'ISCSI_BAD_NAME',
    });
    expect(target.connects).toBe(0);
  });
});
