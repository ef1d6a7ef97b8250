import type { OrionError } from '../core/errors.ts';
import type { Opcode } from './pdu/opcodes.ts';
import type { Task, TaskOwner } from './task-table.ts';

/**
 * The owner of a task that is no SCSI command: a ping, a task management function, a text request, a logout. Its answer
 * is one PDU of the opcode that it waits for.
 */
export class ControlRequest implements TaskOwner {
  readonly answer: Opcode;
  readonly promise: Promise<{ readonly header: Buffer; readonly data: Buffer }>;
  #resolve!: (answer: { readonly header: Buffer; readonly data: Buffer }) => void;
  #reject!: (error: OrionError) => void;

  constructor(answer: Opcode) {
    this.answer = answer;
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
