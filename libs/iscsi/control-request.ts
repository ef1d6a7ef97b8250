import type { OrionError } from '../core/errors.ts';
import type { Opcode } from './pdu/opcodes.ts';
import type { Task, TaskOwner } from './task-table.ts';

export interface ControlAnswer {
  readonly header: Buffer;
  readonly data: Buffer;
}

/**
 * The owner of a task that is no SCSI command: a ping, a task management function, a text request, a logout. Its answer
 * is one PDU of the opcode that it waits for, or several where `goesOn` says so.
 */
export class ControlRequest implements TaskOwner {
  readonly answer: Opcode;
  /** Sends it under the tag, the first time and whenever the target could not take it. */
  readonly send: (itt: number) => void;
  readonly promise: Promise<ControlAnswer>;
  /** Looks at an answer; true when it has asked for more under the same tag. Both are valid during the call only. */
  readonly goesOn: (header: Buffer, data: Buffer) => boolean;
  /** How often it was sent again because the target had no room for it. */
  resends = 0;
  #resolve!: (answer: ControlAnswer) => void;
  #reject!: (error: OrionError) => void;

  constructor(
    answer: Opcode,
    send: (itt: number) => void,
    goesOn: (header: Buffer, data: Buffer) => boolean = () => false,
  ) {
    this.answer = answer;
    this.send = send;
    this.goesOn = goesOn;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** The answer came; header and data are copied, since they live in a receive buffer. */
  answered(header: Buffer, data: Buffer): void {
    this.#resolve({ header: Buffer.from(header), data: Buffer.from(data) });
  }

  taskDone(): void {
    // A control request is answered by `answered`.
  }

  taskLost(_task: Task, error: OrionError): void {
    this.#reject(error);
  }
}
