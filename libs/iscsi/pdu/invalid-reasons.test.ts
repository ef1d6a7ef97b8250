import { describe, expect, test } from 'vitest';
import { BHS_BYTES, type PduCodec } from './bhs.ts';
import { codecs, type Pdu } from './index.ts';
import { Opcode, RESERVED_TAG } from './opcodes.ts';

/** A PDU whose header is zeros but for the fields that are given. */
function pdu(opcode: Opcode, fields: object): Pdu {
  const header = Buffer.alloc(BHS_BYTES);
  header[0] = opcode;
  return { ...(codecs[opcode] as PduCodec<Pdu>).decode(header, 0), ...fields } as Pdu;
}

const none = RESERVED_TAG;

/** What makes a PDU of each kind a good one, and what breaks it. */
const CASES: readonly [Opcode, good: object, broken: readonly object[]][] = [
  [Opcode.NopOut, { itt: none, immediate: true }, [{ immediate: false }]],
  [
    Opcode.ScsiCommand,
    { final: true, write: true, edtl: 512, dataSegmentLength: 512 },
    [
      { itt: none },
      { attribute: 5 },
      { final: false, write: false, read: true },
      { write: false, dataSegmentLength: 0 },
      { write: false, read: true },
      { dataSegmentLength: 513 },
    ],
  ],
  [
    Opcode.TaskManagementRequest,
    { function: 5 },
    [{ itt: none }, { function: 0 }, { function: 99 }, { dataSegmentLength: 4 }],
  ],
  [
    Opcode.LoginRequest,
    { csg: 0, nsg: 1, transit: true },
    [{ csg: 2 }, { csg: 3 }, { nsg: 2 }, { nsg: 0 }, { csg: 1, nsg: 1 }, { continue: true }],
  ],
  [
    Opcode.LoginResponse,
    { csg: 1, nsg: 3, transit: true },
    [{ csg: 2 }, { nsg: 2 }, { nsg: 0 }, { continue: true }],
  ],
  [Opcode.TextRequest, { final: true, ttt: none }, [{ itt: none }, { continue: true }]],
  [
    Opcode.TextResponse,
    { final: false, ttt: 5 },
    [{ final: true, continue: true, ttt: none }, { ttt: none }],
  ],
  [Opcode.DataOut, {}, [{ itt: none }]],
  [
    Opcode.DataIn,
    { final: true, statusPresent: true, overflow: true },
    [{ itt: none }, { final: false }, { underflow: true }, { statusPresent: false }],
  ],
  [Opcode.LogoutRequest, { reason: 2 }, [{ itt: none }, { reason: 3 }, { dataSegmentLength: 1 }]],
  [Opcode.LogoutResponse, { response: 3 }, [{ itt: none }, { response: 4 }]],
  [
    Opcode.SnackRequest,
    { type: 0 },
    [
      { type: 4 },
      { itt: none },
      { type: 1 },
      { type: 2 },
      { type: 3, begRun: 1 },
      { type: 3, runLength: 1 },
    ],
  ],
  [Opcode.SnackRequest, { type: 1, itt: none }, [{ itt: 3 }]],
  [Opcode.NopIn, { itt: none, ttt: 4 }, [{ itt: 3 }, { ttt: none, dataSegmentLength: 1 }]],
  [
    Opcode.ScsiResponse,
    { response: 0x80, overflow: true, bidiUnderflow: true },
    [
      { itt: none },
      { underflow: true },
      { bidiOverflow: true },
      { response: 2 },
      { response: 0x7f },
    ],
  ],
  [
    Opcode.TaskManagementResponse,
    { response: 255 },
    [{ itt: none }, { response: 8 }, { response: 254 }, { dataSegmentLength: 1 }],
  ],
  [
    Opcode.R2t,
    { desiredLength: 1 },
    [{ itt: none }, { ttt: none }, { desiredLength: 0 }, { dataSegmentLength: 1 }],
  ],
  [Opcode.AsyncMessage, { event: 200 }, []],
  [Opcode.Reject, { dataSegmentLength: 48 }, [{ dataSegmentLength: 47 }]],
];

describe('a PDU', () => {
  test('of every kind is looked at', () => {
    expect(new Set(CASES.map(([opcode]) => opcode))).toEqual(new Set(Object.values(Opcode)));
  });

  test.each(CASES)('of opcode %i breaks a clause, or none', (opcode, good, broken) => {
    const codec = codecs[opcode] as PduCodec<Pdu>;
    expect(codec.invalidReason(pdu(opcode, good))).toBeNull();
    for (const change of broken) {
      const reason = codec.invalidReason(pdu(opcode, { ...good, ...change }));
      expect([change, reason]).toEqual([change, expect.stringMatching(/§11\./)]);
    }
  });

  test('that refuses a login may have any stage', () => {
    const refusal = { csg: 2, nsg: 2, transit: true, statusClass: 2 };
    const codec = codecs[Opcode.LoginResponse];
    expect(codec.invalidReason(pdu(Opcode.LoginResponse, refusal) as never)).toBeNull();
  });
});
