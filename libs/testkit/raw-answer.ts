import type { ResponsePdu } from '../iscsi/pdu/index.ts';
import type { Opcode } from '../iscsi/pdu/opcodes.ts';

/** What the raw initiator makes of the answers that it gets. */

export type ResponseOf<O extends Opcode> = Extract<ResponsePdu, { opcode: O }>;

export interface Received<P = ResponsePdu> {
  readonly pdu: P;
  readonly data: Buffer;
  readonly ahs: Buffer;
  /** False: it came with a wrong data digest. */
  readonly isIntact: boolean;
}

/** How a command ended, for a test to compare. */
export function outcomeOf(pdu: {
  status: number;
  residual: number;
  overflow: boolean;
  underflow: boolean;
}): {
  status: number;
  residual: number;
  flags: string;
} {
  const flags = `${pdu.overflow ? 'O' : ''}${pdu.underflow ? 'U' : ''}`;
  return { status: pdu.status, residual: pdu.residual, flags };
}

/** "05/24/00" out of the data segment of a response with fixed sense data. */
export function senseText(data: Buffer): string {
  if (data.length < 16) return '';
  return `${hex(data[4]! & 15)}/${hex(data[14]!)}/${hex(data[15]!)}`;
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}
