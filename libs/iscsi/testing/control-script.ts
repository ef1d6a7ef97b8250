import { encodePdu, type Pdu } from '../pdu/index.ts';
import { Opcode, RESERVED_TAG } from '../pdu/opcodes.ts';
import { LUN, type Rig } from './fake-session.ts';
import { settle } from './fake-target.ts';

/** What a scripted target says that is not about one SCSI command. */

/** Answers the last task management request. */
export async function answerTmf(r: Rig, response: number, info = 0): Promise<void> {
  const { pdu } = r.target.of(Opcode.TaskManagementRequest).at(-1)!;
  r.target.send({
    opcode: Opcode.TaskManagementResponse,
    response,
    info,
    itt: pdu.itt,
    ...r.target.numbers(true),
  });
  await settle();
}

export interface AsyncFields {
  readonly event: number;
  readonly lun?: Buffer;
  readonly parameter1?: number;
  readonly parameter2?: number;
  readonly parameter3?: number;
  readonly data?: Buffer;
}

export async function sendAsync(r: Rig, fields: AsyncFields): Promise<void> {
  const { data = Buffer.alloc(0), ...over } = fields;
  r.target.send(
    {
      opcode: Opcode.AsyncMessage,
      lun: LUN,
      ...r.target.numbers(true),
      vendorCode: 1,
      parameter1: 0,
      parameter2: 0,
      parameter3: 0,
      ...over,
    },
    data,
  );
  await settle();
}

/** Rejects a PDU with what the target received of it. */
export async function sendReject(r: Rig, reason: number, pdu: Pdu): Promise<void> {
  const header = encodePdu(pdu).subarray(0, 48);
  r.target.send({ opcode: Opcode.Reject, reason, ...r.target.numbers(true), dataSn: 0 }, header);
  await settle();
}

export async function answerLogout(
  r: Rig,
  response: number,
  times: { time2Wait?: number; time2Retain?: number } = {},
): Promise<void> {
  const { pdu } = r.target.of(Opcode.LogoutRequest).at(-1)!;
  r.target.send({
    opcode: Opcode.LogoutResponse,
    response,
    itt: pdu.itt,
    ...r.target.numbers(true),
    time2Wait: 0,
    time2Retain: 0,
    ...times,
  });
  await settle();
}

/** Answers the last text request. */
export async function answerText(
  r: Rig,
  text: string,
  over: { final?: boolean; continue?: boolean; ttt?: number } = {},
): Promise<void> {
  const { pdu } = r.target.of(Opcode.TextRequest).at(-1)!;
  r.target.send(
    {
      opcode: Opcode.TextResponse,
      final: true,
      continue: false,
      lun: LUN,
      itt: pdu.itt,
      ttt: over.final === false ? 0x77 : RESERVED_TAG,
      ...r.target.numbers(true),
      ...over,
    },
    Buffer.from(text),
  );
  await settle();
}
