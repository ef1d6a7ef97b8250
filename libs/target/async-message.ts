import { NO_LUN } from '../iscsi/pdu/bhs.ts';
import { Opcode } from '../iscsi/pdu/opcodes.ts';
import { encodeLun } from './commands/unit-info.ts';
import type { CommandSns, PduSender } from './pdu-sender.ts';
import { fixedSense, type SenseCode } from './scsi-codes.ts';

/** An asynchronous message as a test wants it (RFC 7143 §11.9). */
export interface AsyncEventScript {
  readonly event: number;
  readonly vendorCode?: number;
  readonly parameter1?: number;
  readonly parameter2?: number;
  readonly parameter3?: number;
  /** The unit that it is about. */
  readonly lun?: number;
  /** Of a SCSI event (0): sent as sense data, with its length before it (§11.9.4). */
  readonly sense?: SenseCode;
  /** Any other data. */
  readonly data?: Uint8Array;
}

/** Sends an asynchronous message (RFC 7143 §11.9). */
export function sendAsyncMessage(
  sender: PduSender,
  sns: CommandSns,
  script: AsyncEventScript,
): void {
  const lun = Buffer.alloc(NO_LUN.length);
  if (script.lun !== undefined) encodeLun(script.lun, lun, 0);
  const body = {
    opcode: Opcode.AsyncMessage,
    lun,
    event: script.event,
    vendorCode: script.vendorCode ?? 0,
    parameter1: script.parameter1 ?? 0,
    parameter2: script.parameter2 ?? 0,
    parameter3: script.parameter3 ?? 0,
  } as const;
  sender.send(body, sns, true, dataOf(script));
}

/** Sense data has its length before it (§11.9.4). */
function dataOf({ sense, data }: AsyncEventScript): Uint8Array {
  if (sense === undefined) return data ?? NO_LUN.subarray(0, 0);
  const bytes = fixedSense(sense);
  const length = Buffer.from([bytes.length >> 8, bytes.length & 0xff]);
  return Buffer.concat([length, bytes]);
}
