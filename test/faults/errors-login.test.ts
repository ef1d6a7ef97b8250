import { describe, expect, test } from 'vitest';
import { isOrionError, type OrionError } from '#core/errors.ts';
import { openSession } from '#iscsi/open-session.ts';
import { Opcode, RESERVED_TAG } from '#iscsi/pdu/opcodes.ts';
import { openOptions } from '#iscsi/testing/fake-session.ts';
import { FakeTarget, settle } from '#iscsi/testing/fake-target.ts';
import { wires } from '#iscsi/testing/fake-wires.ts';
import { encodeText, type TextPair } from '#iscsi/text.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { internalFault } from './hostile-ledger.ts';

/** One test for each way in which a target can misbehave in the login. `login.test.ts` has the plain broken answers. */

const LOGIN_MS = 10_000;
/** Requests of one login, and bytes of one text, that nobody exceeds. */
const REQUESTS_MAX = 64;
const SENT_BYTES_MAX = 256 * 1024;

interface Attempt {
  readonly target: FakeTarget;
  readonly error: OrionError;
  readonly tookMs: number;
}

/** Logs in at a target that does not want it to succeed; everything of it has to be over when it has failed. */
async function failing(setUp: (target: FakeTarget, clock: VirtualClock) => void): Promise<Attempt> {
  const target = new FakeTarget();
  const clock = new VirtualClock();
  setUp(target, clock);
  let error: unknown = null;
  openSession(openOptions(target, clock)).then(
    () => {
      error = new Error('it succeeded');
    },
    (reason: unknown) => {
      error = reason;
    },
  );
  const startMs = clock.nowMs();
  await clock.runUntil(() => error !== null, 10 * LOGIN_MS);
  const tookMs = clock.nowMs() - startMs;
  expect(internalFault(error)).toBeNull();
  expect(isOrionError(error) ? error.outcome : error).toBe('not-executed');
  expect(target.destroyed).not.toBeNull();
  expect(target.received.length).toBeLessThanOrEqual(REQUESTS_MAX);
  const sent = target.received.reduce((sum, { data }) => sum + data.length, 0);
  expect(sent).toBeLessThan(SENT_BYTES_MAX);
  await settle();
  await clock.advance(10 * LOGIN_MS);
  expect(clock.pending).toBe(0);
  return { target, error: error as OrionError, tookMs };
}

/** Answers every login request in the same way. */
function always(
  over: Parameters<FakeTarget['loginResponse']>[1],
  pairs: readonly TextPair[] = [],
): (target: FakeTarget) => void {
  return (target) => {
    target.onLogin = (request) => {
      target.loginResponse(request, over, pairs);
      return true;
    };
  };
}

const padding: TextPair[] = [['X-com.example.more', 'x'.repeat(8000)]];
const unknown = (count: number): TextPair[] =>
  Array.from({ length: count }, (_, i) => [`X-com.example.key${i}`, '1']);

describe('a login ends in time and in bounds when the target', () => {
  test.each<[string, Parameters<typeof always>[0], readonly TextPair[], RegExp]>([
    ['never goes on', { transit: false, nsg: 0 }, [], /no end after 16 requests/],
    ['always has more text', { transit: false, nsg: 0, continue: true }, padding, /65536 bytes/],
    [
      'says that there is more, and sends nothing',
      { transit: false, nsg: 0, continue: true },
      [],
      /no end/,
    ],
    ['says both that there is more and that it goes on', { continue: true }, [], /§11\.1[23]/],
    ['answers for another stage', { csg: 1 }, [], /stage 1/],
    ['answers for full feature phase', { csg: 3 }, [], /stage 3|§11\.1[23]/],
    ['answers for a stage that there is not', { csg: 2 }, [], /stage 2|§11\.1[23]/],
    [
      'goes to a stage that there is not',
      { nsg: 2 },
      [['AuthMethod', 'None']],
      /stage 2|§11\.1[23]/,
    ],
    ['goes back', { nsg: 0 }, [['AuthMethod', 'None']], /§11\.1[23]|no end/],
    ['answers with another ISID', { isid: Buffer.from('800000000001', 'hex') }, [], /another ISID/],
    ['answers another task', { itt: RESERVED_TAG }, [], /another task|§11\.1[23]/],
    ['refuses for a reason of no class', { statusClass: 9, statusDetail: 1 }, [], /reserved/],
    ['redirects to nowhere', { statusClass: 1, statusDetail: 1 }, [], /address|redirect/],
    [
      'redirects to a file of ours',
      { statusClass: 1, statusDetail: 1 },
      [['TargetAddress', 'unix:/etc/passwd']],
      /no address/,
    ],
    [
      'redirects to what is no address',
      { statusClass: 1, statusDetail: 2 },
      [['TargetAddress', '\u001b[2J,99999999']],
      /no address/,
    ],
    [
      'redirects to itself for ever',
      { statusClass: 1, statusDetail: 1 },
      [['TargetAddress', 'fake:3260,1']],
      /again and again/,
    ],
    [
      'says thousands of keys that nobody knows',
      { transit: false, nsg: 0 },
      unknown(400),
      /no end|came twice|bytes/,
    ],
    ['says a key with a long name', { transit: false, nsg: 0 }, [['K'.repeat(64), '1']], /§6\.1/],
    ['says a key without a name', { transit: false, nsg: 0 }, [['', '1']], /§6\.1/],
    ['chooses no method', {}, [['TargetPortalGroupTag', '1']], /AuthMethod/],
    [
      'asks for CHAP unasked',
      { transit: false, nsg: 0 },
      [
        ['AuthMethod', 'CHAP'],
        ['CHAP_A', '5'],
      ],
      /not among/,
    ],
    ['names no portal group', {}, [['AuthMethod', 'None']], /portal group/],
    [
      'names a portal group that cannot be',
      {},
      [
        ['AuthMethod', 'None'],
        ['TargetPortalGroupTag', '65536'],
      ],
      /§13\.9/,
    ],
    [
      'speaks for the initiator',
      {},
      [
        ['AuthMethod', 'None'],
        ['InitiatorName', 'iqn.2026-11.lab:evil'],
      ],
      /initiator's to send/,
    ],
  ])('%s', async (_, over, pairs, message) => {
    const { error, tookMs } = await failing(always(over, pairs));
    expect(error.message).toMatch(message);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not come through
    expect(error.message).not.toMatch(/[\u0000-\u001f]/);
    expect(tookMs).toBeLessThan(LOGIN_MS);
  });

  test('takes the connection and says nothing, or goes silent in the middle', async () => {
    for (const answered of [0, 1]) {
      let requests = 0;
      const { error, tookMs } = await failing((target) => {
        target.onLogin = () => requests++ >= answered;
      });
      expect(error.code).toBe('ISCSI_LOGIN_TIMEOUT');
      expect(tookMs).toBe(LOGIN_MS);
    }
  });

  test('drips its answer byte by byte', async () => {
    const { error, tookMs } = await failing((target, clock) => {
      target.onLogin = () => {
        const header = Buffer.alloc(48);
        header[0] = Opcode.LoginResponse;
        const drip = (at: number): void => {
          target.sendBytes(header.subarray(at, at + 1));
          if (at < 47) clock.after(1000, () => drip(at + 1));
        };
        drip(0);
        return true;
      };
    });
    expect(error.code).toBe('ISCSI_LOGIN_TIMEOUT');
    expect(tookMs).toBe(LOGIN_MS);
  });

  test('closes its side before, in and after its first answer', async () => {
    for (const bytes of [0, 1, 47, 48]) {
      const { error } = await failing((target) => {
        target.onLogin = () => {
          const header = Buffer.alloc(48);
          header[0] = Opcode.LoginResponse;
          header.writeUIntBE(100, 5, 3);
          if (bytes > 0) target.sendBytes(header.subarray(0, bytes));
          target.close();
          return true;
        };
      });
      expect(error.code).toBe('ISCSI_LOGIN_FAILED');
      expect(error.message).toMatch(
        bytes === 0 ? /closed the connection,/ : /in the middle of a PDU/,
      );
    }
  });

  test('answers one request again and again', async () => {
    const { error } = await failing((target) => {
      target.onLogin = (request) => {
        for (let i = 0; i < 100; i++) target.loginResponse(request, { transit: false, nsg: 0 });
        return true;
      };
    });
    expect(error.message).toMatch(/no end after 16 requests/);
  });

  test('sends anything but login responses', async () => {
    for (const opcode of Object.values(Opcode)) {
      if (opcode === Opcode.LoginResponse) continue;
      const { error } = await failing((target) => {
        target.onLogin = () => {
          const header = Buffer.alloc(48);
          header[0] = opcode;
          target.sendBytes(header);
          return true;
        };
      });
      expect(error.code).toBe('ISCSI_LOGIN_FAILED');
    }
  });

  test('announces 16 MiB of text', async () => {
    const before = process.memoryUsage().arrayBuffers;
    const { error } = await failing((target) => {
      target.onLogin = () => {
        const header = Buffer.alloc(48);
        header[0] = Opcode.LoginResponse;
        header.writeUIntBE(0xffffff, 5, 3);
        target.sendBytes(header);
        return true;
      };
    });
    expect(error.message).toMatch(/16777215 bytes, we declared 8192/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 1024 * 1024);
  });

  test('redirects to a thousand addresses: some of them are tried', async () => {
    const pairs: TextPair[] = Array.from({ length: 1000 }, (_, i) => [
      'TargetAddress',
      `10.0.${i >> 8}.${i & 255}:3260,1`,
    ]);
    const { target } = await failing((fake) => {
      fake.onLogin = (request) => {
        if (fake.connects === 1)
          fake.loginResponse(request, { statusClass: 1, statusDetail: 1 }, pairs);
        else fake.loginResponse(request, { statusClass: 3, statusDetail: 1 });
        return true;
      };
    });
    expect(target.connects).toBeLessThan(20);
  });

  test('goes on behind an answer that ended the login of a further connection', async () => {
    const r = await wires(2, (wire, index) => {
      if (index !== 1) return;
      wire.onLogin = (request) => {
        // All in one read, as the platform may deliver it.
        const parts: Buffer[] = [];
        const send = wire.sendBytes.bind(wire);
        wire.sendBytes = (bytes) => {
          parts.push(bytes);
        };
        wire.loginResponse(request, { csg: 1 });
        wire.loginResponse(request, {}, [
          ['AuthMethod', 'None'],
          ['TargetPortalGroupTag', '1'],
        ]);
        wire.loginResponse(request, { csg: 1, nsg: 3, tsih: 0x1234 }, [
          ['HeaderDigest', 'None'],
          ['DataDigest', 'None'],
        ]);
        wire.sendBytes = send;
        wire.sendBytes(Buffer.concat(parts));
        return true;
      };
    });
    await settle();
    // What came behind the end cannot bring it back: a connection that is in no state to fail.
    expect(r.session.connections().map(({ state }) => state)).toEqual(['LOGGED_IN']);
    expect(r.session.state).toBe('open');
  });

  test('goes on behind its last response with what is no answer', async () => {
    const target = new FakeTarget();
    const clock = new VirtualClock();
    target.extraKeys = [];
    const usual = target.loginResponse.bind(target);
    target.loginResponse = (request, over, pairs) => {
      usual(request, over, pairs);
      if (request.csg === 1) target.sendBytes(Buffer.alloc(480, 0xff));
    };
    const session = await openSession(openOptions(target, clock));
    await settle();
    expect(session.state).toBe('closed');
    expect(session.cause).toMatchObject({ code: 'ISCSI_PROTOCOL' });
    await clock.advance(60_000);
    expect(clock.pending).toBe(0);
    expect(encodeText([])).toHaveLength(0);
  });
});
